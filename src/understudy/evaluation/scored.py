"""What one model said about the test rows, calibrated on validation: every model of a comparison alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from understudy.errors import DataError, NonFiniteError
from understudy.statistics import fit_temperature, softmax, threshold_for
from understudy.statistics.metrics import Array, checked


@dataclass(frozen=True)
class Scored:
    """The scores that one model gave to rows with known labels.

    Attributes:
        name: of the model, for messages.
        logits: [N, K] scores; the decision values of a linear model serve as well. A label that the model does not
            know has -inf.
        labels: [N] in [0, K).
        temperature: fitted on validation; see :func:`calibrated`.
        threshold: calibrated confidence below which the model abstains, chosen on validation; None where it never does.

    Raises:
        DataError: shapes that do not fit, or a row without a label.
        NonFiniteError: NaN or +inf among the logits, or a row of -inf only.
    """

    name: str
    logits: Array
    labels: Array
    temperature: float = 1.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        logits, (labels,) = np.asarray(self.logits), checked(self.labels)
        if logits.ndim != 2 or len(logits) != len(labels) or int(labels.max()) >= logits.shape[1]:
            raise DataError(
                f"{self.name}: wanted logits [rows, labels], got shape {logits.shape} "
                f"for {len(labels)} rows with labels up to {int(labels.max())}"
            )
        bad = np.flatnonzero(~np.isfinite(logits.max(axis=1)))  # the maximum of a row with NaN is NaN
        if len(bad):
            raise NonFiniteError(f"{self.name}: logits of {len(bad)} rows are not finite, first in row {bad[0]}")
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "labels", labels)

    @cached_property
    def predicted(self) -> Array:
        """[N] int64, the label of the highest logit; the first of equals."""
        return self.logits.argmax(axis=1)

    @cached_property
    def correct(self) -> Array:
        """[N] bool."""
        return self.predicted == self.labels

    @cached_property
    def probabilities(self) -> Array:
        """[N, K] fp64, calibrated: softmax(logits / temperature)."""
        return softmax(self.logits, temperature=self.temperature)

    @cached_property
    def confidence(self) -> Array:
        """[N] fp64, the highest calibrated probability."""
        return self.probabilities.max(axis=1)

    @property
    def confidence_before(self) -> Array:
        """[N] fp64, the highest probability at temperature 1."""
        return softmax(self.logits).max(axis=1)


def calibrated(
    name: str,
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    validation_logits: npt.ArrayLike,
    validation_labels: npt.ArrayLike,
    target_accuracy: float | None = None,
) -> Scored:
    """The scores on test, with the temperature (and the abstain threshold) that validation asks for.

    Args:
        name: of the model.
        logits: [N, K] on test.
        labels: [N] on test; never used for fitting.
        validation_logits: [M, K].
        validation_labels: [M].
        target_accuracy: that kept rows are to reach on validation; None for a model that never abstains.
    """
    validation = Scored(f"{name} on validation", np.asarray(validation_logits), np.asarray(validation_labels))
    temperature = fit_temperature(validation.logits, validation.labels)
    threshold = None
    if target_accuracy is not None:
        confidence = softmax(validation.logits, temperature=temperature).max(axis=1)
        threshold = threshold_for(confidence, validation.correct, accuracy=target_accuracy)
    return Scored(name, np.asarray(logits), np.asarray(labels), temperature=temperature, threshold=threshold)
