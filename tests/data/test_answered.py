"""Reading questions, texts and answers; what is wrong with a row is one line that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline import answering_data

from understudy.data import load
from understudy.data.feed import Feed
from understudy.encoding import PassageEncoder
from understudy.errors import DataError, LabelError
from understudy.ragged import NOWHERE
from understudy.tasks import LAYOUTS

ROW = {"question": "who?", "context": "Ann Lee built it.", "answers": {"text": ["Ann Lee"], "answer_start": [0]}}


def written(folder: Path, **changes: Any) -> Path:
    answering_data.write(folder)
    with (folder / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**ROW, **changes}) + "\n")
    return folder


def test_the_task_is_seen_from_the_columns(tmp_path: Path) -> None:
    found, splits = load(answering_data.write(tmp_path / "data", unlabelled=7, bare=0.3), layouts=LAYOUTS)
    assert found == "question-answering"
    assert splits.fields == ("question", "context")
    assert splits.label_names == ("start", "end")
    assert splits.unlabelled is not None
    assert not splits.unlabelled.known.any()
    bare = sum(not one.spans for one in splits.train.labels)
    assert f"{bare:,} of 320 train questions have no answer in their text" in splits.notes
    gold = next(one for one in splits.train.labels if one.spans)
    assert gold.said(*gold.target) == gold.texts[0]
    assert splits.train.fingerprint != splits.train.take([1, 0, *range(2, 320)]).fingerprint


def test_answers_as_a_list_of_objects_and_columns_of_other_names(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    draw = [
        {"q": f"who {i}?", "passage": f"Ann {i} built it.", "answers": [{"text": f"Ann {i}", "answer_start": 0}]}
        for i in range(40)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in draw), encoding="utf-8")
    found, splits = load(folder, text="q,passage", layouts=LAYOUTS)
    assert found == "question-answering"
    assert all(one.target == (1, 2) for one in splits.train.labels)


@pytest.mark.parametrize(
    ("changes", "told", "kind"),
    [
        (
            {"answers": {"text": ["Lee"], "answer_start": [5]}},
            "at letter 5 of its context but at 4",
            DataError,
        ),
        ({"answers": {"text": ["Bob"], "answer_start": [0]}}, "nowhere in its context", DataError),
        ({"answers": {"text": [" "], "answer_start": [3]}}, "has no word in it", DataError),
        ({"answers": {"text": ["Ann"], "answer_start": []}}, "1 texts and 0 places", LabelError),
        ({"context": " "}, 'text in column "context" is empty', DataError),
        ({"question": ""}, 'text in column "question" is empty', DataError),
    ],
)
def test_a_row_that_cannot_be_used_is_named(changes: Any, told: str, kind: type, tmp_path: Path) -> None:
    folder = written(tmp_path / "data", **changes)
    with pytest.raises(kind, match=told) as raised:
        load(folder, layouts=LAYOUTS)
    assert "test.jsonl, row 121" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_answers_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = answering_data.write(tmp_path / "data")
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    lines = [json.dumps({**row, "answers": row["answers"]["text"][0]}) for row in rows]
    (folder / "test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(LabelError, match="answer_start"):
        load(folder, layouts=LAYOUTS)


def test_a_batch_has_windows_of_every_model_and_one_label_a_row(tiny_tokenizer: Any, tmp_path: Path) -> None:
    _, splits = load(answering_data.write(tmp_path / "data", unlabelled=5), layouts=LAYOUTS)
    rows = splits.train.take(range(12)).join([splits.train.take(range(12)), splits.unlabelled.take([0, 1])])
    encoders = {
        name: PassageEncoder(tiny_tokenizer.backend_tokenizer, limit=limit, token_types=True)
        for name, limit in (("student", 14), ("teacher", 64))
    }
    feed = Feed(rows, encoders)
    batch = feed.batch(np.arange(14), fillers=1)
    assert len(batch) == 14
    assert batch.labels.shape == (14, 2)
    assert batch.labels[-1].tolist() == [-1, -1]
    assert batch.masks["ends"].tolist() == [[1.0, 1.0]] * 13 + [[0.0, 0.0]]
    assert batch.masks["labelled"].sum() == 24
    windows, whole = (batch.inputs[name]["input_ids"] for name in ("student", "teacher"))
    assert len(windows) > len(whole) == 14
    assert batch.masks["tokens"].shape == windows.shape
    both = [batch.places[name] for name in ("student", "teacher")]
    assert both[0].shape == both[1].shape
    assert ((both[0] == NOWHERE) == (both[1] == NOWHERE)).all()
    for place, ids in zip(both, (windows, whole), strict=True):  # both models read the same word
        chosen = ids.flatten()[place.clamp(min=0)]
        assert (chosen == whole.flatten()[both[1].clamp(min=0)])[both[0] != NOWHERE].all()
