"""Metrics of vectors: whether cosines of pairs go with their scores, and whether neighbours are the teacher's.

Each brings vectors down to pairs of numbers first (a score and a cosine; 1 and a recall), and what is left is a metric
of numbers, resampled like any other: over pairs of texts, or over texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from understudy.answers import unit
from understudy.errors import DataError
from understudy.statistics.metrics import Array, Metric
from understudy.statistics.scores import SCORES, RowMetric

NEIGHBOURS = 10
_TEXTS = 2000  # of which neighbours are looked for; every one among all of these
_BLOCK = 512  # texts compared with all at once


@dataclass(frozen=True)
class VectorMetric(Metric):
    """A metric of vectors, by way of numbers.

    Attributes:
        reduce: labels [N, 1 + T] (`understudy.answers`) and vectors [N, D] -> two arrays of numbers [M].
        of: what is measured of these.
    """

    reduce: Callable[[Array, Array], tuple[Array, Array]] = lambda labels, vectors: (labels[:, 0], vectors[:, 0])
    of: Metric = SCORES[0]

    def checked(self, labels: npt.ArrayLike, *predictions: npt.ArrayLike) -> tuple[Array, ...]:
        """Numbers [M] of labels and predictions; what is numbers already stays as it is.

        Raises:
            DataError: rows that are not pairs, a pair without a score, or vectors of other rows.
        """
        truth, said = np.asarray(labels), [np.asarray(one) for one in predictions]
        if truth.ndim == 1:
            return self.of.checked(truth, *said)
        for one in said:
            if one.ndim != 2 or len(one) != len(truth) or not len(one):
                raise DataError(f"{self.name} needs a vector for each of {len(truth)} texts, got shape {one.shape}")
        found = [self.reduce(truth, one) for one in said]
        if not found:  # labels alone: any vectors will do
            return self.of.checked(self.reduce(truth, np.ones((len(truth), 1), np.float32))[0])
        return self.of.checked(found[0][0], *(numbers for _, numbers in found))

    def function(self, labels: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
        """The metric of one vector per row."""
        return self.of.function(*self.checked(labels, predicted))

    def resampled(
        self, labels: Array, predictions: Array, *, favoured: object, rng: np.random.Generator, draws: int
    ) -> Array:
        """See `Metric.resampled`, of what ``checked`` gives."""
        return self.of.resampled(labels, predictions, favoured=favoured, rng=rng, draws=draws)


def pair_cosines(vectors: npt.ArrayLike) -> Array:
    """float64 [N / 2]: the cosine of rows 0 and 1, of 2 and 3, and so on.

    >>> pair_cosines([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).tolist()
    [1.0, 0.0]
    """
    found = unit(vectors).astype(np.float64)
    return np.einsum("pd,pd->p", found[0::2], found[1::2])


def neighbours(vectors: npt.ArrayLike, *, most: int = NEIGHBOURS) -> Array:
    """int64 [N, most]: the rows with the highest cosines to each, without itself, the nearest first.

    >>> neighbours([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]], most=1).tolist()
    [[2], [2], [0]]
    """
    rows = unit(vectors)
    most = min(most, len(rows) - 1)
    found = np.zeros((len(rows), most), np.int64)
    for start in range(0, len(rows), _BLOCK):
        cosines = rows[start : start + _BLOCK] @ rows.T
        here = np.arange(len(cosines))
        cosines[here, start + here] = -np.inf
        best = np.argpartition(-cosines, most - 1, axis=1)[:, :most] if most else found[start : start + _BLOCK]
        order = np.argsort(-np.take_along_axis(cosines, best, axis=1), axis=1, kind="stable")
        found[start : start + _BLOCK] = np.take_along_axis(best, order, axis=1)
    return found


def different(vectors: Array, *, most: int = _TEXTS) -> Array:
    """int64: the first row of each different vector, in their order; evenly taken where there are more than ``most``.

    >>> different(np.array([[1.0], [1.0], [2.0]])).tolist()
    [0, 2]
    """
    first: dict[bytes, int] = {}
    for row, vector in enumerate(vectors):
        first.setdefault(vector.tobytes(), row)
    rows = np.fromiter(first.values(), np.int64, len(first))
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def _pairs(labels: Array, vectors: Array) -> tuple[Array, Array]:
    """Scores and cosines of the pairs."""
    scores = labels[:, 0].astype(np.float64)
    if len(scores) % 2 or not np.array_equal(scores[0::2], scores[1::2]):
        bare = int((~np.isfinite(scores)).sum())
        what = f"{bare} of {len(scores)} texts have no score" if bare else "rows that are not two texts of one pair"
        raise DataError(f"cosines are measured on pairs of texts with a score: got {what}")
    return scores[0::2], pair_cosines(vectors)


def _recall(labels: Array, vectors: Array) -> tuple[Array, Array]:
    """1, and the share of a text's nearest texts, as the teacher has them, that are among its nearest here."""
    if labels.shape[1] < 2:
        raise DataError(f"recall@{NEIGHBOURS} is measured against a teacher's ranking: its vectors are not there")
    rows = different(labels[:, 1:])
    if len(rows) < 2:
        raise DataError(f"recall@{NEIGHBOURS} needs two different texts at least")
    wanted, got = neighbours(labels[rows, 1:]), neighbours(vectors[rows])
    same = (wanted[:, :, None] == got[:, None, :]).any(axis=2)
    return np.ones(len(rows)), same.mean(axis=1)


_MEAN = RowMetric(
    "mean",
    "higher",
    "score",
    lambda labels, said: np.stack([np.ones_like(said), said], axis=-1),
    lambda sums: sums[..., 1] / np.maximum(sums[..., 0], 1),
)
_PEARSON, _SPEARMAN = SCORES[:2]

VECTORS: tuple[Metric, ...] = (
    VectorMetric("cosine_spearman", "higher", "vector", _pairs, _SPEARMAN),
    VectorMetric("cosine_pearson", "higher", "vector", _pairs, _PEARSON),
    VectorMetric(f"recall@{NEIGHBOURS}", "higher", "vector", _recall, _MEAN),
)
"""Of vectors. The first two are of pairs with a score, and do not depend on its scale."""
