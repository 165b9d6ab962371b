"""Lookup students of two texts: every way to ask says what the formula says, and bad rows say what is wrong."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy import runtime
from understudy.encoding import PairEncoder, SequenceEncoder, WordEncoder, words
from understudy.errors import ArtefactError, DataError
from understudy.export.artefact import write_artefact
from understudy.runtime import StaticModel, lookup

from .test_lookup import ENCODERS, LABELS, TEXTS, WORDS, tensors

MODELS = ("hidden layer", "one matrix")
FIELDS = ("sentence1", "sentence2")
ROWS = st.lists(st.tuples(TEXTS, TEXTS).map(lambda pair: dict(zip(FIELDS, pair, strict=True))), min_size=1, max_size=7)
ROW = {"sentence1": "where is my card", "sentence2": "my zebra ?"}


def of_pairs(size: int, model: str) -> dict[str, np.ndarray]:
    """Tensors whose first layer behind the table reads two texts."""
    found = tensors(size, model)
    first = "hidden.weight" if model == "hidden layer" else "output.weight"
    draw = np.random.default_rng(2)
    outputs, inputs = found[first].shape
    return {
        **found,
        first: draw.normal(size=(outputs, 4 * inputs)).astype(np.float32),
        "texts": np.array([2], np.uint8),
    }


def written(folder: Path, name: str = "everything", model: str = "hidden layer") -> dict[str, np.ndarray]:
    encoder = PairEncoder(WordEncoder(**ENCODERS[name]))
    made = of_pairs(encoder.size, model)
    write_artefact(folder, task="pair-classification", labels=LABELS, encoder=encoder, model=made, temperature=1.5)
    return made


def on_paper(made: dict[str, np.ndarray], inner: WordEncoder, rows: list[dict[str, str]]) -> np.ndarray:
    """The formula in fp64, text by text."""
    table = made["table"].astype(np.float64) * made["scale"].astype(np.float64)[:, None]
    weights = np.exp(made["weights.range"][0] + made["weights.range"][1] * made["weights"].astype(np.float64))
    found = []
    for row in rows:
        sides = []
        for field in FIELDS:
            ids = inner.encode({"text": [row[field]]})[0]
            mean = weights[ids] @ table[ids] / weights[ids].sum()
            sides.append(np.concatenate([mean, table[ids].max(0)]) if "hidden.weight" in made else mean)
        u, v = sides
        x = np.concatenate([u, v, np.abs(u - v), u * v])
        if "hidden.weight" in made:
            x = np.maximum(made["hidden.weight"] @ x + made["hidden.bias"], 0)
        found.append(made["output.weight"] @ x + made["output.bias"])
    return np.stack(found)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["words", "everything", "nothing at all"])
def test_every_way_to_ask_says_what_the_formula_says(tmp_path: Path, name: str, model: str) -> None:
    made = written(tmp_path / "artefact", name, model)
    inner = WordEncoder(**ENCODERS[name])
    loaded, exact, both = runtime.load(tmp_path / "artefact"), StaticModel(made), PairEncoder(inner)

    @settings(max_examples=25, deadline=None)
    @given(ROWS, st.sampled_from([1, 2, 3, 4096]), st.sampled_from([0, 8]), st.sampled_from([1, 9, 1 << 21]))
    def same(rows: list[dict[str, str]], chunk: int, few: int, letters: int) -> None:
        wanted = on_paper(made, inner, rows)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(words, "_CHUNK", chunk)
            patch.setattr(words, "_LETTERS", letters)
            patch.setattr(lookup, "_FEW", few)
            got = loaded.logits(rows)
        columns = {field: [row[field] for row in rows] for field in FIELDS}
        for said in (got, exact.logits(both.encode(columns))):
            np.testing.assert_allclose(said, wanted, rtol=1e-4, atol=1e-4)
        for row, alone in zip(wanted, rows, strict=True):
            np.testing.assert_allclose(loaded.logits([alone])[0], row, rtol=1e-4, atol=1e-4)
            answer = loaded.predict_one(alone)
            assert {field: answer[field] for field in FIELDS} == alone
            assert row[LABELS.index(answer["label"])] > row.max() - 1e-3
            assert row[LABELS.index(loaded.label(alone))] > row.max() - 1e-3

    same()


def test_words_are_remembered_for_both_sides_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = written(tmp_path / "artefact")
    rows = [{"sentence1": f"w{i} card", "sentence2": f"w{i * 7} w{i} ?"} for i in range(60)]
    wanted = on_paper(made, WordEncoder(**ENCODERS["everything"]), rows)
    monkeypatch.setattr(words, "_MEMO", 10)
    monkeypatch.setattr(words, "_CHUNK", 4)
    loaded = runtime.load(tmp_path / "artefact")
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: [loaded.logits(rows), loaded.logits(rows[::-1])[::-1]], range(6)):
            np.testing.assert_allclose(got, [wanted, wanted], rtol=1e-4, atol=1e-4)
    assert [loaded.label(row) for row in rows] == [LABELS[best] for best in wanted.argmax(axis=1)]


@pytest.mark.parametrize("text", ["", " \n", "😀", "\0", "\ud800", "x" * 1_000_000, "where is my card ? " * 55_000])
def test_odd_texts_are_answered_on_either_side(tmp_path: Path, text: str) -> None:
    made = written(tmp_path / "artefact")
    loaded = runtime.load(tmp_path / "artefact")
    rows = [{**ROW, field: text} for field in FIELDS] + [dict.fromkeys(FIELDS, text)]
    wanted = on_paper(made, WordEncoder(**ENCODERS["everything"]), rows)
    np.testing.assert_allclose(loaded.logits(rows), wanted, rtol=1e-3, atol=1e-3)
    for row, exact in zip(rows, wanted, strict=True):
        answer = loaded.predict_one(row)
        assert exact[LABELS.index(answer["label"])] > exact.max() - 1e-3
        assert "truncated" not in answer, "nothing is cut: a bag has no limit"
    assert loaded.predict([]) == []


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"sentence1": "x"}, 'row 3, column "sentence2": there is no such column; the row has: sentence1'),
        ({"sentence2": "x", "id": 7}, 'row 3, column "sentence1": there is no such column; the row has: sentence2, id'),
        ({**ROW, "sentence2": None}, r'row 3, column "sentence2": wanted a text, got nothing \(null or NaN\)'),
        ({**ROW, "sentence1": 5}, 'row 3, column "sentence1": wanted a text, got a int'),
        ("one text", 'row 3, column "sentence1": wanted an object with sentence1 and sentence2, got a str'),
        (["a", "b"], 'row 3, column "sentence1": wanted an object with sentence1 and sentence2, got a list'),
    ],
)
def test_bad_rows_are_one_line_that_names_the_column(tmp_path: Path, row: Any, says: str) -> None:
    written(tmp_path / "artefact")
    loaded = runtime.load(tmp_path / "artefact")
    for rows in ([ROW, ROW, row], [ROW, ROW, row, *[ROW] * 20]):
        with pytest.raises(DataError, match=says) as caught:
            loaded.predict(rows)
        assert "\n" not in str(caught.value)


def test_lines_before_a_bad_one_are_answered(tmp_path: Path) -> None:
    written(tmp_path / "artefact")
    rows = [ROW, {**ROW, "sentence2": None}, {**ROW, "sentence1": None}]
    out = io.StringIO()
    with pytest.raises(DataError, match='line 2, column "sentence2"'):
        runtime.stream(tmp_path / "artefact", map(json.dumps, rows), out)
    assert len(out.getvalue().splitlines()) == 1


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    plain = WordEncoder(WORDS)
    size = plain.size

    def write(encoder: Any, model: dict[str, np.ndarray]) -> Path:
        write_artefact(tmp_path / "a", task="t", labels=LABELS, encoder=encoder, model=model)
        return tmp_path / "a"

    for encoder, model in ((plain, of_pairs(size, "one matrix")), (PairEncoder(plain), tensors(size, "one matrix"))):
        with pytest.raises(ArtefactError, match="do not agree on how many texts a row has"):
            runtime.load(write(encoder, model))
    with pytest.raises(ArtefactError, match="looked up for words, not for sequence"):
        runtime.load(write(PairEncoder(SequenceEncoder(plain, limit=3)), of_pairs(size, "one matrix")))
    with pytest.raises(ArtefactError, match="7 vectors for 8 ids"):
        runtime.load(write(PairEncoder(WordEncoder([*WORDS, "more"])), of_pairs(size, "one matrix")))


def test_tensors_that_are_of_no_pair() -> None:
    for model, first in (("hidden layer", "hidden.weight"), ("one matrix", "output.weight")):
        made = of_pairs(7, model)
        with pytest.raises(ArtefactError, match=first):
            StaticModel({**made, first: made[first][:, :-1]})
        with pytest.raises(ArtefactError, match=f"{first}|table"):
            StaticModel({name: array for name, array in made.items() if name != "texts"})
        with pytest.raises(ArtefactError, match=r"texts holds \[3\]"):
            StaticModel({**made, "texts": np.array([3], np.uint8)})
    with pytest.raises(ArtefactError, match=r"output\.weight"):
        StaticModel({**tensors(7, "folded"), "texts": np.array([2], np.uint8)})
