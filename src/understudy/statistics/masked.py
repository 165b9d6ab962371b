"""Metrics of hidden tokens: sums over texts, so that a bootstrap resamples texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from understudy.errors import DataError
from understudy.statistics.metrics import Array
from understudy.statistics.scores import RowMetric


@dataclass(frozen=True)
class MaskedMetric(RowMetric):
    """A metric of what is kept of each text: tokens hidden, their loss in nats, those that are right."""

    def checked(self, labels: npt.ArrayLike, *predictions: npt.ArrayLike) -> tuple[Array, ...]:
        """Labels [N, 1], which say nothing, and numbers float64 [N, 3] (`encoding.masked.weighed`).

        Raises:
            DataError: no texts, numbers of other texts, or models that other tokens were hidden from.
        """
        truth, *said = np.asarray(labels), *(np.asarray(one, np.float64) for one in predictions)
        if not len(truth):
            raise DataError(f"{self.name} needs a text at least, got none")
        for one in said:
            if one.shape != (len(truth), 3):
                raise DataError(f"{self.name} needs three numbers for each of {len(truth)} texts, got {one.shape}")
            if not np.array_equal(one[:, 0], said[0][:, 0]):
                raise DataError(f"{self.name}: other tokens were hidden from these models; score them with one encoder")
            if not one[:, 0].any():
                raise DataError(f"{self.name}: nothing is hidden in these {len(truth)} texts")
        return (truth, *said)


def _numbers(labels: Array, predicted: Array) -> Array:
    return predicted


def _loss(sums: Array) -> Array:
    return np.asarray(sums[..., 1] / np.maximum(sums[..., 0], 1))


def _right(sums: Array) -> Array:
    return np.asarray(sums[..., 2] / np.maximum(sums[..., 0], 1))


MASKED: tuple[MaskedMetric, ...] = (
    MaskedMetric("masked_loss", "lower", "masked", _numbers, _loss),
    MaskedMetric("masked_accuracy", "higher", "masked", _numbers, _right),
)
"""Of hidden tokens: nats for each, and the share that is said."""
