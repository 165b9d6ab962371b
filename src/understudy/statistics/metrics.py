"""Metrics as functions of three counts per class, so that a thousand resamples cost one sparse product."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from understudy.errors import DataError, UsageError

Array = npt.NDArray[Any]
OfCounts = Callable[[Array, Array, Array], Array]
_CHUNK = 4_000_000  # numbers drawn at once: 32 MB


@dataclass(frozen=True)
class Metric(ABC):
    """A number that says how well labels are predicted.

    Attributes:
        name: how it is called in a recipe and in ``run.json``.
        direction: whether ``"higher"`` or ``"lower"`` is better.
        answer: whose predictions it measures (`understudy.answers`).
    """

    name: str
    direction: Literal["higher", "lower"]
    answer: str

    @abstractmethod
    def checked(self, labels: npt.ArrayLike, *predictions: npt.ArrayLike) -> tuple[Array, ...]:
        """Labels and predictions as this metric reads them. Raises DataError for what cannot be measured."""

    @abstractmethod
    def function(self, labels: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
        """The metric of one prediction per row."""

    @abstractmethod
    def resampled(
        self, labels: Array, predictions: Array, *, favoured: Any, rng: np.random.Generator, draws: int
    ) -> Array:
        """The metric of each of P predictions in each resample of the rows, [P, draws] fp64.

        Args:
            labels: as ``checked`` gives them.
            predictions: [P, ...]; all are measured on the same resamples.
            favoured: see `intervals`; a metric that knows no half rows leaves it.
            rng: source of the draws.
            draws: resamples, at least 1.
        """

    def dimensions(self, labels: npt.ArrayLike) -> int:
        """How many axes what is said of the rows has: as many as their labels."""
        return np.ndim(labels)

    def gain(self, ours: float, theirs: float) -> float:
        """By how much ``ours`` is better than ``theirs``: positive is better in either direction."""
        return ours - theirs if self.direction == "higher" else theirs - ours


@dataclass(frozen=True)
class ClassMetric(Metric):
    """A metric of one class per row.

    Attributes:
        of_counts: ``(hits, support, predicted) -> values``; each count is [K, ...], classes first: rows of the class
            that were found, rows of the class, rows that were given the class. Returns [...], each in [0, 1].

    >>> CLASSES[0].name, CLASSES[0].function([0, 1, 1, 1], [0, 1, 1, 0])
    ('accuracy', 0.75)
    """

    answer: str = "label"
    of_counts: OfCounts = lambda hits, support, predicted: hits

    def checked(self, labels: npt.ArrayLike, *predictions: npt.ArrayLike) -> tuple[Array, ...]:
        """Labels and predictions as int64 [N]."""
        return checked(labels, *predictions)

    def function(self, labels: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
        """The metric of one prediction per row.

        Args:
            labels: [N] class numbers, 0 or more.
            predicted: [N] class numbers; a negative one is no class at all, and wrong.

        Raises:
            DataError: no rows, unequal lengths, or a row without a label.
        """
        truth, said = checked(labels, predicted)
        return float(self.of_counts(*counts(truth, said)))

    def resampled(
        self, labels: Array, predictions: Array, *, favoured: Any, rng: np.random.Generator, draws: int
    ) -> Array:
        """See `Metric.resampled`; ``favoured``: for each of two half rows, which of the P predictions are right there.

        A bootstrap over rows is a multinomial over the distinct combinations of label and predictions, so each draw
        costs the number of combinations, not of rows. In a half row the others give no class.
        """
        from scipy.sparse import csr_matrix

        if draws < 1:
            raise UsageError(f"a bootstrap needs at least one draw, got {draws}")
        rows = len(labels)
        cells, weights = np.unique(np.vstack([labels, predictions]), axis=1, return_counts=True)
        present, support = np.unique(labels, return_counts=True)
        for right in favoured:
            # A half row has no class of its own: it is spread over the classes as the rows are.
            phantom = np.vstack([present, *(present if is_right else np.full_like(present, -1) for is_right in right)])
            cells = np.concatenate([cells, phantom], axis=1)
            weights = np.concatenate([weights, 0.5 * support / rows])
        share = weights / weights.sum()
        classes, columns = int(cells.max()) + 1, np.arange(cells.shape[1])

        def summed_by(row: Array, keep: Array) -> csr_matrix:
            """[classes, cells]: which cells are added up for each class."""
            return csr_matrix((np.ones(int(keep.sum())), (row[keep], columns[keep])), shape=(classes, len(columns)))

        truth = cells[0]
        by_label = summed_by(truth, truth >= 0)
        by_vector = [(summed_by(truth, said == truth), summed_by(said, said >= 0)) for said in cells[1:]]
        values = np.empty((len(predictions), draws))
        step = max(1, _CHUNK // len(columns))
        for start in range(0, draws, step):
            stop = min(draws, start + step)
            drawn = rng.multinomial(rows + 1, share, size=stop - start).T.astype(np.float64)  # [cells, stop - start]
            there = by_label @ drawn
            for vector, (hits, predicted) in enumerate(by_vector):
                values[vector, start:stop] = self.of_counts(hits @ drawn, there, predicted @ drawn)
        return values


def checked(labels: npt.ArrayLike, *predictions: npt.ArrayLike) -> tuple[Array, ...]:
    """Labels and predictions as int64 [N].

    Raises:
        DataError: no rows, unequal lengths, or a row without a label.
    """
    truth = np.asarray(labels).astype(np.int64, copy=False)
    said = [np.asarray(p).astype(np.int64, copy=False) for p in predictions]
    if truth.ndim != 1 or len(truth) == 0:
        raise DataError(f"a metric needs one label per row and at least one row, got labels of shape {truth.shape}")
    for prediction in said:
        if prediction.shape != truth.shape:
            raise DataError(
                f"a metric needs one prediction per label: {len(truth)} labels, predictions of shape {prediction.shape}"
            )
    if truth.min() < 0:
        raise DataError(
            f"{int((truth < 0).sum())} of {len(truth)} rows have no label: "
            "measure on labelled rows only, and move the others to the unlabelled split"
        )
    return (truth, *said)


def counts(labels: Array, predicted: Array) -> tuple[Array, Array, Array]:
    """(hits, support, predicted), each [K] int64, of checked rows."""
    classes = int(max(labels.max(), predicted.max())) + 1
    return (
        np.bincount(labels[labels == predicted], minlength=classes),
        np.bincount(labels, minlength=classes),
        np.bincount(predicted[predicted >= 0], minlength=classes),
    )


def recall_per_class(labels: npt.ArrayLike, predicted: npt.ArrayLike, *, classes: int) -> Array:
    """Share of each class's rows that were found, [classes] fp64; NaN for a class without rows."""
    truth, said = checked(labels, predicted)
    support = np.bincount(truth, minlength=classes)
    hits = np.bincount(truth[truth == said], minlength=classes)
    return np.divide(hits, support, out=np.full(len(support), np.nan), where=support > 0)


def _accuracy(hits: Array, support: Array, predicted: Array) -> Array:
    """hits / rows."""
    return hits.sum(0) / support.sum(0)


def _f1(hits: Array, support: Array, predicted: Array) -> Array:
    """2 hits / (support + predicted) per class; 0 where a class is neither there nor predicted."""
    total = support + predicted
    return np.divide(2.0 * hits, total, out=np.zeros(total.shape), where=total > 0)


def _plain_f1(hits: Array, support: Array, predicted: Array) -> Array:
    """F1 of the second of two classes, as binary tasks report it; of more classes their mean."""
    if len(hits) > 2:
        return _macro_f1(hits, support, predicted)
    return _f1(hits, support, predicted)[1] if len(hits) == 2 else np.zeros(hits.shape[1:])


def _macro_f1(hits: Array, support: Array, predicted: Array) -> Array:
    """Mean F1 of the classes that are there or predicted (as scikit-learn counts them)."""
    return _f1(hits, support, predicted).sum(0) / ((support + predicted) > 0).sum(0)


def _weighted_f1(hits: Array, support: Array, predicted: Array) -> Array:
    """Mean F1 of the classes, weighted by their rows."""
    return (_f1(hits, support, predicted) * support).sum(0) / support.sum(0)


def _balanced_accuracy(hits: Array, support: Array, predicted: Array) -> Array:
    """Mean recall of the classes that have rows."""
    recall = np.divide(hits, support, out=np.zeros(support.shape), where=support > 0)
    return recall.sum(0) / (support > 0).sum(0)


CLASSES: tuple[Metric, ...] = (
    ClassMetric("accuracy", "higher", of_counts=_accuracy),
    ClassMetric("f1", "higher", of_counts=_plain_f1),
    ClassMetric("macro_f1", "higher", of_counts=_macro_f1),
    ClassMetric("weighted_f1", "higher", of_counts=_weighted_f1),
    ClassMetric("balanced_accuracy", "higher", of_counts=_balanced_accuracy),
)
"""Of one class per row."""
