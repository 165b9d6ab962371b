"""Statistics against independent implementations (scikit-learn, scipy) and against simulated truth."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from understudy.errors import DataError, UsageError
from understudy.statistics import (
    METRICS,
    auroc,
    auroc_interval,
    benjamini_hochberg,
    coverage_curve,
    difference,
    ece,
    fit_temperature,
    interval,
    log_softmax,
    mcnemar,
    metric_named,
    ratio,
    recall_per_class,
    reliability,
    softmax,
    threshold_for,
    wilson,
)
from understudy.statistics.metrics import CLASSES


def planted(rows: int, classes: int, *, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions that are right with a given probability, over unbalanced classes."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.ones(classes))
    labels = rng.choice(classes, size=rows, p=share)
    return labels, np.where(rng.random(rows) < right, labels, rng.integers(classes, size=rows))


def plain_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    several = max(labels.max(), predicted.max()) > 1
    return float(sklearn_metrics.f1_score(labels, predicted, average="macro" if several else "binary", zero_division=0))


SKLEARN = {
    "f1": plain_f1,
    "accuracy": sklearn_metrics.accuracy_score,
    "macro_f1": lambda y, p: sklearn_metrics.f1_score(y, p, average="macro", zero_division=0),
    "weighted_f1": lambda y, p: sklearn_metrics.f1_score(y, p, average="weighted", zero_division=0),
    "balanced_accuracy": sklearn_metrics.balanced_accuracy_score,
}


@pytest.mark.parametrize("name", sorted(metric.name for metric in CLASSES))
@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (7, 3), (200, 2), (300, 40)])
@pytest.mark.filterwarnings("ignore:y_pred contains classes", "ignore:A single label was found")
def test_metrics_agree_with_scikit_learn(name: str, rows: int, classes: int) -> None:
    assert set(SKLEARN) == {metric.name for metric in CLASSES}
    for seed in range(5):
        labels, predicted = planted(rows, classes, right=0.6, seed=seed)
        assert METRICS[name].function(labels, predicted) == pytest.approx(SKLEARN[name](labels, predicted), abs=1e-12)


def test_metric_rejects_what_it_cannot_count() -> None:
    with pytest.raises(DataError, match="1 of 2 rows have no label"):
        METRICS["accuracy"].function([0, -1], [0, 0])
    with pytest.raises(DataError, match="one prediction per label"):
        METRICS["accuracy"].function([0, 1], [0])
    with pytest.raises(DataError, match="at least one row"):
        METRICS["accuracy"].function([], [])
    with pytest.raises(UsageError, match='did you mean "macro_f1"'):
        metric_named("macro-f1")


def test_recall_per_class_is_nan_without_rows() -> None:
    recall = recall_per_class([0, 0, 1], [0, 1, 1], classes=3)
    assert recall[:2].tolist() == [0.5, 1.0]
    assert np.isnan(recall[2])


@pytest.mark.parametrize(("successes", "rows"), [(0, 10), (10, 10), (3, 10), (987, 1000), (1, 1)])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_wilson_agrees_with_scipy(successes: int, rows: int, level: float) -> None:
    from scipy.stats import binomtest

    expected = binomtest(successes, rows).proportion_ci(confidence_level=level, method="wilson")
    found = wilson(successes, rows, level=level)
    assert (found.value, found.low, found.high) == pytest.approx((successes / rows, expected.low, expected.high))


@pytest.mark.parametrize("name", sorted(metric.name for metric in CLASSES))
def test_resampling_agrees_with_drawing_rows(name: str) -> None:
    """The multinomial over cells has the distribution of a plain bootstrap that indexes rows."""
    labels, predicted = planted(400, 6, right=0.7, seed=3)
    metric, rng = METRICS[name], np.random.default_rng(1)
    drawn = metric.resampled(labels, predicted[None], favoured=[[True], [False]], rng=rng, draws=4000)[0]
    index = rng.integers(len(labels), size=(4000, len(labels)))
    plain = np.array([metric.function(labels[i], predicted[i]) for i in index])
    assert drawn.mean() == pytest.approx(plain.mean(), abs=0.003)
    assert drawn.std() == pytest.approx(plain.std(), rel=0.08)
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.008)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    chance = {"accuracy": 0.8 + 0.2 / 4, "balanced_accuracy": 0.8 + 0.2 / 4}
    for name, truth in chance.items():
        covered = 0
        for seed in range(200):
            labels, predicted = planted(300, 4, right=0.8, seed=1000 + seed)
            if np.bincount(labels, minlength=4).min() < 10:
                covered += (
                    1  # a class of nearly no rows has no bootstrap to speak of; counted as covered, at most a few
                )
                continue
            found = interval(name, labels, predicted, seed=seed, draws=300)
            assert found.low <= found.value <= found.high
            covered += found.low <= truth <= found.high
        assert 0.90 <= covered / 200 <= 0.995, name


def test_difference_covers_the_truth_and_rarely_beats_by_luck() -> None:
    """Two equally good models on 40 and 300 rows: either side wins in at most about 2.5 % of the splits each."""
    for rows, apart in [(40, 0.1), (40, 0.2), (300, 0.1)]:
        wins = losses = 0
        for seed in range(300):
            u = np.random.default_rng(seed).random(rows)
            ours, theirs = np.where(u < apart / 2, 1, 0), np.where((u >= apart / 2) & (u < apart), 1, 0)
            found = difference("accuracy", np.zeros(rows, int), ours, theirs, seed=seed, draws=300)
            wins, losses = wins + (found.low > 0), losses + (found.high < 0)
        assert max(wins, losses) / 300 <= 0.05


def test_difference_is_not_sure_of_what_it_has_not_seen() -> None:
    labels = np.zeros(40, int)
    same = difference("accuracy", labels, labels, labels)
    assert same.value == 0
    assert same.low < -0.005
    assert same.high > 0.005
    four_wins = labels.copy()
    four_wins[:4] = 1
    found = difference("accuracy", labels, labels, four_wins)
    assert found.value == pytest.approx(0.1)
    assert found.low <= 0
    many = np.zeros(5000, int)
    assert difference("accuracy", many, many, many).high < 0.002


def test_difference_turns_its_sign_with_its_arguments_and_repeats_with_its_seed() -> None:
    labels, ours = planted(500, 5, right=0.8, seed=0)
    theirs = planted(500, 5, right=0.7, seed=0)[1]
    there = difference("macro_f1", labels, ours, theirs, seed=4)
    back = difference("macro_f1", labels, theirs, ours, seed=5)
    assert there == difference("macro_f1", labels, ours, theirs, seed=4)
    assert there.value == pytest.approx(-back.value)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.01)
    assert there.value == pytest.approx(
        METRICS["macro_f1"].function(labels, ours) - METRICS["macro_f1"].function(labels, theirs)
    )


def test_seeds_that_differ_widen_the_interval() -> None:
    labels = np.zeros(4000, int)
    rng = np.random.default_rng(0)

    def wrong(share: float) -> np.ndarray:
        return (rng.random(4000) < share).astype(int)

    steady = difference("accuracy", labels, np.stack([wrong(0.1)] * 3), np.stack([wrong(0.12)] * 3))
    shaky = difference(
        "accuracy", labels, np.stack([wrong(s) for s in (0.05, 0.1, 0.15)]), np.stack([wrong(0.12) for _ in range(3)])
    )
    assert shaky.high - shaky.low > 2 * (steady.high - steady.low)
    with pytest.raises(DataError, match="same rows and seeds"):
        difference("accuracy", labels, np.stack([labels] * 3), labels)


def test_two_seeds_that_disagree_do_not_agree_on_a_sign() -> None:
    """Differences 0 and 10 points: plain resampling of two seeds would stop at 0, its variance halved."""
    labels = np.zeros(20_000, int)
    tenth = (np.arange(20_000) % 10 == 0).astype(int)
    found = difference("accuracy", labels, np.stack([labels, labels]), np.stack([labels, tenth]))
    assert found.value == pytest.approx(0.05)
    assert (found.low, found.high) == pytest.approx((0.05 - 0.05 * 2**0.5, 0.05 + 0.05 * 2**0.5), abs=0.01)


def test_interval_over_seeds_covers_where_training_luck_is_as_large_as_sampling() -> None:
    covered = 0
    for trial in range(150):
        rng = np.random.default_rng(trial)
        luck = rng.normal(0.1, 0.01, size=(2, 5, 1)).clip(0, 1)
        wrong = (rng.random((2, 5, 1000)) < luck).astype(int)
        found = difference("accuracy", np.zeros(1000, int), wrong[0], wrong[1], seed=trial, draws=200)
        covered += found.low <= 0 <= found.high
    assert covered / 150 >= 0.90


def test_ratio_holds_the_quotient_and_is_none_where_it_cannot_be() -> None:
    labels, ours = planted(500, 5, right=0.7, seed=0)
    found = ratio("accuracy", labels, ours, labels)
    assert found is not None
    assert found.value == pytest.approx(METRICS["accuracy"].function(labels, ours))
    assert found.low < found.value < found.high
    assert ratio("accuracy", [0, 0], [0, 0], [1, 1]) is None


def test_bootstrap_of_ten_thousand_rows_and_151_classes_takes_about_a_second() -> None:
    labels, predicted = planted(10_000, 151, right=0.85, seed=0)
    interval("macro_f1", labels[:100], predicted[:100], draws=10)  # imports
    start = time.process_time()
    interval("macro_f1", labels, predicted, draws=1000)
    assert time.process_time() - start < 4  # 0.4 s measured; room for a busy machine


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 4), (4, 0), (7, 7), (3, 12), (400, 350)])
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_benjamini_hochberg_agrees_with_scipy() -> None:
    from scipy.stats import false_discovery_control

    rng = np.random.default_rng(0)
    for size in (1, 2, 50):
        p = rng.random(size) ** 3
        assert benjamini_hochberg(p) == pytest.approx(false_discovery_control(p, method="bh"))
    assert benjamini_hochberg([]).size == 0
    with pytest.raises(UsageError):
        benjamini_hochberg([1.5])


def test_auroc_agrees_with_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        positive = rng.random(60) < 0.3
        scores = rng.integers(5, size=60) + positive
        assert auroc(scores, positive) == pytest.approx(sklearn_metrics.roc_auc_score(positive, scores))
    assert auroc([1.0, 2.0], [True, True]) is None
    assert auroc_interval([1.0, 2.0], [True, True]) is None


def test_auroc_interval_covers_and_keeps_a_width() -> None:
    from scipy.stats import norm

    truth, covered = float(norm.cdf(1.5 / np.sqrt(2))), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        positive = np.arange(120) < 30
        found = auroc_interval(rng.normal(size=120) + 1.5 * positive, positive)
        assert found is not None
        assert found.low <= found.value <= found.high
        covered += found.low <= truth <= found.high
    assert covered / 200 >= 0.9
    perfect = auroc_interval([0, 1, 2, 3], [False, False, True, True])
    assert perfect is not None
    assert perfect.high == 1
    assert perfect.low < 0.9


def test_softmax_of_the_textbook() -> None:
    assert softmax([5.0, 1.0, 0.5]).round(3).tolist() == [0.971, 0.018, 0.011]
    assert softmax([5.0, 1.0, 0.5], temperature=2).round(3).tolist() == [0.806, 0.109, 0.085]
    assert softmax(np.float32([[1e4, -1e4, -np.inf]])).tolist() == [[1.0, 0.0, 0.0]]
    with pytest.raises(UsageError):
        softmax([1.0], temperature=0)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_fit_temperature_finds_the_planted_one(temperature: float) -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(size=(6000, 5)) * 2
    labels = np.array([rng.choice(5, p=p) for p in softmax(true_logits)])
    found = fit_temperature(true_logits * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    grid = np.geomspace(0.05, 20, 400)
    seen = np.arange(6000), labels
    loss = [-log_softmax(true_logits * temperature, temperature=t)[seen].mean() for t in grid]
    assert found == pytest.approx(grid[int(np.argmin(loss))], rel=0.02)


def test_fit_temperature_stays_inside_its_bounds() -> None:
    labels = np.arange(100) % 3
    separable = np.eye(3)[labels] * 0.01
    assert 0.05 <= fit_temperature(separable, labels) < 0.051
    assert fit_temperature(separable * 1e5, labels) == 1.0  # certain already: nothing to gain
    assert fit_temperature(np.zeros((100, 3)), labels) == 1.0
    noise = np.eye(3)[np.random.default_rng(0).integers(3, size=100)] * 1e4
    assert 19 < fit_temperature(noise, labels) <= 20
    unknown = separable.copy()
    unknown[labels == 2, 2] = -np.inf
    assert np.isfinite(fit_temperature(unknown, labels))


def test_reliability_bins_are_closed_on_the_right() -> None:
    bins = reliability([0.0, 1 / 15, 0.2, 0.2000001, 1.0], [False, True, True, False, True])
    assert [(round(b["high"] * 15), b["count"]) for b in bins] == [(1, 2), (3, 1), (4, 1), (15, 1)]
    assert all(b["low"] <= b["confidence"] <= b["high"] for b in bins)
    assert sum(b["count"] for b in reliability(np.linspace(0, 1, 777), np.ones(777))) == 777


def test_ece_of_known_cases() -> None:
    assert ece([1.0, 1.0], [True, True]) == 0
    assert ece([0.9] * 10, [True] * 5 + [False] * 5) == pytest.approx(0.4)
    rng = np.random.default_rng(0)
    sure = rng.random(50_000)
    assert ece(sure, rng.random(50_000) < sure) < 0.01
    naive = sum(
        abs(sure[m].mean() - (sure > 0.5)[m].mean()) * m.mean()
        for low in np.arange(15) / 15
        if (m := (sure > low) & (sure <= low + 1 / 15)).any()
    )
    assert ece(sure, sure > 0.5) == pytest.approx(naive, abs=1e-4)
    with pytest.raises(DataError, match="probabilities, not logits"):
        ece([3.0], [True])


def test_coverage_curve_and_threshold_agree() -> None:
    rng = np.random.default_rng(0)
    sure = rng.random(2000).round(2)
    right = rng.random(2000) < sure
    curve = coverage_curve(sure, right, most=30)
    assert len(curve) == 30
    assert curve[-1]["coverage"] == 1
    assert curve[-1]["accuracy"] == pytest.approx(right.mean())
    assert all(a["coverage"] < b["coverage"] and a["threshold"] > b["threshold"] for a, b in pairwise(curve))
    for point in curve:
        kept = sure >= point["threshold"]
        assert (kept.mean(), right[kept].mean()) == pytest.approx((point["coverage"], point["accuracy"]))
    threshold = threshold_for(sure, right, accuracy=0.8)
    assert threshold is not None
    assert right[sure >= threshold].mean() >= 0.8
    assert all(right[sure >= lower].mean() < 0.8 for lower in np.unique(sure) if lower < threshold)
    assert threshold_for(sure, right, accuracy=0.1) == 0.0
    assert threshold_for(sure, np.zeros(2000), accuracy=0.5) is None
    one_lucky_row = np.arange(100) == 99
    assert threshold_for(np.linspace(0.5, 0.9, 100), one_lucky_row, accuracy=0.9) is None


def test_importing_statistics_does_not_import_scipy() -> None:
    code = "import sys, understudy.statistics, understudy.evaluation; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
