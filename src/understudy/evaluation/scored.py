"""What one model said about the test rows, calibrated on validation: every model of a comparison alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from understudy.answers import LABEL, SPAN, TAGS, VECTOR, Answer, agree, known, sigmoid
from understudy.errors import DataError, NonFiniteError
from understudy.passages import NEVER, ends_of, no_answer_above, shares, sureness
from understudy.ragged import Ragged
from understudy.statistics import best_thresholds, fit_binary_temperature, fit_temperature, softmax, threshold_for
from understudy.statistics.metrics import Array


@dataclass(frozen=True)
class Scored:
    """The scores that one model gave to rows with known labels.

    Attributes:
        name: of the model, for messages.
        logits: [N, K] scores; the decision values of a linear model serve as well. A label that the model does not
            know has -inf. Of tags a `Ragged`, a row of K for every word that the model had room for; of spans one of 2.
        labels: [N] in [0, K), or what another answer wants (`understudy.answers`).
        temperature: fitted on validation; see :func:`calibrated`.
        threshold: calibrated confidence below which the model abstains, chosen on validation; None where it never does.
        answer: what the logits mean.
        thresholds: of each of several labels, a half where None; of spans the one of "no answer", 0 where None. Chosen
            on validation.

    Raises:
        DataError: shapes that do not fit, or a row without a label.
        NonFiniteError: NaN or +inf among the logits, or a row of -inf only.
    """

    name: str
    logits: Any
    labels: Array
    temperature: float = 1.0
    threshold: float | None = None
    answer: Answer = LABEL
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        logits = self.logits if isinstance(self.logits, Ragged) else np.asarray(self.logits)
        labels = np.asarray(self.labels)
        self._refuse(logits, labels)
        flat = values_of(logits)
        bad = np.flatnonzero(~np.isfinite(flat.max(axis=1)))  # the maximum of a row with NaN is NaN
        if len(bad):
            bad = np.unique(logits.owners[bad]) if isinstance(logits, Ragged) else bad
            raise NonFiniteError(f"{self.name}: logits of {len(bad)} rows are not finite, first in row {bad[0]}")
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "labels", labels)

    def _refuse(self, logits: Any, labels: Array) -> None:
        if not len(labels) or not known(labels).all():
            bare = f"{int((~known(labels)).sum())} of {len(labels)} rows have no label" if len(labels) else "no row"
            raise DataError(f"{self.name}: wanted labelled rows, got {bare}: measure on labelled rows only")
        if self.answer in (TAGS, SPAN):
            if not isinstance(logits, Ragged) or len(logits) != len(labels):
                raise DataError(
                    f"{self.name}: wanted logits of the words of {len(labels)} rows, got {len(logits)} rows"
                )
            return
        fits = logits.ndim == 2 and len(logits) == len(labels)
        if fits and self.answer is LABEL:
            fits = int(labels.max()) < logits.shape[1]
        elif fits and self.answer.reduced:
            fits = logits.shape[1] == self.answer.kept
        elif fits and self.answer is not VECTOR:
            fits = logits.shape == (labels.shape if labels.ndim == 2 else (len(labels), 1))
        if not fits:
            most = f" up to {int(labels.max())}" if self.answer is LABEL else f" {list(labels.shape)}"
            raise DataError(
                f"{self.name}: wanted logits [rows, labels], got shape {logits.shape} "
                f"for {len(labels)} rows with labels{most}"
            )

    @cached_property
    def predicted(self) -> Array:
        """What the logits say; of one label of several the highest, the first of equals, int64 [N]; vectors [N, D]."""
        if not self.thresholds or self.answer is SPAN:
            return self.answer.predicted(self.logits, self.thresholds)
        return self.answer.predicted(self.logits / self.temperature, self.thresholds)

    @cached_property
    def correct(self) -> Array:
        """[N] bool: of several labels all of them, of tags every word's, of a span its text. A score is neither right
        nor wrong."""
        return agree(self.predicted, self.labels)

    @cached_property
    def probabilities(self) -> Array:
        """[N, K] fp64, calibrated: softmax(logits / temperature), or the sigmoid of each of several labels; of tags
        [M, K], those of each word; of spans [M, 2], those of each word to be the first and the last."""
        return self._shares(self.temperature)

    @cached_property
    def confidence(self) -> Array:
        """[N] fp64, how likely the row is right: the highest probability; of several labels and of tags the product, of
        a span that of both its ends."""
        sure = self._sureness(self.probabilities)
        if not self._by_word:
            return sure
        return np.exp(np.bincount(self.logits.owners, weights=np.log(sure), minlength=len(self.logits)))

    @cached_property
    def judged(self) -> tuple[Array, Array]:
        """Confidence and correctness of whatever is given a probability of its own: rows, or words that have tags."""
        if not self._by_word:
            return self.confidence, self.correct
        return self._sureness(self.probabilities), self._words_right

    @cached_property
    def judged_before(self) -> tuple[Array, Array]:
        """The same at temperature 1."""
        right = self._words_right if self._by_word else self.correct
        return self._sureness(self._shares(1.0)), right

    @property
    def _by_word(self) -> bool:
        return self.answer is TAGS

    @property
    def _words_right(self) -> Array:
        return np.asarray(self.logits.values.argmax(axis=1) == spoken(self.labels, self.logits))

    def _shares(self, temperature: float) -> Array:
        if self.answer is SPAN:
            return shares(self.logits, temperature).values
        flat = values_of(self.logits)
        return softmax(flat, temperature=temperature) if self.answer in (LABEL, TAGS) else sigmoid(flat / temperature)

    def _sureness(self, likely: Array) -> Array:
        if self.answer is SPAN:
            return sureness(self.logits.holding(likely), self.predicted)
        if self.answer in (LABEL, TAGS):
            return likely.max(axis=1)
        return np.where(self.predicted > 0, likely, 1 - likely).prod(axis=1)


def calibrated(
    name: str,
    logits: Any,
    labels: npt.ArrayLike,
    *,
    validation_logits: Any,
    validation_labels: npt.ArrayLike,
    target_accuracy: float | None = None,
    answer: Answer = LABEL,
) -> Scored:
    """The scores on test, with the temperature and the thresholds that validation asks for.

    Args:
        name: of the model.
        logits: [N, K] on test.
        labels: [N] on test; never used for fitting.
        validation_logits: [M, K].
        validation_labels: [M].
        target_accuracy: that kept rows are to reach on validation; None for a model that never abstains.
        answer: what the logits mean. Scores have neither temperature nor thresholds; several labels have one threshold
            each, and nobody abstains.
    """
    before = Scored(f"{name} on validation", validation_logits, np.asarray(validation_labels), answer=answer)
    temperature, thresholds = calibration_of(answer, before.logits, before.labels)
    threshold = None
    if target_accuracy is not None and answer is LABEL:
        confidence = softmax(before.logits, temperature=temperature).max(axis=1)
        threshold = threshold_for(confidence, before.correct, accuracy=target_accuracy)
    return Scored(name, logits, np.asarray(labels), temperature, threshold, answer, thresholds)


def values_of(logits: Any) -> Array:
    """Logits as they are, [N, K], or those of all words one after the other, [M, K]."""
    return np.asarray(logits.values if isinstance(logits, Ragged) else logits)


def spoken(labels: Array, logits: Ragged) -> Array:
    """int64 [M]: the tags of the words that logits are there for."""
    return Ragged.of([row[:count] for row, count in zip(labels, logits.lengths, strict=True)]).values


def calibration_of(answer: Answer, logits: Any, labels: Array) -> tuple[float, tuple[float, ...] | None]:
    """The temperature, and the thresholds of several labels or of "no answer", that some rows ask for, on validation.

    >>> calibration_of(LABEL, np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([0, 1]))[1]
    """
    if not answer.calibrates:
        return 1.0, None
    if answer is SPAN:
        both = np.moveaxis(logits.padded(NEVER), 2, 1)  # a start and an end to choose in every row
        above = no_answer_above(logits, labels)
        temperature = fit_temperature(both.reshape(-1, both.shape[2]), ends_of(labels).ravel())
        return temperature, None if above is None else (above,)
    if isinstance(logits, Ragged):
        return fit_temperature(logits.values, spoken(labels, logits)), None
    if answer is LABEL:
        return fit_temperature(logits, labels), None
    temperature = fit_binary_temperature(logits, labels)
    return temperature, tuple(best_thresholds(sigmoid(logits / temperature), labels).tolist())
