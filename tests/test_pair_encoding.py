"""Rows of two texts: each text has the ids that the encoder inside gives it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.encoding import PairEncoder, RowError, SequenceEncoder, SubwordEncoder, WordEncoder, load_encoder
from understudy.errors import ArtefactError, DataError, UsageError

from .test_encoding import ANYTHING, WORDS, tokenizer

INNER: dict[str, Any] = {
    "words": WordEncoder(WORDS, buckets=50, pairs=True, characters=3),
    "words alone": WordEncoder(WORDS),
    "sequence": SequenceEncoder(WordEncoder(WORDS, buckets=50), limit=5),
}
ROWS = st.lists(st.tuples(ANYTHING, ANYTHING), max_size=5)


def columns(rows: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {"sentence1": [one for one, _ in rows], "sentence2": [two for _, two in rows]}


@pytest.mark.parametrize("name", list(INNER))
def test_each_text_has_the_ids_that_the_inner_encoder_gives_it(name: str, tmp_path: Path) -> None:
    inner = INNER[name]
    encoder = PairEncoder(inner)
    again = load_encoder(tmp_path, encoder.save(tmp_path))
    assert again.fingerprint == encoder.fingerprint
    assert again.size == encoder.size == inner.size

    @settings(max_examples=60, deadline=None)
    @given(ROWS, st.randoms())
    def same(rows: list[tuple[str, str]], draw: Any) -> None:
        features = encoder.encode(columns(rows))
        loaded = again.encode(columns(rows))
        np.testing.assert_array_equal(features.texts.values, loaded.texts.values)
        assert len(features) == len(rows)
        sides = [inner.encode({"text": column}) for column in columns(rows).values()]
        for row in range(len(rows)):
            for side in (0, 1):
                np.testing.assert_array_equal(features.texts[2 * row + side], sides[side][row])
        np.testing.assert_array_equal(encoder.lengths(features), sides[0].lengths + sides[1].lengths)
        order = draw.sample(range(len(rows)), len(rows))
        inputs = encoder.collate(features, order)
        for place, row in enumerate(order):
            for side in (0, 1):
                assert _ids(inputs, place, side) == sides[side][row].tolist()

    same()


def _ids(inputs: dict[str, np.ndarray], row: int, side: int) -> list[int]:
    """The ids of one text of one row of a batch, without padding."""
    if "offsets" in inputs:
        return inputs["ids"][slice(*inputs["offsets"][2 * row + side :][:2])].tolist()
    return inputs["input_ids"][row, side][inputs["attention_mask"][row, side] > 0].tolist()


def test_shapes_of_a_batch() -> None:
    rows = columns([("my card", "where is my card ?"), ("", "my")])
    words = PairEncoder(INNER["words alone"])
    inputs = words.collate(words.encode(rows), [1, 0])
    assert inputs["offsets"].tolist() == [0, 1, 2, 4, 9]
    assert inputs["ids"].dtype == inputs["offsets"].dtype == np.int64
    sequence = PairEncoder(INNER["sequence"])
    inputs = sequence.collate(sequence.encode(rows), [1, 0])
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (2, 2, 5)
    assert inputs["input_ids"][0].tolist() == [[1, 0, 0, 0, 0], [2, 0, 0, 0, 0]]
    assert {array.dtype for array in inputs.values()} == {np.dtype(np.int64)}
    nothing = sequence.collate(sequence.encode(columns([])), [])
    assert nothing["input_ids"].shape == (0, 2, 1)


def test_a_row_is_cut_where_either_text_is() -> None:
    long = "my " * 6
    encoder = PairEncoder(INNER["sequence"])
    found = encoder.encode(columns([("my", "my"), (long, "my"), ("my", long), (long, long)]))
    assert found.cut is not None
    assert found.cut.tolist() == [False, True, True, True]
    assert PairEncoder(INNER["words"]).encode(columns([("my", long)])).cut is None


def test_fingerprints_differ_with_the_columns_and_what_is_inside() -> None:
    made = [*INNER.values(), *map(PairEncoder, INNER.values()), PairEncoder(INNER["words"], fields=("a", "b"))]
    made.append(PairEncoder(INNER["words"], fields=("b", "a")))
    assert len({encoder.fingerprint for encoder in made}) == len(made)


@pytest.mark.parametrize("name", list(INNER))
def test_the_first_bad_row_and_its_column_are_named(name: str) -> None:
    encoder = PairEncoder(INNER[name], fields=("question", "answer"))
    with pytest.raises(RowError, match='row 2, column "answer": wanted a text, got nothing') as caught:
        encoder.encode({"question": ["fine", "fine", None], "answer": ["fine", None, "fine"]})
    assert caught.value.row == 1
    with pytest.raises(DataError, match='no column "answer"; there are: question'):
        encoder.encode({"question": ["fine"]})
    with pytest.raises(DataError, match="different lengths"):
        encoder.encode({"question": ["fine"], "answer": []})


def test_settings_that_cannot_be() -> None:
    for fields in (("a",), ("a", "a"), ("a", "b", "c")):
        with pytest.raises(UsageError, match="two columns"):
            PairEncoder(INNER["words"], fields=fields)
    with pytest.raises(UsageError, match="one column"):
        PairEncoder(WordEncoder(WORDS, fields=("a", "b")))
    with pytest.raises(UsageError, match="one column"):
        PairEncoder(PairEncoder(INNER["words"]))  # type: ignore[arg-type]


def test_entries_that_cannot_be_loaded(tmp_path: Path) -> None:
    entry = PairEncoder(INNER["sequence"]).save(tmp_path)
    assert entry["file"] == "words.z", "the manifest must have its hash"
    with pytest.raises(ArtefactError, match=r"the pair encoder .* has no 'inner'"):
        load_encoder(tmp_path, {key: value for key, value in entry.items() if key != "inner"})
    with pytest.raises(ArtefactError, match='a pair of "pixels"'):
        load_encoder(tmp_path, {**entry, "inner": {**entry["inner"], "kind": "pixels"}})
    assert SubwordEncoder(tokenizer(), limit=9, fields=("a", "b")).kind != entry["kind"], "sub-words join both texts"
