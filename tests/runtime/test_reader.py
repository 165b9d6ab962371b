"""Asking an artefact questions: texts of any length, from objects and from JSON lines, without torch."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from understudy import export, runtime, students
from understudy.encoding import PassageEncoder, RowError
from understudy.errors import UsageError
from understudy.passages import NEVER, best_spans, word_places
from understudy.teachers import open_teacher, score_rows

ROWS = [
    {"question": "what now?", "context": "please tell me about the refund, now. " * 5},
    {"question": "when?", "context": "my flight is today"},
    {"question": "is it snow?", "context": "The storm, the rain -- and snow!", "id": 7},
]
INPUTS = {name: [row[name] for row in ROWS] for name in ("question", "context")}


@pytest.fixture(scope="module", params=[False, True], ids=["always an answer", "perhaps none"])
def made(
    request: Any, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, PassageEncoder, Path]:
    """A model with a fresh head, exported as it is; long texts are read in windows."""
    teacher = open_teacher(tiny_encoder, task="question-answering", label_names=("start", "end"), head="auto")
    assert teacher.fresh_head
    encoder = PassageEncoder(
        teacher.tokenizer.backend_tokenizer, limit=20, token_types=True, unanswerable=request.param
    )
    folder = tmp_path_factory.mktemp("reader")
    inputs = encoder.collate(encoder.encode(INPUTS), range(3))
    assert len(inputs["input_ids"]) > 3
    graph = folder / "exact.onnx"
    export.to_onnx(teacher.model, {name: torch.from_numpy(value) for name, value in inputs.items()}, graph)
    export.write_artefact(
        folder / "artefact", task="question-answering", labels=("start", "end"), encoder=encoder, model=graph,
        answer="span", temperature=2.0,
    )  # fmt: skip
    return teacher.model, encoder, folder / "artefact"


def test_the_artefact_is_the_module(made: Any) -> None:
    model, encoder, folder = made
    wanted = score_rows(model, encoder, INPUTS)
    assert wanted.lengths.tolist() == [1 + len(word_places(text)) for text in INPUTS["context"]]
    predictor = runtime.load(folder)
    said = predictor.logits(ROWS)
    np.testing.assert_allclose(said.values, wanted.values, atol=1e-4)
    for batch in (1, 2):
        np.testing.assert_allclose(predictor.logits(ROWS, batch=batch).values, wanted.values, atol=1e-4)
    spans = best_spans(wanted)
    shares = predictor.predict_proba(ROWS)
    for i, (row, one) in enumerate(zip(ROWS, predictor.predict(ROWS), strict=True)):
        assert one.items() >= row.items()
        first, last = spans[i].tolist()
        assert first or encoder.unanswerable
        if first:
            assert one["answer"] == row["context"][one["start"] : one["end"]] != ""
            places = word_places(row["context"])
            assert (one["start"], one["end"]) == (places[first - 1, 0], places[last - 1, 1])
        else:
            assert (one["answer"], one["start"], one["end"]) == ("", None, None)
        assert one["probability"] == pytest.approx(shares[i][first, 0] * shares[i][last, 1])
    np.testing.assert_allclose(shares[1].sum(0), 1.0)


def test_there_is_no_answer_where_no_window_has_one(made: Any) -> None:
    """The logits of "no answer" are the lowest over the windows of a text, each asked for by itself."""
    model, encoder, _ = made
    features = encoder.encode(INPUTS)
    inputs = encoder.collate(features, range(3))
    counts = np.diff(features.windows)
    assert counts.tolist() == np.bincount(encoder.owners(features, range(3))).tolist()
    assert counts.max() > 2
    alone = model(**{name: torch.from_numpy(array) for name, array in inputs.items() if name != "owners"})
    first = alone.detach().numpy()[:, 0]
    lowest = np.stack([first[a:b].min(0) for a, b in zip(features.windows, features.windows[1:], strict=False)])
    assert not np.allclose(lowest, first[features.windows[:-1]])  # the first window alone says something else
    said = score_rows(model, encoder, INPUTS)
    wanted = lowest if encoder.unanswerable else np.full_like(lowest, NEVER)
    np.testing.assert_allclose(said.values[said.offsets[:-1]], wanted, rtol=1e-5, atol=1e-6)


def test_rows_that_cannot_be_read_are_said(made: Any) -> None:
    predictor = runtime.load(made[2])
    with pytest.raises(RowError, match='row 2, column "context": there is no such column'):
        predictor.predict([ROWS[1], {"question": "when?"}])
    with pytest.raises(RowError, match="no word"):
        predictor.predict_one({"question": "when?", "context": "  "})
    with pytest.raises(RowError, match="wanted an object with question and context"):
        predictor.predict(["when?"])
    with pytest.raises(UsageError, match="not one label"):
        predictor.labels_of([ROWS[1]])
    assert predictor.predict([]) == []


def test_json_lines_in_json_lines_out(made: Any) -> None:
    out = io.StringIO()
    runtime.stream(made[2], io.StringIO("".join(json.dumps(row) + "\n" for row in ROWS)), out)
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["answer"] for one in said] == [one["answer"] for one in runtime.load(made[2]).predict(ROWS)]
    assert said[2]["id"] == 7


def test_a_reader_is_saved_and_loaded(made: Any, tmp_path: Path) -> None:
    model, encoder, _ = made
    students.save(model, tmp_path / "saved")
    again = students.load(tmp_path / "saved")
    assert type(again) is students.Reader
    np.testing.assert_array_equal(score_rows(again, encoder, INPUTS).values, score_rows(model, encoder, INPUTS).values)
