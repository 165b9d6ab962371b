"""A fitted baseline, and what all of them need."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.data import Examples, Splits

Inputs = Mapping[str, Sequence[Any]]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Baseline:
    """A fitted baseline.

    Attributes:
        name: ``majority``, ``tfidf_svm``, ``pixels_logistic``.
        validation: decision scores on the validation rows, float64 [N, K]; the largest wins. Of words a `Ragged`.
        predict: raw columns -> decision scores, float64 [n, K], or of words.
        seconds: what fitting took, choosing included.
        bytes: its parameters as float32 plus its vocabulary, without any container around it.
        parameters: how many numbers it learnt.
        notes: decisions, one sentence each.
    """

    name: str
    validation: Any
    predict: Callable[[Inputs], Any]
    seconds: float
    bytes: int
    parameters: int
    notes: tuple[str, ...] = ()


def finished(
    name: str,
    splits: Splits,
    predict: Callable[[Inputs], Any],
    start: float,
    *,
    size: int,
    parameters: int,
    notes: Sequence[str] = (),
) -> Baseline:
    """What a baseline function returns: its scores on validation, and the seconds since ``start``."""
    seconds = time.perf_counter() - start
    scores = predict(splits.validation.inputs)
    return Baseline(name, scores, predict, seconds, int(size), int(parameters), tuple(notes))


def rows_of(inputs: Inputs) -> int:
    """How many rows there are."""
    return len(next(iter(inputs.values())))


def within(costs: Sequence[int], rows: Examples, most: int, seed: int) -> tuple[Examples, list[str]]:
    """The labelled rows, or as many of them, drawn with ``seed``, as cost no more than ``most`` in all."""
    labelled = np.flatnonzero(rows.known)
    cost = np.asarray(costs, dtype=np.int64)[labelled]
    if cost.sum() <= most:
        return (rows if len(labelled) == len(rows) else rows.take(labelled)), []
    order = np.random.default_rng(seed).permutation(len(labelled))
    kept = np.sort(order[np.cumsum(cost[order]) <= most])
    note = (
        f"the linear baseline learnt from {len(kept):,} of {len(labelled):,} training rows, drawn at random, for time"
    )
    return rows.take(labelled[kept]), [note]
