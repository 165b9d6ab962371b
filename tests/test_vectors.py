"""Metrics of vectors, against scipy and against what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from understudy.answers import VECTOR
from understudy.errors import DataError
from understudy.evaluation import Scored
from understudy.statistics import METRICS, difference, different, interval, neighbours, pair_cosines, ratio

DRAW = np.random.default_rng(0)
TEACHER = DRAW.normal(size=(60, 7)).astype(np.float32)
STUDENT = (TEACHER[:, :5] + DRAW.normal(size=(60, 5))).astype(np.float32)
SCORES = np.repeat(pair_cosines(TEACHER) + 0.1 * DRAW.normal(size=30), 2)
LABELS = np.concatenate([SCORES[:, None], TEACHER], axis=1).astype(np.float32)


@pytest.mark.parametrize(("name", "reference"), [("cosine_spearman", spearmanr), ("cosine_pearson", pearsonr)])
def test_cosines_of_pairs_are_compared_with_their_scores(name: str, reference: object) -> None:
    rows = STUDENT.astype(np.float64)
    a, b = rows[0::2], rows[1::2]
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    wanted = reference(cosines, LABELS[0::2, 0])[0]  # type: ignore[operator]
    assert METRICS[name].function(LABELS, STUDENT) == pytest.approx(wanted, abs=1e-6)
    assert METRICS[name].function(LABELS, 3.0 * STUDENT) == pytest.approx(wanted, abs=1e-6)
    assert METRICS[name].function(LABELS, np.ones((60, 4))) == 0.0


def test_recall_counts_the_teachers_neighbours() -> None:
    metric = METRICS["recall@10"]
    assert metric.function(LABELS, TEACHER) == 1.0
    wanted, got = neighbours(TEACHER), neighbours(STUDENT)
    by_hand = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(wanted.tolist(), got.tolist(), strict=True)])
    assert metric.function(LABELS, STUDENT) == pytest.approx(by_hand)
    twice, again = np.concatenate([LABELS, LABELS]), np.concatenate([STUDENT, STUDENT])
    assert metric.function(twice, again) == pytest.approx(by_hand)  # a text that is in many pairs is one text
    with pytest.raises(DataError, match="its vectors are not there"):
        metric.function(LABELS[:, :1], STUDENT)


def test_neighbours_are_sorted_and_never_oneself() -> None:
    rows = TEACHER / np.linalg.norm(TEACHER, axis=1, keepdims=True)
    table = rows @ rows.T
    np.fill_diagonal(table, -np.inf)
    np.testing.assert_array_equal(neighbours(TEACHER), np.argsort(-table, axis=1)[:, :10])
    assert neighbours(TEACHER[:3]).shape == (3, 2)
    assert len(different(np.arange(5000.0)[:, None])) == 2000


@pytest.mark.parametrize("name", ["cosine_spearman", "cosine_pearson", "recall@10"])
def test_intervals_are_over_pairs_and_models_may_differ_in_width(name: str) -> None:
    one = interval(name, LABELS, STUDENT)
    assert one.low < one.value < one.high
    assert one.value == pytest.approx(METRICS[name].function(LABELS, STUDENT))
    gain = difference(name, LABELS, STUDENT, TEACHER)
    assert gain.value == pytest.approx(one.value - METRICS[name].function(LABELS, TEACHER))
    seeds = difference(name, LABELS, np.stack([STUDENT, STUDENT]), np.stack([TEACHER, TEACHER]))
    assert seeds.value == pytest.approx(gain.value)
    kept = ratio(name, LABELS, STUDENT, TEACHER)
    assert kept is not None
    assert kept.low < kept.value < kept.high


def test_rows_that_are_no_pairs_are_refused() -> None:
    metric = METRICS["cosine_spearman"]
    with pytest.raises(DataError, match="not two texts of one pair"):
        metric.function(LABELS[1:], STUDENT[1:])
    bare = LABELS.copy()
    bare[:, 0] = np.nan
    with pytest.raises(DataError, match="60 of 60 texts have no score"):
        metric.function(bare, STUDENT)
    with pytest.raises(DataError, match="a vector for each of 60 texts"):
        metric.function(LABELS, STUDENT[:10])


def test_scored_vectors_may_have_any_width_and_are_of_length_one() -> None:
    scored = Scored("student", STUDENT, LABELS, answer=VECTOR)
    np.testing.assert_allclose(np.linalg.norm(scored.predicted, axis=1), 1.0, atol=1e-6)
    with pytest.raises(DataError, match="no label"):
        Scored("student", STUDENT, np.full((60, 1), np.nan), answer=VECTOR)
