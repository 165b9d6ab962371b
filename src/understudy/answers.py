"""What the numbers of a model mean: a label, a score, several labels, a vector, tags, a span, hidden or next tokens.

A task has an answer, and everything that reads logits asks it instead of assuming classes: what is predicted, whether
a row can be right or wrong, whether a temperature means anything, and which rows have a label at all.

    answer   logits   labels of rows              without a label   predicted
    label    [N, K]   int64 [N], positions        -1                int64 [N], the highest
    score    [N, 1]   float32 [N], standardised   NaN               float64 [N]
    labels   [N, K]   int64 [N, K], 0 or 1        -1                int64 [N, K], those that are likely enough
    vector   [N, D]   float32 [N, 1 or 1 + T]     NaN               float32 [N, D], of length 1
    tags     ragged   objects [N], int64 [words]  None              objects [N], int64 [words], the highest of each word
    span     ragged   objects [N], `Gold`         None              int64 [N, 2], first and last word
    masked   [N, 3]   int64 [N, 1], all 0         -1                float32 [N, 3], the same
    next     [N, 4]   int64 [N, 1], all 0         -1                float32 [N, 4], the same

A row of vectors is a text. Where vectors are measured, rows come two by two (0 and 1, 2 and 3, ...): the label of both
is the score of the pair, and behind it what a teacher of width T says of the text, once it was asked.

Logits of tags are a `Ragged` [M, K], a row of K for every word that a model had room for; `understudy.tags` says what
the numbers of tags mean. Those of spans are a `Ragged` [M, 2], start and end of "no answer" and of every word of a text
(`understudy.passages`).

A masked language model says a logit for every entry of its vocabulary at every hidden token. No data set's worth of
these is ever held: of a row is kept how many tokens were hidden, their negative log-likelihood in nats, and how many of
them it would have said (`encoding.masked.weighed`). A row's label is its own text. Of a model
that says what comes next the same is kept, and the bytes of the text (`encoding.CausalEncoder.joined`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from understudy.errors import UsageError, choices
from understudy.passages import best_spans
from understudy.ragged import Ragged, as_rows

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Answer:
    """One kind of answer.

    Attributes:
        name: in an artefact's manifest.
        softens: whether logits stand for probabilities, so that a temperature means something.
        decides: whether a row is right or wrong.
        labelled: whether training rows have labels, so that something besides the teacher says what is to be learnt.
        kept: how many sums over its answers are kept of a row, in the place of its logits; 0: these themselves.
    """

    name: str
    softens: bool
    decides: bool
    labelled: bool = True
    kept: int = 0

    @property
    def reduced(self) -> bool:
        """Whether what is kept of a row are sums over its answers, so that nothing is left to calibrate."""
        return self.kept > 0

    @property
    def calibrates(self) -> bool:
        """Whether a temperature is fitted on validation, and confidence measured."""
        return self.softens and not self.reduced

    def predicted(self, logits: Any, thresholds: Sequence[float] | Array | None = None) -> Array:
        """What logits [N, K] say, or those of words.

        Args:
            logits: of any scale.
            thresholds: [K] probabilities from which each of several labels holds, a half unless given; of spans one,
                `passages.no_answer_above`, 0 unless given.

        >>> LABELS.predicted(np.array([[1.0, -1.0]]), [0.9, 0.1]).tolist()
        [[0, 1]]
        """
        if self.name == "span":
            return best_spans(logits, above=thresholds[0] if thresholds else 0.0)
        if isinstance(logits, Ragged):
            return logits.holding(logits.values.argmax(axis=1)).rows()
        if self.name == "score":
            return logits[:, 0].astype(np.float64)
        if self.name == "label":
            return logits.argmax(axis=1)
        if self.name == "vector":
            return unit(logits)
        if self.reduced:
            return np.asarray(logits)
        wanted = np.full(logits.shape[1], 0.5) if thresholds is None else np.asarray(thresholds, np.float64)
        return (sigmoid(logits) >= wanted).astype(np.int64)


LABEL = Answer("label", softens=True, decides=True)
SCORE = Answer("score", softens=False, decides=False)
LABELS = Answer("labels", softens=True, decides=True)
TAGS = Answer("tags", softens=True, decides=True)
SPAN = Answer("span", softens=True, decides=True)
VECTOR = Answer("vector", softens=False, decides=False, labelled=False)
MASKED = Answer("masked", softens=True, decides=False, kept=3)
NEXT = Answer("next", softens=True, decides=False, kept=4)
ANSWERS: Mapping[str, Answer] = MappingProxyType(
    {one.name: one for one in (LABEL, SCORE, LABELS, TAGS, SPAN, VECTOR, MASKED, NEXT)}
)


@dataclass(frozen=True)
class Scale:
    """How scores of the data became numbers around 0: ``(score - mean) / std``, fitted on training rows.

    Attributes:
        mean: of the training scores.
        std: of the training scores; above 0.
        low: the least of them.
        high: the greatest.

    >>> Scale(2.0, 0.5, 0.0, 5.0).back(np.array([1.0])).tolist()
    [2.5]
    """

    mean: float
    std: float
    low: float
    high: float

    @classmethod
    def of(cls, scores: npt.ArrayLike) -> Scale:
        """The scale of some scores; those that are all alike keep a deviation of 1."""
        found = np.asarray(scores, np.float64)
        return cls(float(found.mean()), float(found.std()) or 1.0, float(found.min()), float(found.max()))

    def there(self, scores: npt.ArrayLike) -> Array:
        """float32: scores as labels."""
        return ((np.asarray(scores, np.float64) - self.mean) / self.std).astype(np.float32)

    def back(self, numbers: npt.ArrayLike) -> Array:
        """float64: what a model says, as scores of the data."""
        return np.asarray(numbers, np.float64) * self.std + self.mean


def answer_named(name: str) -> Answer:
    """The answer of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in ANSWERS:
        raise UsageError(f'no answer "{name}": {choices(name, ANSWERS)}')
    return ANSWERS[name]


def known(labels: Array) -> npt.NDArray[np.bool_]:
    """bool [N]: which rows have a label, whatever the answer.

    >>> known(np.array([0.5, np.nan])).tolist(), known(np.array([[0, 1], [-1, -1]])).tolist()
    ([True, False], [True, False])
    """
    if labels.dtype.kind == "f":
        return np.isfinite(labels if labels.ndim == 1 else labels[:, 0])
    if labels.dtype.kind == "O":
        return np.array([one is not None for one in labels], bool)
    return (labels if labels.ndim == 1 else labels[:, 0]) >= 0


def blank(labels: Array, rows: int) -> Array:
    """Labels for so many rows that have none, of the kind of these labels.

    >>> blank(np.array([0, 1]), 2).tolist(), blank(np.zeros((1, 3), np.int64), 1).tolist()
    ([-1, -1], [[-1, -1, -1]])
    """
    if labels.dtype.kind == "f":
        return np.full((rows, *labels.shape[1:]), np.nan, np.float32)
    if labels.dtype.kind == "O":
        return as_rows([None] * rows)
    return np.full((rows, *labels.shape[1:]), -1, np.int64)


def agree(ours: Array, theirs: Array) -> npt.NDArray[np.bool_]:
    """bool [N]: which rows two sets of labels or predictions say the same of; a word that nobody spoke of is O.

    A span is what a label says where its text is one of the label's (`understudy.passages.graded`: exact match).

    >>> agree(np.array([0, 1]), np.array([0, 2])).tolist(), agree(np.array([[0, 1]]), np.array([[0, 0]])).tolist()
    ([True, False], [False])
    """
    if ours.dtype.kind != theirs.dtype.kind:
        golds, spans = (theirs, ours) if theirs.dtype.kind == "O" else (ours, theirs)
        if golds.dtype.kind == "O":
            return np.array([one.scores(*span)[0] for one, span in zip(golds, spans.tolist(), strict=True)], bool)
    if ours.dtype.kind == "O":
        return np.array([_alike(a, b) for a, b in zip(ours, theirs, strict=True)], bool)
    same = np.asarray(ours == theirs)
    return same if same.ndim == 1 else np.asarray(same.all(axis=1))


def _alike(ours: Any, theirs: Any) -> bool:
    if not isinstance(ours, np.ndarray):
        return bool(ours == theirs)
    most = min(len(ours), len(theirs))
    return bool(np.array_equal(ours[:most], theirs[:most]) and not ours[most:].any() and not theirs[most:].any())


def sigmoid(logits: npt.ArrayLike) -> Array:
    """1 / (1 + exp(-logits)), fp64, without overflow."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, np.float64)))


def unit(vectors: npt.ArrayLike) -> Array:
    """float32 [..., D]: the vectors at length 1; zeros stay zeros.

    >>> unit([[3.0, 4.0], [0.0, 0.0]]).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    found = np.asarray(vectors, np.float32)
    length = np.linalg.norm(found, axis=-1, keepdims=True)
    return np.divide(found, length, out=np.zeros_like(found), where=length > 0)
