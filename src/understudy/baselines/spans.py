"""Baselines for answers that stand in a text."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from understudy.baselines.fitted import Array, Baseline, Inputs, finished
from understudy.data import Examples, Splits
from understudy.passages import word_places
from understudy.ragged import Ragged

_CHOSEN = 10.0  # the score of what is said; of all else it is 0
_REACH = 8  # words from which a word of the question counts half
_MARKS = frozenset(".!?;:,()[]\"'")

Says = Callable[[str, str], tuple[int, int]]


def opening_words(splits: Splits) -> Baseline:
    """The first words of every text, as many as an answer usually has; no answer where most training rows have none."""
    start = time.perf_counter()
    usual, bare = _usual(splits.train)

    def say(question: str, context: str) -> tuple[int, int]:
        return (0, 0) if bare > 0.5 else (1, min(usual, len(word_places(context))))

    return finished("opening_words", splits, _predict(say), start, size=8, parameters=2)


def nearest_words(splits: Splits) -> Baseline:
    """The run of words nearest to those of the question, none of which it has itself.

    Each word of the text that the question has counts by how rare it is in training texts (log of texts over texts with
    it), and half as much eight words away. Runs end at marks, at words of the question, and at the hundred commonest
    words; of two equals the first is said.
    """
    start = time.perf_counter()
    texts = list(dict.fromkeys(splits.train.inputs["context"]))
    seen: Counter[str] = Counter()
    for text in texts:
        seen.update(set(_words(text)))
    weight = {word: float(np.log((1 + len(texts)) / (1 + count))) for word, count in seen.items()}
    unseen = float(np.log(1 + len(texts)))
    common = {word for word, _ in sorted(seen.items(), key=lambda one: (-one[1], one[0]))[:100]}
    usual = _usual(splits.train)[0]

    def say(question: str, context: str) -> tuple[int, int]:
        words, asked = _words(context), set(_words(question)) - _MARKS
        worth = np.array([weight.get(word, unseen) if word in asked else 0.0 for word in words])
        apart = np.abs(np.arange(len(words))[:, None] - np.flatnonzero(worth)[None])
        near = (worth[worth > 0] * _REACH / (_REACH + apart)).sum(axis=1)
        open_ = [not (word in asked or word in common or word in _MARKS) for word in words]
        return _best_run(near, open_, usual)

    size = sum(len(word.encode("utf-8", "replace")) + 5 for word in weight)
    return finished("nearest_words", splits, _predict(say), start, size=size, parameters=len(weight))


def _words(text: str) -> list[str]:
    return [text[begin:stop].lower() for begin, stop in word_places(text).tolist()]


def _usual(rows: Examples) -> tuple[int, float]:
    """The median number of words of an answer, and the share of rows that have none."""
    golds = [one for one in rows.labels if one is not None]
    lengths = [last - first + 1 for one in golds for first, last in [one.target] if first]
    return max(1, int(np.median(lengths))) if lengths else 1, 1 - len(lengths) / max(len(golds), 1)


def _best_run(near: Array, open_: Sequence[bool], usual: int) -> tuple[int, int]:
    """First and last word of the best run of open words; the first words where there is none."""
    best, found, at = -np.inf, (1, min(usual, len(open_))), 0
    while at < len(open_):
        stop = at
        while stop < len(open_) and open_[stop]:
            stop += 1
        if stop > at and float(near[at:stop].mean()) > best:
            best, found = float(near[at:stop].mean()), (at + 1, stop)
        at = stop + 1
    return found


def _predict(say: Says) -> Callable[[Inputs], Ragged]:
    def predict(inputs: Inputs) -> Ragged:
        rows = []
        for question, context in zip(inputs["question"], inputs["context"], strict=True):
            first, last = say(question, context)
            row = np.zeros((1 + len(word_places(context)), 2))
            row[first, 0] = row[last, 1] = _CHOSEN
            rows.append(row)
        return Ragged.of(rows, np.zeros((0, 2)))

    return predict
