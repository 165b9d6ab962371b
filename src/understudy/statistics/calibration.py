"""Probabilities that mean what they say: one temperature, the error that is left, and when to abstain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from understudy.errors import DataError, UsageError
from understudy.statistics.metrics import Array, checked

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0


def log_softmax(logits: npt.ArrayLike, *, temperature: float = 1.0) -> Array:
    """log softmax(logits / temperature) over the last axis, fp64; a logit of -inf stays -inf."""
    if not temperature > 0:
        raise UsageError(f"a temperature must be above 0, got {temperature}")
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


def softmax(logits: npt.ArrayLike, *, temperature: float = 1.0) -> Array:
    """softmax(logits / temperature) over the last axis, fp64.

    >>> softmax([5.0, 1.0, 0.5], temperature=2.0).round(3).tolist()
    [0.806, 0.109, 0.085]
    """
    return np.exp(log_softmax(logits, temperature=temperature))


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The temperature that makes the labels most likely: argmin of mean -log softmax(logits / temperature)[label].

    The mean is convex in 1 / temperature, so the bounded search over its logarithm has one valley. Rows that are told
    apart perfectly would ask for temperature 0: the bounds stop that. Where nothing is better than 1, it is 1.

    Args:
        logits: [N, K]; rows whose label has the logit -inf are left out, for no temperature mends them.
        labels: [N].

    Returns:
        A temperature in [0.05, 20].

    Source: Guo et al. 2017, section 4.2.
    """
    scores = np.asarray(logits, dtype=np.float64)
    (truth,) = checked(labels)
    if scores.ndim != 2 or len(scores) != len(truth) or truth.max() >= scores.shape[1]:
        raise DataError(f"a temperature needs logits [N, K] for N labels below K, got {scores.shape} and {len(truth)}")
    picked = scores[np.arange(len(truth)), truth]
    known = np.isfinite(picked)
    if not known.any():
        return 1.0
    # Distances to the row's highest logit, so that each evaluation is one exp and no large number.
    highest = scores[known].max(axis=1)
    gaps, loss_at_infinity = scores[known] - highest[:, None], highest - picked[known]

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(gaps * inverse).sum(axis=1)) + loss_at_infinity * inverse))

    return _least(loss)


def _least(loss: Callable[[float], float]) -> float:
    """The temperature whose logarithm makes the loss least, within the bounds; 1 where nothing is better."""
    from scipy.optimize import minimize_scalar

    bounds = (np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    if not found.fun < loss(0.0) - 1e-12:
        return 1.0
    return float(np.clip(np.exp(found.x), LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE))


def fit_binary_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """`fit_temperature` for several labels at once: one temperature for the sigmoids of all of them.

    Args:
        logits: [N, K].
        labels: [N, K], 0 or 1.
    """
    scores, truth = np.asarray(logits, np.float64), np.asarray(labels)
    if scores.ndim != 2 or scores.shape != truth.shape or not len(truth) or truth.min() < 0:
        raise DataError(f"a temperature needs logits and labels [N, K], got {scores.shape} and {truth.shape}")
    signed = np.where(truth > 0, -scores, scores)
    return _least(lambda log_temperature: float(np.logaddexp(0.0, signed * np.exp(-log_temperature)).mean()))


def best_thresholds(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
    """For each of several labels the probability from which saying it gives the highest F1, fp64 [K].

    Halfway between the two probabilities around the best cut, the lowest cut of equals; a half for a label that no row
    has.

    Args:
        probabilities: [N, K].
        labels: [N, K], 0 or 1.
    """
    shares, truth = np.asarray(probabilities, np.float64), np.asarray(labels)
    found = np.full(truth.shape[1], 0.5)
    for k in np.flatnonzero(truth.sum(0) > 0):
        order = np.argsort(-shares[:, k], kind="stable")
        share, right = shares[order, k], truth[order, k].astype(np.float64)
        said = np.arange(1, len(share) + 1)
        f1 = 2 * np.cumsum(right) / (said + right.sum())
        ends = np.append(np.flatnonzero(np.diff(share)), len(share) - 1)  # rows of one probability go together
        last = int(ends[np.flatnonzero(f1[ends] == f1[ends].max())[-1]])
        below = share[last + 1] if last + 1 < len(share) else 0.0
        found[k] = (share[last] + below) / 2
    return found


def reliability(confidence: npt.ArrayLike, correct: npt.ArrayLike, *, bins: int = 15) -> list[dict[str, Any]]:
    """The bins of the reliability diagram: equally wide, closed on the right; those without rows are left out.

    Args:
        confidence: [N] in [0, 1].
        correct: [N] bool.
        bins: how many over [0, 1].

    Returns:
        ``{"low", "high", "confidence", "accuracy", "count"}`` per bin: its ends, mean confidence, share correct, rows.
    """
    sure, right = _confidence(confidence, correct)
    edges = np.arange(bins + 1) / bins
    bin_of = np.searchsorted(edges[1:-1], sure, side="left")
    count = np.bincount(bin_of, minlength=bins)
    total_sure = np.bincount(bin_of, weights=sure, minlength=bins)
    total_right = np.bincount(bin_of, weights=right, minlength=bins)
    return [
        {
            "low": float(edges[b]),
            "high": float(edges[b + 1]),
            "confidence": float(total_sure[b] / count[b]),
            "accuracy": float(total_right[b] / count[b]),
            "count": int(count[b]),
        }
        for b in np.flatnonzero(count)
    ]


def ece(confidence: npt.ArrayLike, correct: npt.ArrayLike, *, bins: int = 15) -> float:
    """Expected calibration error: mean distance between confidence and accuracy of the bins, weighted by rows.

    Returns:
        [0, 1]; 0 where every bin is as often right as it is sure.

    Source: Naeini et al. 2015; Guo et al. 2017, equation 3.
    """
    parts = reliability(confidence, correct, bins=bins)
    rows = sum(part["count"] for part in parts)
    return float(sum(part["count"] * abs(part["confidence"] - part["accuracy"]) for part in parts) / rows)


def coverage_curve(confidence: npt.ArrayLike, correct: npt.ArrayLike, *, most: int = 101) -> list[dict[str, float]]:
    """What abstaining buys: rows kept and their accuracy, from the strictest threshold to none.

    A row is kept where its confidence is at least the threshold. There are at most ``most`` points.

    Returns:
        ``{"threshold", "coverage", "accuracy"}`` by rising coverage; the last covers every row.
    """
    thresholds, kept, accuracy = _by_threshold(confidence, correct)
    at = np.unique(np.linspace(0, len(thresholds) - 1, min(most, len(thresholds))).round().astype(int))
    rows = kept[-1]
    return [
        {"threshold": float(thresholds[i]), "coverage": float(kept[i] / rows), "accuracy": float(accuracy[i])}
        for i in at
    ]


def threshold_for(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, *, accuracy: float, least: int = 20
) -> float | None:
    """The threshold that keeps most rows while those kept reach the accuracy. Choose it on validation.

    Args:
        confidence: [N] in [0, 1].
        correct: [N] bool.
        accuracy: to be reached by the kept rows.
        least: rows that must be kept, for fewer prove nothing.

    Returns:
        A confidence; 0 where every row may be kept; None where no threshold reaches the accuracy.
    """
    thresholds, kept, reached = _by_threshold(confidence, correct)
    good = np.flatnonzero((reached >= accuracy) & (kept >= min(least, kept[-1])))
    if len(good) == 0:
        return None
    return 0.0 if good[-1] == len(thresholds) - 1 else float(thresholds[good[-1]])


def _confidence(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Array, Array]:
    """Both as fp64 [N], or a DataError."""
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if sure.ndim != 1 or sure.shape != right.shape or len(sure) == 0:
        raise DataError(f"calibration needs a confidence and a hit per row, got shapes {sure.shape} and {right.shape}")
    if not ((sure >= 0) & (sure <= 1 + 1e-9)).all():
        raise DataError("a confidence must lie in [0, 1]: pass probabilities, not logits")
    return sure, right


def _by_threshold(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """Distinct confidences from high to low, the rows that each keeps, and their accuracy."""
    sure, right = _confidence(confidence, correct)
    order = np.argsort(-sure, kind="stable")
    last_of_its_value = np.flatnonzero(np.diff(sure[order], append=-1.0))
    kept = last_of_its_value + 1
    return sure[order][last_of_its_value], kept, np.cumsum(right[order])[last_of_its_value] / kept
