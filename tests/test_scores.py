"""Metrics of scores and of several labels: against scikit-learn and scipy, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as other

from understudy.errors import DataError
from understudy.statistics import METRICS, average_precision, difference, interval, ratio

ROWS = 300


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, a good and a bad prediction of them."""
    rng = np.random.default_rng(seed)
    labels = np.round(rng.normal(size=ROWS), 1)
    return labels, np.round(labels + 0.3 * rng.normal(size=ROWS), 1), labels + rng.normal(size=ROWS)


def several(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((ROWS, 5)) < [0.5, 0.3, 0.1, 0.05, 0.0]).astype(int)
    return labels, labels ^ (rng.random(labels.shape) < 0.05), labels ^ (rng.random(labels.shape) < 0.2)


def test_scores_agree_with_scipy_and_scikit_learn() -> None:
    labels, near, _ = drawn()
    assert METRICS["pearson"].function(labels, near) == pytest.approx(stats.pearsonr(labels, near)[0])
    assert METRICS["spearman"].function(labels, near) == pytest.approx(stats.spearmanr(labels, near)[0])
    assert METRICS["r2"].function(labels, near) == pytest.approx(other.r2_score(labels, near))


def test_several_labels_agree_with_scikit_learn() -> None:
    labels, near, _ = several()
    here = (labels + near).sum(0) > 0  # scikit-learn counts a label that is nowhere as 0
    assert METRICS["labels_micro_f1"].function(labels, near) == pytest.approx(
        other.f1_score(labels, near, average="micro")
    )
    assert METRICS["labels_macro_f1"].function(labels, near) == pytest.approx(
        other.f1_score(labels[:, here], near[:, here], average="macro")
    )
    assert METRICS["exact_match"].function(labels, near) == pytest.approx(other.accuracy_score(labels, near))


def test_average_precision_agrees_with_scikit_learn_and_knows_no_absent_label() -> None:
    labels, _, _ = several()
    scores = np.round(labels + np.random.default_rng(1).normal(size=labels.shape), 1)
    found = average_precision(labels, scores)
    wanted = [other.average_precision_score(labels[:, k], scores[:, k]) for k in range(4)]
    assert found[:4] == pytest.approx(wanted)
    assert np.isnan(found[4])


@pytest.mark.parametrize("name", ["pearson", "spearman", "r2"])
def test_the_bootstrap_of_scores_is_that_of_resampled_rows(name: str) -> None:
    labels, near, far = drawn()
    metric, rng = METRICS[name], np.random.default_rng(3)
    rows = rng.integers(ROWS, size=(2000, ROWS))
    wanted = np.quantile([metric.function(labels[one], near[one]) for one in rows], [0.025, 0.975])
    found = interval(name, labels, near, draws=2000)
    assert [found.low, found.high] == pytest.approx(wanted.tolist(), abs=0.01)
    apart = difference(name, labels, near, far, draws=500)
    assert apart.low > 0
    assert apart.value == pytest.approx(metric.function(labels, near) - metric.function(labels, far))
    kept = ratio(name, labels, far, near, draws=500)
    assert kept is not None
    assert kept.low < kept.value < kept.high < 1


def test_seeds_have_an_axis_of_their_own_and_equal_predictions_differ_by_nothing() -> None:
    labels, near, far = several()
    apart = difference("labels_micro_f1", labels, np.stack([near, near]), np.stack([far, far]), draws=200)
    assert apart.low > 0
    same = difference("labels_micro_f1", labels, near, near, draws=200)
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "labels", "said"),
    [
        ("pearson", [0.0, np.nan], [1.0, 1.0]),
        ("pearson", [], []),
        ("pearson", [1.0, 2.0], [1.0]),
        ("labels_micro_f1", [[-1, -1], [0, 1]], [[0, 0], [0, 1]]),
        ("labels_micro_f1", [0, 1], [0, 1]),
    ],
)
def test_what_cannot_be_measured_is_said(name: str, labels: list[float], said: list[float]) -> None:
    with pytest.raises(DataError):
        METRICS[name].function(labels, said)


def test_a_constant_has_no_correlation() -> None:
    assert METRICS["pearson"].function([0.0, 1.0, 2.0], [1.0, 1.0, 1.0]) == 0
    assert METRICS["spearman"].function([0.0, 1.0, 2.0], [1.0, 1.0, 1.0]) == 0
