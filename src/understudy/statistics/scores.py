"""Metrics of scores and of several labels: functions of sums over rows, so that a resample is one matrix product.

A bootstrap draws rows with replacement. What these metrics need of a row are a few numbers (x, y, xy, ...; hits and
totals of each label), and of a resample only their sums: [draws, rows] @ [rows, numbers].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from understudy.errors import DataError, UsageError
from understudy.statistics.metrics import Array, Metric

_CHUNK = 4_000_000  # numbers drawn at once: 32 MB


@dataclass(frozen=True)
class RowMetric(Metric):
    """A metric of sums over rows.

    Attributes:
        of_rows: labels, predictions -> numbers [N, F].
        of_sums: sums [..., F] -> [...].
    """

    of_rows: Callable[[Array, Array], Array] = lambda labels, predicted: labels
    of_sums: Callable[[Array], Array] = lambda sums: sums

    def checked(self, labels: npt.ArrayLike, *predictions: npt.ArrayLike) -> tuple[Array, ...]:
        """Labels and predictions as fp64, [N] or [N, K].

        Raises:
            DataError: no rows, unequal shapes, or a row without a label.
        """
        truth, *said = (np.asarray(one, np.float64) for one in (labels, *predictions))
        wanted = 1 if self.answer == "score" else 2
        if truth.ndim != wanted or not len(truth):
            raise DataError(f"{self.name} needs labels of {wanted} dimensions and a row, got {truth.shape}")
        for one in said:
            if one.shape != truth.shape:
                raise DataError(f"{self.name} needs one prediction per label: {truth.shape} and {one.shape}")
        bare = ~np.isfinite(truth) if wanted == 1 else truth[:, 0] < 0
        if bare.any():
            raise DataError(f"{int(bare.sum())} of {len(truth)} rows have no label: measure on labelled rows only")
        return (truth, *said)

    def function(self, labels: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
        """The metric of one prediction per row."""
        return float(self.of_sums(self.of_rows(*self.checked(labels, predicted)).sum(0)))

    def resampled(
        self, labels: Array, predictions: Array, *, favoured: Any, rng: np.random.Generator, draws: int
    ) -> Array:
        """The metric of each prediction in each resample of the rows, [P, draws]; the same rows for all."""
        rows = [self.of_rows(labels, one) for one in predictions]
        return _of_draws(len(labels), rng, draws, lambda drawn: [self.of_sums(drawn @ one) for one in rows])


@dataclass(frozen=True)
class RankMetric(RowMetric):
    """A metric of ranks, which have to be found anew in each resample."""

    def function(self, labels: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
        """The metric of one prediction per row."""
        truth, said = self.checked(labels, predicted)
        return float(self.of_sums(self.of_rows(_ranks(truth), _ranks(said)).sum(0)))

    def resampled(
        self, labels: Array, predictions: Array, *, favoured: Any, rng: np.random.Generator, draws: int
    ) -> Array:
        """The metric of each prediction in each resample of the rows, [P, draws]; the same rows for all."""
        orders = [_order(one) for one in (labels, *predictions)]

        def of(drawn: Array) -> list[Array]:
            truth, *said = (_weighted_ranks(drawn, *order) for order in orders)
            return [self.of_sums(_weighted_sums(self.of_rows, truth, one, drawn)) for one in said]

        return _of_draws(len(labels), rng, draws, of)


def _of_draws(rows: int, rng: np.random.Generator, draws: int, of: Callable[[Array], list[Array]]) -> Array:
    """``of`` some draws at a time: float64 [draws, rows], how often each row was drawn."""
    if draws < 1:
        raise UsageError(f"a bootstrap needs at least one draw, got {draws}")
    found: list[Array] = []
    step = max(1, _CHUNK // rows)
    for start in range(0, draws, step):
        drawn = rng.multinomial(rows, np.full(rows, 1 / rows), size=min(step, draws - start)).astype(np.float64)
        found.append(np.stack(of(drawn)))
    return np.concatenate(found, axis=1)


def _ranks(values: Array) -> Array:
    """Ranks from 1; the mean rank of equals."""
    return _weighted_ranks(np.ones((1, len(values))), *_order(values))[0]


def _order(values: Array) -> tuple[Array, Array]:
    """Which value each row has, from the smallest, and how many values there are."""
    different, place = np.unique(values, return_inverse=True)
    return place, np.arange(len(different))


def _weighted_ranks(drawn: Array, place: Array, values: Array) -> Array:
    """The mean rank of each row's value, where row i is there ``drawn[:, i]`` times, [draws, rows]."""
    count = np.zeros((len(drawn), len(values)))
    for row, weights in enumerate(drawn):
        count[row] = np.bincount(place, weights=weights, minlength=len(values))
    mean = np.cumsum(count, axis=1) - (count - 1) / 2
    return mean[:, place]


def _weighted_sums(of_rows: Callable[[Array, Array], Array], x: Array, y: Array, drawn: Array) -> Array:
    each = of_rows(x.ravel(), y.ravel()).reshape(*x.shape, -1)
    return np.einsum("drf,dr->df", each, drawn)


def _moments(labels: Array, predicted: Array) -> Array:
    """1, x, y, x^2, y^2, xy: of labels around 0 and of ranks nothing that matters cancels."""
    x, y = labels, predicted
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def _pearson(sums: Array) -> Array:
    """Covariance / the deviations; 0 where either is constant."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    n = np.maximum(n, 1)
    covariance = xy / n - (x / n) * (y / n)
    spread = np.maximum(xx / n - (x / n) ** 2, 0) * np.maximum(yy / n - (y / n) ** 2, 0)
    return np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 1e-18)


def _errors(labels: Array, predicted: Array) -> Array:
    return np.stack([np.ones_like(labels), labels, labels**2, (labels - predicted) ** 2], axis=-1)


def _r2(sums: Array) -> Array:
    """1 - squared error / squared deviation of the labels; 0 where all labels are alike."""
    n, y, yy, error = np.moveaxis(sums, -1, 0)
    around = yy - y**2 / np.maximum(n, 1)
    return np.where(around > 1e-18, 1 - error / np.maximum(around, 1e-18), 0.0)


def _hits(labels: Array, predicted: Array) -> Array:
    """Rows, whole rows that are right, and of each label hits, support and predictions: [N, 2 + 3 K]."""
    whole = (labels == predicted).all(axis=1)
    return np.concatenate([np.stack([np.ones(len(labels)), whole], 1), labels * predicted, labels, predicted], axis=1)


def _thirds(sums: Array) -> tuple[Array, Array, Array]:
    return tuple(np.split(sums[..., 2:], 3, axis=-1))  # type: ignore[return-value]


def _micro_f1(sums: Array) -> Array:
    hits, support, predicted = _thirds(sums)
    total = (support + predicted).sum(-1)
    return np.divide(2 * hits.sum(-1), total, out=np.zeros(total.shape), where=total > 0)


def _macro_f1(sums: Array) -> Array:
    """Mean F1 of the labels that are there or predicted."""
    hits, support, predicted = _thirds(sums)
    total = support + predicted
    each = np.divide(2 * hits, total, out=np.zeros(total.shape), where=total > 0)
    return each.sum(-1) / np.maximum((total > 0).sum(-1), 1)


def _whole(sums: Array) -> Array:
    return sums[..., 1] / np.maximum(sums[..., 0], 1)


SCORES: tuple[Metric, ...] = (
    RowMetric("pearson", "higher", "score", _moments, _pearson),
    RankMetric("spearman", "higher", "score", _moments, _pearson),
    RowMetric("r2", "higher", "score", _errors, _r2),
)
"""Of scores: none depends on their scale."""
SEVERAL: tuple[Metric, ...] = (
    RowMetric("labels_micro_f1", "higher", "labels", _hits, _micro_f1),
    RowMetric("labels_macro_f1", "higher", "labels", _hits, _macro_f1),
    RowMetric("exact_match", "higher", "labels", _hits, _whole),
)
"""Of several labels at once."""


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Array:
    """Area under precision and recall of each label, [K]; NaN for a label that no row has.

    sum over ranks of (recall_n - recall_(n-1)) precision_n, as scikit-learn counts it.

    Args:
        labels: [N, K], 0 or 1.
        scores: [N, K]; higher is likelier.
    """
    truth, said = np.asarray(labels), np.asarray(scores)
    found = np.full(truth.shape[1], np.nan)
    for k in np.flatnonzero(truth.sum(0)):
        order = np.argsort(-said[:, k], kind="stable")
        right, value = truth[order, k].astype(np.float64), said[order, k]
        last = np.append(np.flatnonzero(np.diff(value)), len(value) - 1)  # equal scores are one rank
        hits = np.cumsum(right)[last]
        found[k] = (np.diff(hits, prepend=0) / right.sum() * hits / (last + 1)).sum()
    return found
