"""Metrics of texts that are said token by token: sums over texts, so that a bootstrap resamples texts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from understudy.errors import DataError
from understudy.statistics.metrics import Array
from understudy.statistics.scores import RowMetric


@dataclass(frozen=True)
class TokenMetric(RowMetric):
    """A metric of what is kept of each text: tokens that count, their loss in nats, those that are right, bytes."""

    def checked(self, labels: npt.ArrayLike, *predictions: npt.ArrayLike) -> tuple[Array, ...]:
        """Labels [N, 1], which say nothing, and numbers float64 [N, 4] (`encoding.CausalEncoder.joined`).

        Raises:
            DataError: no texts, numbers of other texts, or models of which other tokens were counted.
        """
        truth, *said = np.asarray(labels), *(np.asarray(one, np.float64) for one in predictions)
        if not len(truth):
            raise DataError(f"{self.name} needs a text at least, got none")
        for one in said:
            if one.shape != (len(truth), 4):
                raise DataError(f"{self.name} needs four numbers for each of {len(truth)} texts, got {one.shape}")
            if not np.array_equal(one[:, [0, 3]], said[0][:, [0, 3]]):
                raise DataError(f"{self.name}: other tokens of these models were counted; score them with one encoder")
            if not one[:, 0].any():
                raise DataError(f"{self.name}: nothing counts in these {len(truth)} texts")
        return (truth, *said)


def _numbers(labels: Array, predicted: Array) -> Array:
    return predicted


def _loss(sums: Array) -> Array:
    return np.asarray(sums[..., 1] / np.maximum(sums[..., 0], 1))


def _perplexity(sums: Array) -> Array:
    return np.exp(_loss(sums))


def _bits(sums: Array) -> Array:
    return np.asarray(sums[..., 1] / (math.log(2) * np.maximum(sums[..., 3], 1)))


def _right(sums: Array) -> Array:
    return np.asarray(sums[..., 2] / np.maximum(sums[..., 0], 1))


TOKENS: tuple[TokenMetric, ...] = (
    TokenMetric("token_loss", "lower", "next", _numbers, _loss),
    TokenMetric("perplexity", "lower", "next", _numbers, _perplexity),
    TokenMetric("bits_per_byte", "lower", "next", _numbers, _bits),
    TokenMetric("token_accuracy", "higher", "next", _numbers, _right),
)
"""Of the tokens that count: nats for each, its exponential, bits for each byte of text, the share that is said."""


@dataclass(frozen=True)
class BesideMetric(RowMetric):
    """A metric of one model beside another: tokens that count, nats of KL over them, those of which both say the same
    to be the likeliest."""

    def checked(self, labels: npt.ArrayLike, *predictions: npt.ArrayLike) -> tuple[Array, ...]:
        """Labels [N, 1], which say nothing, and numbers float64 [N, 3] (`evaluation.beside`).

        Raises:
            DataError: no texts, numbers of other texts, or nothing that counts.
        """
        truth, *said = np.asarray(labels), *(np.asarray(one, np.float64) for one in predictions)
        for one in said:
            if one.shape != (len(truth), 3) or not one[:, 0].any():
                raise DataError(
                    f"{self.name} needs three numbers for each of {len(truth)} texts, and a token that counts, got "
                    f"{one.shape}"
                )
        return (truth, *said)


BESIDE: tuple[BesideMetric, ...] = (
    BesideMetric("token_kl", "lower", "next", _numbers, _loss),
    BesideMetric("token_agreement", "higher", "next", _numbers, _right),
)
"""Of a teacher and a student: KL(teacher || student) in nats for each token, and the share on which both agree."""
