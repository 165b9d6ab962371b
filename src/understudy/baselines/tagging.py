"""Baselines for a tag of every word."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from typing import Any

import numpy as np

from understudy.baselines.fitted import Array, Baseline, Inputs, finished
from understudy.data import Examples, Splits
from understudy.encoding import AffixEncoder
from understudy.encoding.affixes import PARTS
from understudy.encoding.tokens import FIELD
from understudy.ragged import Ragged

_WORDS, _BUCKETS, _LONGEST = 50_000, 1 << 14, 1 << 20
_UNSEEN = -10.0  # the score of a tag that a word never had
_PASSES = 5  # over the training words: some ten seconds for a hundred thousand words and eighty tags
_SLOTS = ((0, range(PARTS)), (-1, (0, 2, 4)), (1, (0, 2, 4)), (-2, (0,)), (2, (0,)))
"""Which parts of which neighbour are features: of the word itself all, of those beside it three, then only the word."""


def commonest_tags(splits: Splits) -> Baseline:
    """Of each word the tag that it most often has in training, in lower case; O of a word that was never seen."""
    start = time.perf_counter()
    counts: dict[str, Counter[int]] = {}
    for words, tags in _tagged(splits.train):
        for word, tag in zip(words, tags, strict=True):
            counts.setdefault(word.lower(), Counter())[tag] += 1
    best = {word: min(seen, key=lambda tag: (-seen[tag], tag)) for word, seen in counts.items()}
    classes = len(splits.label_names)

    def predict(inputs: Inputs) -> Ragged:
        found = [np.array([best.get(word.lower(), 0) for word in words], np.int64) for words in inputs[FIELD]]
        rows = Ragged.of(found)
        return rows.holding(np.where(np.arange(classes) == rows.values[:, None], 0.0, _UNSEEN))

    size = sum(len(word.encode("utf-8", "replace")) + 3 for word in best)
    return finished("commonest_tags", splits, predict, start, size=size, parameters=len(best))


def linear_tags(splits: Splits, *, seed: int = 0) -> Baseline:
    """A linear model of every word and its neighbours, tag by tag: hinge loss, averaged stochastic gradient descent.

    Features are the ids of an `AffixEncoder`: of the word itself, of those beside it, and the words two away.
    """
    from sklearn.linear_model import SGDClassifier

    start = time.perf_counter()
    train = splits.train.take(np.flatnonzero(splits.train.known))
    encoder = AffixEncoder.fit(train.inputs[FIELD], most=_WORDS, buckets=_BUCKETS, limit=_LONGEST)
    model: Any = SGDClassifier(loss="hinge", alpha=1e-6, max_iter=_PASSES, tol=None, average=True, random_state=seed)
    with warnings.catch_warnings():  # the bound on its passes is meant
        warnings.simplefilter("ignore")
        model.fit(_features(encoder, train.inputs)[0], Ragged.of(list(train.labels)).values)
    classes = len(splits.label_names)

    def predict(inputs: Inputs) -> Ragged:
        features, rows = _features(encoder, inputs)
        return rows.holding(_columns(model.decision_function(features), model.classes_, classes))

    parameters = int(model.coef_.size + model.intercept_.size)
    size = 4 * int((model.coef_ != 0).sum()) + sum(len(word.encode("utf-8", "replace")) + 1 for word in encoder.words)
    return finished("linear_tags", splits, predict, start, size=size, parameters=parameters)


def _tagged(rows: Examples) -> list[tuple[list[str], list[int]]]:
    """Words and tags of the rows that have any."""
    return [(words, t.tolist()) for words, t in zip(rows.inputs[FIELD], rows.labels, strict=True) if t is not None]


def _features(encoder: AffixEncoder, inputs: Inputs) -> tuple[Any, Ragged]:
    """A sparse matrix [M, F] of all words, and the rows that they are of."""
    from scipy.sparse import csr_matrix

    rows = encoder.encode(inputs)
    words, owners = len(rows.values), rows.owners
    columns = []
    for number, (step, parts) in enumerate(_SLOTS):
        place = np.arange(words) + step
        inside = (place >= 0) & (place < words)
        inside[inside] &= owners[place[inside]] == owners[inside]
        for part in parts:
            ids = np.zeros(words, np.int64)  # padding: there is no such word
            ids[inside] = rows.values[place[inside], part]
            columns.append(ids + number * encoder.size)
    found = np.stack(columns, axis=1)
    starts = np.arange(0, found.size + 1, found.shape[1])
    matrix = csr_matrix((np.ones(found.size, np.float32), found.ravel(), starts), (words, len(_SLOTS) * encoder.size))
    return matrix, rows


def _columns(decision: Array, present: Array, classes: int) -> Array:
    """Scores [M, K]; a tag that training never saw stays a unit below every other."""
    scores = np.asarray(decision, np.float64)
    if scores.ndim == 1:
        scores = np.stack([-scores / 2, scores / 2], axis=1)
    found = np.repeat(scores.min(axis=1, keepdims=True) - 1.0, classes, axis=1)
    found[:, present] = scores
    return found
