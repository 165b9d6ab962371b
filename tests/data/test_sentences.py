"""Texts to learn from and pairs to measure on, from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from understudy.data import Splits, load
from understudy.errors import DataError, LabelError
from understudy.tasks import LAYOUTS

PAIRS = {"sentence1": ["a b", "c d", "e f"], "sentence2": ["g", "a b", "h"], "score": [1.0, 2.5, 4.0]}


def read(folder: Path, **splits: dict[str, list[Any]]) -> Splits:
    for name, columns in splits.items():
        pd.DataFrame(columns).to_parquet(folder / f"{name}.parquet")
    name, found = load(folder, task="sentence-embedding", layouts=LAYOUTS)
    assert name == "sentence-embedding"
    return found


def test_rows_are_texts_and_those_of_pairs_come_two_by_two(tmp_path: Path) -> None:
    found = read(tmp_path, train={"text": ["x", "y", "x"], "source": [1, 2, 3]}, validation=PAIRS, test=PAIRS)
    assert found.couples
    assert found.fields == ("text",)
    assert found.train.inputs["text"] == ["x", "y"]  # each once
    assert not found.train.known.any()
    assert found.test.inputs["text"] == ["a b", "g", "c d", "a b", "e f", "h"]
    np.testing.assert_allclose(found.test.labels, np.array([1, 1, 2.5, 2.5, 4, 4])[:, None])


def test_training_pairs_are_their_texts_and_unlabelled_rows_join_them(tmp_path: Path) -> None:
    found = read(tmp_path, train=PAIRS, validation=PAIRS, test=PAIRS, unlabelled={"text": ["new", "h"]})
    assert found.train.inputs["text"] == ["a b", "g", "c d", "e f", "h", "new"]
    assert found.unlabelled is None


def test_splits_that_are_not_there_are_pairs_of_train_where_it_has_scores(tmp_path: Path) -> None:
    rows = [f"text {i}" for i in range(40)]
    scores = [i / 3 for i in range(40)]
    other = [f"other {i}" for i in range(40)]
    found = read(tmp_path, train={"sentence1": rows, "sentence2": other, "score": scores})
    assert len(found.validation) == len(found.test) == 8
    assert len(found.train) == 64
    assert not set(found.train.keys) & set(found.test.keys)
    first = found.test.inputs["text"][0]
    assert found.test.labels[0, 0] == pytest.approx(scores[rows.index(first)])


def test_texts_alone_are_paired_at_random_and_wait_for_a_score(tmp_path: Path) -> None:
    found = read(tmp_path, train={"text": [f"text {i}" for i in range(100)]})
    assert len(found.validation) == len(found.test) == 20  # ten texts, each with the next
    assert not found.test.known.any()
    texts = found.test.inputs["text"]
    assert all(a != b for a, b in zip(texts[0::2], texts[1::2], strict=True))
    assert any("drawn at random" in note for note in found.notes)
    (tmp_path / "again").mkdir()
    shuffled = read(tmp_path / "again", train={"text": [f"text {i}" for i in range(99, -1, -1)]})
    assert shuffled.test.inputs == found.test.inputs


def test_pairs_without_any_score_and_scores_that_are_none_are_one_line(tmp_path: Path) -> None:
    bare = {key: value for key, value in PAIRS.items() if key != "score"}
    with pytest.raises(DataError, match=r"test\.parquet: test has pairs of texts and no score of any"):
        read(tmp_path, train={"text": ["x"]}, validation=PAIRS, test=bare)
    with pytest.raises(LabelError, match=r"row 2: column \"score\" holds str 'much', wanted a number"):
        read(tmp_path, train={"text": ["x"]}, validation=PAIRS, test={**PAIRS, "score": ["1", "much", "2"]})
    found = read(tmp_path, train={"text": ["x"]}, validation=PAIRS, test={**PAIRS, "score": [1.0, None, 2.0]})
    assert len(found.test) == 4
    assert any("1 of 3 pairs of test.parquet have no score: dropped" in note for note in found.notes)


def test_empty_texts_and_too_few_of_them_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'train\.parquet, row 2: the text in column "text" is empty'):
        read(tmp_path, train={"text": ["x", " "]}, validation=PAIRS, test=PAIRS)
    with pytest.raises(DataError, match="pairs are drawn from three at least"):
        read(tmp_path, train={"text": ["x", "y", "z"]}, validation=PAIRS, test={"text": ["q"]})
