"""Metrics of answers that stand in a text: exact match and F1 of words, by the rules of SQuAD.

Counts are sums over questions, so that a bootstrap resamples questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from understudy.answers import known
from understudy.errors import DataError
from understudy.statistics.metrics import Array
from understudy.statistics.scores import RowMetric


@dataclass(frozen=True)
class SpanMetric(RowMetric):
    """A metric of three numbers of each question: 1, its exact match and its F1."""

    def dimensions(self, labels: npt.ArrayLike) -> int:
        """2: rows, and both ends of a span."""
        return 2

    def checked(self, labels: npt.ArrayLike, *predictions: npt.ArrayLike) -> tuple[Array, ...]:
        """Labels as objects [N] (`passages.Gold`), predictions as int64 [N, 2], first and last word.

        Raises:
            DataError: no rows, unequal numbers of them, or a row without a label.
        """
        truth = np.asarray(labels, object)
        said = [np.asarray(one) for one in predictions]
        if truth.ndim != 1 or not len(truth):
            raise DataError(f"{self.name} needs the answers of each row and a row, got {truth.shape}")
        for one in said:
            if one.shape != (len(truth), 2):
                raise DataError(f"{self.name} needs a first and a last word of {len(truth)} rows, got {one.shape}")
        bare = int((~known(truth)).sum())
        if bare:
            raise DataError(f"{bare} of {len(truth)} rows have no answers: measure on labelled rows only")
        return (truth, *(one.astype(np.int64) for one in said))


def question_scores(labels: Array, predicted: Array) -> Array:
    """float64 [N, 3]: 1, exact match and F1 of each question."""
    scores = [gold.scores(first, last) for gold, (first, last) in zip(labels, predicted.tolist(), strict=True)]
    return np.array([(1.0, *each) for each in scores]).reshape(-1, 3)


def _exact(sums: Array) -> Array:
    return np.asarray(sums[..., 1] / np.maximum(sums[..., 0], 1))


def _f1(sums: Array) -> Array:
    return np.asarray(sums[..., 2] / np.maximum(sums[..., 0], 1))


SPANS: tuple[SpanMetric, ...] = (
    SpanMetric("span_f1", "higher", "span", question_scores, _f1),
    SpanMetric("span_em", "higher", "span", question_scores, _exact),
)
"""Of a span of words in a text."""
