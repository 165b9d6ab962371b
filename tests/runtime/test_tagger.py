"""Asking an artefact for tags: from words, from texts, from JSON lines, without torch."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from understudy import export, runtime, students
from understudy.encoding import AffixEncoder, RowError
from understudy.errors import ArtefactError, DataError, UsageError
from understudy.ragged import Ragged
from understudy.runtime.tagger import split_words
from understudy.tags import named
from understudy.teachers import score_rows

TAGS = named(["city", "day"])
SENTENCES = [["fly", "to", "New", "York"], ["Bern", "on", "Monday", "or", "Tuesday", "by", "train"], ["hello"]]


@pytest.fixture(scope="module", params=["conv", "gru"])
def made(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, AffixEncoder, Path]:
    """A network of random weights, exported in INT8."""
    encoder = AffixEncoder.fit(SENTENCES, most=50, buckets=32, limit=6)
    torch.manual_seed(1)
    kind = {"conv": students.TagConv, "gru": students.TagGru}[request.param]
    model = kind(encoder.size, len(TAGS), dimensions=8, width=16, hidden=16).eval()
    folder = tmp_path_factory.mktemp("tagger")
    inputs = encoder.collate(encoder.encode({"tokens": SENTENCES}), range(3))
    exact, small = folder / "exact.onnx", folder / "small.onnx"
    export.to_onnx(model, {name: torch.from_numpy(value) for name, value in inputs.items()}, exact)
    export.quantise_dynamic(exact, small, table_rows=20)
    for name, graph in (("exact", exact), ("small", small)):
        export.write_artefact(
            folder / name, task="token-classification", labels=TAGS, encoder=encoder, model=graph, answer="tags",
            temperature=2.0,
        )  # fmt: skip
    return model, encoder, folder


def test_the_artefact_is_the_module(made: Any) -> None:
    model, encoder, folder = made
    rows = [{"tokens": words} for words in SENTENCES]
    wanted = score_rows(model, encoder, {"tokens": SENTENCES})
    said = runtime.load(folder / "exact").logits(rows)
    assert isinstance(said, Ragged)
    assert said.lengths.tolist() == [4, 6, 1]
    np.testing.assert_allclose(said.values, wanted.values, atol=1e-5)
    near = runtime.load(folder / "small").logits(rows)
    np.testing.assert_allclose(near.values, wanted.values, atol=0.2)
    shares = runtime.load(folder / "exact").predict_proba(rows)
    np.testing.assert_allclose(shares.values.sum(1), 1.0)
    scaled = np.exp(wanted.values / 2)
    np.testing.assert_allclose(shares.values, scaled / scaled.sum(1, keepdims=True), atol=1e-5)


def test_every_word_has_a_tag_and_spans_say_where_they_are(made: Any) -> None:
    predictor = runtime.load(made[2] / "exact")
    texts = [{"text": "fly to New York", "id": 7}, "fly to New York", ["fly", "to", "New", "York"]]
    given = predictor.predict([{"tokens": SENTENCES[0]}, *texts])
    assert given[1]["id"] == 7
    for answer in given:
        assert answer["tokens"] == SENTENCES[0]
        assert answer["tags"] == given[0]["tags"]
        assert len(answer["tags"]) == 4
        assert "truncated" not in answer
        for span in answer["spans"]:
            assert span["text"] == " ".join(SENTENCES[0][span["start"] : span["end"]])
            assert span["label"] in ("city", "day")
            if "text" in answer:
                assert answer["text"][span["begin"] : span["stop"]] == span["text"]
    assert predictor.predict_one("fly to New York") == given[2]
    assert predictor.predict([]) == []


def test_what_there_was_no_room_for_is_o(made: Any) -> None:
    answer = runtime.load(made[2] / "exact").predict_one({"tokens": SENTENCES[1]})
    assert answer["truncated"] is True
    assert len(answer["tags"]) == 7
    assert answer["tags"][6] == "O"


def test_spans_of_a_known_model(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = runtime.load(made[2] / "exact")
    numbers = np.array([TAGS.index(tag) for tag in ("B-city", "I-city", "O", "I-day")])
    logits = Ragged.of([np.eye(len(TAGS), dtype=np.float32)[numbers]])
    monkeypatch.setattr(predictor, "_said", lambda rows, batch: (logits, np.zeros(1, bool)))
    assert predictor.predict(["New  York, Monday"])[0] == {
        "text": "New  York, Monday",
        "tokens": ["New", "York", ",", "Monday"],
        "tags": ["B-city", "I-city", "O", "I-day"],
        "spans": [
            {"start": 0, "end": 2, "label": "city", "text": "New  York", "begin": 0, "stop": 9},
            {"start": 3, "end": 4, "label": "day", "text": "Monday", "begin": 11, "stop": 17},
        ],
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("card?", ["card", "?"]),
        ("don't  e-mail", ["don't", "e-mail"]),
        ("(3.5 kg)", ["(", "3.5", "kg", ")"]),
        ("a\tb\nc", ["a", "b", "c"]),
        ("grüße 东京", ["grüße", "东京"]),
    ],
)
def test_texts_are_split_simply(text: str, words: list[str]) -> None:
    found = split_words(text)
    assert found.words == words
    assert [text[a:b] for a, b in found.places] == words


def test_json_lines(made: Any) -> None:
    lines = [
        '{"tokens": ["fly", "to", "Bern"]}\n',
        '"fly to Bern"\n',
        '["fly", "to", "Bern"]\n',
        '{"text": "fly to Bern"}\n',
    ]
    out = io.StringIO()
    assert runtime.stream(made[2] / "small", lines, out) == 4
    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len({tuple(answer["tags"]) for answer in answers}) == 1
    with pytest.raises(DataError, match='line 2, column "tokens": word 1 is a int'):
        runtime.stream(made[2] / "small", [lines[0], '{"tokens": [1]}'], io.StringIO())


@pytest.mark.parametrize(
    ("row", "said"),
    [({"words": []}, "nor a text; the row has: words"), ({"text": "  "}, "no word"), (5, "wanted a list of words")],
)
def test_rows_that_cannot_be_tagged(row: Any, said: str, made: Any) -> None:
    with pytest.raises(RowError, match=said):
        runtime.load(made[2] / "exact").predict([{"tokens": ["a"]}, row])


def test_what_is_for_labels_is_refused(made: Any) -> None:
    predictor = runtime.load(made[2] / "exact")
    with pytest.raises(UsageError, match="answer is tags"):
        predictor.labels_of([{"tokens": ["a"]}])
    broken = Ragged.of([np.full((1, len(TAGS)), np.nan, np.float32)])
    with pytest.raises(ArtefactError, match="row 1 with a logit"):
        predictor._voice.said(broken)
    assert runtime.same_answers([{"tags": ["O"]}], [{"tags": ["O"]}]) == 1.0
