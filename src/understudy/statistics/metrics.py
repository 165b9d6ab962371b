"""Metrics as functions of three counts per class, so that a thousand resamples cost one sparse product."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from understudy.errors import DataError, UsageError, choices

Array = npt.NDArray[Any]
OfCounts = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True)
class Metric:
    """A number that says how well labels are predicted.

    Attributes:
        name: how it is called in a recipe and in ``run.json``.
        direction: whether ``"higher"`` or ``"lower"`` is better.
        of_counts: ``(hits, support, predicted) -> values``; each count is [K, ...], classes first: rows of the class
            that were found, rows of the class, rows that were given the class. Returns [...], each in [0, 1].

    >>> METRICS["accuracy"].function([0, 1, 1, 1], [0, 1, 1, 0])
    0.75
    """

    name: str
    direction: Literal["higher", "lower"]
    of_counts: OfCounts

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

    def gain(self, ours: float, theirs: float) -> float:
        """By how much ``ours`` is better than ``theirs``: positive is better in either direction."""
        return ours - theirs if self.direction == "higher" else theirs - ours


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


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "accuracy": Metric("accuracy", "higher", _accuracy),
        "macro_f1": Metric("macro_f1", "higher", _macro_f1),
        "weighted_f1": Metric("weighted_f1", "higher", _weighted_f1),
        "balanced_accuracy": Metric("balanced_accuracy", "higher", _balanced_accuracy),
    }
)


def metric_named(name: str | Metric) -> Metric:
    """The metric of that name.

    Raises:
        UsageError: there is none.
    """
    if isinstance(name, Metric):
        return name
    if name not in METRICS:
        raise UsageError(f'no metric "{name}": {choices(name, METRICS)}')
    return METRICS[name]
