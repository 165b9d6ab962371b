"""Tests and ranks: exact McNemar, Benjamini-Hochberg, area under the ROC curve."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from understudy.errors import UsageError
from understudy.statistics.intervals import Interval
from understudy.statistics.metrics import Array


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value that two models err equally often on the same rows.

    ``p = min(1, 2 P(Binomial(n, 1/2) <= min(first_only, second_only)))`` with n the rows that only one got right.

    Args:
        first_only: rows that only the first model got right.
        second_only: rows that only the second model got right.

    Returns:
        (0, 1]; 1 where they never disagree.

    Source: McNemar 1947, the exact form.

    >>> mcnemar(0, 4)
    0.125
    """
    from scipy.special import bdtr

    if first_only < 0 or second_only < 0:
        raise UsageError(f"McNemar's test counts rows, got {first_only} and {second_only}")
    rows = first_only + second_only
    return min(1.0, 2.0 * float(bdtr(min(first_only, second_only), rows, 0.5))) if rows else 1.0


def benjamini_hochberg(p_values: npt.ArrayLike) -> Array:
    """p-values adjusted so that a cut at q keeps the share of false discoveries at most q (independent tests).

    Args:
        p_values: [M] in [0, 1], in any order.

    Returns:
        [M] fp64 in the same order, each at least its p-value.

    Source: Benjamini and Hochberg 1995.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size == 0:
        return p
    if not ((p >= 0) & (p <= 1)).all():
        raise UsageError("p-values must lie in [0, 1]")
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return adjusted


def holm(p_values: npt.ArrayLike) -> Array:
    """p-values adjusted so that a cut at q keeps the chance of any false discovery at most q, whatever the tests.

    Args:
        p_values: [M] in [0, 1], in any order.

    Returns:
        [M] fp64 in the same order, each at least its p-value.

    Source: Holm 1979.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise UsageError("p-values must lie in [0, 1]")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def auroc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float | None:
    """Probability that a positive row scores higher than a negative one, ties counted half.

    Args:
        scores: [N] finite numbers, higher for positive.
        positive: [N] bool.

    Returns:
        [0, 1], 0.5 for scores that tell nothing; None where one of the two kinds is missing.
    """
    from scipy.stats import rankdata

    is_positive = np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(is_positive.sum()), int((~is_positive).sum())
    if n_positive == 0 or n_negative == 0:
        return None
    ranks = rankdata(np.asarray(scores, dtype=np.float64))
    return float((ranks[is_positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def auroc_interval(scores: npt.ArrayLike, positive: npt.ArrayLike, *, level: float = 0.95) -> Interval | None:
    """:func:`auroc` with a score interval that keeps a width at 0 and 1; None where one of the two kinds is missing.

    The ends solve ``(theta - estimate)^2 = z^2 V(theta)``, ``V(theta) = theta (1 - theta) (1 + m ((1 - theta) / (2 -
    theta) + theta / (1 + theta))) / (positives * negatives)`` with ``m = N / 2 - 1``.

    Source: Newcombe 2006, method 5.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    estimate = auroc(scores, positive)
    if estimate is None:
        return None
    is_positive = np.asarray(positive, dtype=bool)
    rows, n_positive = len(is_positive), int(is_positive.sum())
    z2 = float(ndtri(0.5 + level / 2)) ** 2
    half = rows / 2 - 1

    def excess(theta: float) -> float:
        spread = 1 + half * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        variance = theta * (1 - theta) * spread / (n_positive * (rows - n_positive))
        return (theta - estimate) ** 2 - z2 * variance

    # One root lies between the estimate and each end. The variance is 0 at 0 and 1, so an estimate there is a root
    # itself: the other one is wanted, and the search starts a hair's breadth inside.
    low = 0.0 if estimate <= 0 else float(brentq(excess, 0.0, min(estimate, 1 - 1e-9)))
    high = 1.0 if estimate >= 1 else float(brentq(excess, max(estimate, 1e-9), 1.0))
    return Interval(estimate, low, high)
