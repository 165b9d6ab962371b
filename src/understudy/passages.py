"""Questions whose answer stands in a text: the words of a text, answers as spans of them, and what is right.

    The  bridge  was  built  by  Ann  Lee  .          words, counted from 1
    1    2       3    4      5   6    7    8          0 stands for "the text has no answer"

A span is its first and its last word, both included; (0, 0) is no answer. Positions are words of the text and not
letters or sub-words, so that models with different tokenizers can be compared and can teach each other.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.ragged import Ragged

Array = NDArray[Any]
LONGEST = 30
"""Words that an answer may have."""
NEVER = -1e4
"""The logit of "no answer" for models that were never taught it: no softmax gives it a share above 0."""

_words = re.compile(r"\w+|[^\w\s]").finditer
_marks = str.maketrans("", "", string.punctuation)
_articles = re.compile(r"\b(a|an|the)\b")


def word_places(text: str) -> Array:
    """int64 [W, 2]: where each word begins and the letter behind its last; every mark is a word of its own.

    >>> word_places("It's 5,000.")[:, 0].tolist()
    [0, 2, 3, 5, 6, 7, 10]
    """
    return np.array([one.span() for one in _words(text)], np.int64).reshape(-1, 2)


@dataclass(frozen=True)
class Gold:
    """What the data says of one question.

    Attributes:
        context: the text.
        spans: first and last word of each answer, as often as people gave it; empty: the text has none.
        texts: the same answers as texts, as the data has them.
    """

    context: str
    spans: tuple[tuple[int, int], ...]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, context: str, texts: Sequence[str], starts: Sequence[int], places: Array | None = None) -> Gold:
        """Answers by their letters: every word that an answer touches is in its span.

        >>> Gold.of("Ann Lee built it.", ["Lee"], [4]).spans
        ((2, 2),)

        Args:
            context: the text.
            texts: of the answers; each has a word in it.
            starts: the letter of the context that each begins at.
            places: of the context's words, where they are there already.
        """
        places = word_places(context) if places is None else places
        spans = []
        for text, start in zip(texts, starts, strict=True):
            first = int(np.searchsorted(places[:, 1], start, side="right"))
            last = int(np.searchsorted(places[:, 0], start + len(text), side="left"))
            spans.append((first + 1, last))
        return cls(context, tuple(spans), tuple(texts))

    @property
    def target(self) -> tuple[int, int]:
        """The span that is to be learnt: what most people said, the first of equals; (0, 0) where there is none."""
        counts = Counter(self.spans)
        return max(counts, key=lambda span: counts[span]) if counts else (0, 0)

    def said(self, first: int, last: int) -> str:
        """The text of a span; empty for (0, 0)."""
        return text_of(self.context, first, last)

    def scores(self, first: int, last: int) -> tuple[float, float]:
        """Exact match (0 or 1) and F1 of a span, the best over the answers of the data."""
        return graded(self.texts, self.said(first, last))

    def tolist(self) -> list[Any]:
        """All of it but the context as plain lists."""
        return [[list(span) for span in self.spans], list(self.texts)]

    def tobytes(self) -> bytes:
        """All of it but the context as bytes, the same for the same."""
        return repr(self.tolist()).encode("utf-8", "surrogatepass")


def text_of(context: str, first: int, last: int) -> str:
    """The letters from the first word to the last of a span; empty for (0, 0).

    >>> text_of("Ann Lee built it.", 1, 2)
    'Ann Lee'
    """
    if not first:
        return ""
    places = _kept(context)
    return context[places[first - 1][0] : places[last - 1][1]]


@lru_cache(maxsize=4096)
def _kept(context: str) -> list[list[int]]:
    found: list[list[int]] = word_places(context).tolist()
    return found


def plain(text: str) -> str:
    """A text as SQuAD compares it: lower case, without marks and articles, one blank between words.

    >>> plain("The  U.S. Army")
    'us army'

    Source: Rajpurkar et al. 2016, arXiv 1606.05250, the evaluation script.
    """
    return " ".join(_articles.sub(" ", text.lower().translate(_marks)).split())


@lru_cache(maxsize=200_000)
def graded(texts: tuple[str, ...], said: str) -> tuple[float, float]:
    """Exact match and F1 of what was said, the best over the answers of the data; no answer is the empty text.

    F1 is of the words that both have, counted as often as they occur. Where either has no word left, both are 1 if
    the other has none either. Answers of which nothing is left do not count, unless all are such.

    >>> graded(("the Eiffel Tower", "Paris"), "Eiffel tower in Paris")
    (0.0, 0.6666666666666666)

    Source: Rajpurkar, Jia, Liang 2018, arXiv 1806.03822, the evaluation script; of questions that all have an answer
    it is that of arXiv 1606.05250.
    """
    golds = [one for one in map(plain, texts) if one] or [""]
    ours = plain(said)
    return max(float(one == ours) for one in golds), max(_f1(one.split(), ours.split()) for one in golds)


def _f1(gold: list[str], said: list[str]) -> float:
    if not gold or not said:
        return float(gold == said)
    same = sum((Counter(gold) & Counter(said)).values())
    return 2 * same / (len(gold) + len(said))


def best_spans(logits: Ragged, most: int = LONGEST, *, above: float = 0.0) -> Array:
    """int64 [N, 2]: the span of the highest start + end logit of every row, at most so many words; (0, 0) where the
    logits of "no answer" are higher by more than so much.

    Args:
        logits: [M, 2] of all rows, starts and ends; a row's first is "no answer", the others are its words.
        most: words that an answer may have.
        above: see `no_answer_above`.

    >>> row = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 2.0], [1.0, 4.0]])
    >>> best_spans(Ragged.of([row])).tolist(), best_spans(Ragged.of([row]), 2).tolist()
    ([[1, 3]], [[1, 2]])
    """
    spans, nothing = _answers(logits, most)
    spans[nothing > above] = 0
    return spans


def no_answer_above(logits: Ragged, labels: Array) -> float | None:
    """How much higher the logits of "no answer" must be than those of the best answer, for these rows' highest F1.

    0 if that is as good, else halfway between two rows at the best cut, the one nearest to 0; None where every row has
    an answer or the model never says that there is none.

    Args:
        logits: [M, 2] of all rows.
        labels: [N] `Gold`.

    Source: the best threshold of SQuAD 2's evaluation script (Rajpurkar, Jia, Liang 2018, arXiv 1806.03822).
    """
    spans, nothing = _answers(logits, LONGEST)
    nothing[nothing < NEVER] = -np.inf
    if all(one.spans for one in labels) or not np.isfinite(nothing).any():
        return None
    won = [one.scores(0, 0)[1] - one.scores(*span)[1] for one, span in zip(labels, spans.tolist(), strict=True)]
    order = np.argsort(-nothing, kind="stable")
    edges = np.concatenate([[np.inf], nothing[order], [-np.inf]])
    many = np.flatnonzero(edges[:-1] > edges[1:])  # so many of the highest rows can be without an answer
    total = np.concatenate([[0.0], np.cumsum(np.array(won)[order])])[many]
    high, low = edges[many], edges[many + 1]
    high, low = np.where(np.isposinf(high), low + 2, high), np.where(np.isneginf(low), high - 2, low)
    cuts = np.where((low <= 0) & (high > 0), 0.0, (low + high) / 2)[total >= total.max() - 1e-9]
    return float(cuts[np.abs(cuts).argmin()])


def _answers(logits: Ragged, most: int) -> tuple[Array, Array]:
    """int64 [N, 2], the best span of words of every row, (0, 0) where there is none; float64 [N], how much higher the
    logits of "no answer" are."""
    starts, ends = logits.values[:, 0].astype(np.float64), logits.values[:, 1].astype(np.float64)
    left = np.repeat(logits.offsets[1:], logits.lengths) - np.arange(len(starts))  # positions from here to the end
    best, behind = np.full(len(starts), -np.inf), np.zeros(len(starts), np.int64)
    for more in range(min(most, int(logits.lengths.max(initial=1)))):
        fits = np.flatnonzero(left > more)
        found = starts[fits] + ends[fits + more]
        better = found > best[fits]
        best[fits[better]], behind[fits[better]] = found[better], more
    first = logits.offsets[:-1]
    best[first] = -np.inf  # "no answer" begins no span of words
    highest = np.maximum.reduceat(best, first) if len(first) else best
    reached = np.flatnonzero(best == np.repeat(highest, logits.lengths))
    at = reached[np.unique(logits.owners[reached], return_index=True)[1]]
    spans = np.stack([at - first, at - first + behind[at]], axis=1)
    spans[highest == -np.inf] = 0
    return spans, starts[first] + ends[first] - highest


def shares(logits: Ragged, temperature: float = 1.0) -> Ragged:
    """float64 [M, 2]: how likely each position is as the start and as the end of its row's answer.

    Softmax of logits / temperature over the positions of a row.
    """
    scaled = logits.values.astype(np.float64) / temperature
    if not len(scaled):
        return logits.holding(scaled)
    first = logits.offsets[:-1]
    scaled -= np.repeat(np.maximum.reduceat(scaled, first), logits.lengths, axis=0)
    parts = np.exp(scaled)
    return logits.holding(parts / np.repeat(np.add.reduceat(parts, first), logits.lengths, axis=0))


def sureness(likely: Ragged, spans: Array) -> Array:
    """float64 [N]: how likely a span of each row is: the share of its start times that of its end.

    >>> sureness(Ragged.of([np.array([[0.0, 0.0], [0.5, 0.2], [0.5, 0.8]])]), np.array([[1, 2]])).tolist()
    [0.4]
    """
    at = likely.offsets[:-1]
    return np.asarray(likely.values[at + spans[:, 0], 0] * likely.values[at + spans[:, 1], 1])


def ends_of(labels: Array) -> Array:
    """int64 [N, 2]: first and last word that each row's label wants to be learnt, -1 where it has none."""
    return np.array([(-1, -1) if one is None else one.target for one in labels], np.int64).reshape(-1, 2)
