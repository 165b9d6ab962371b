"""What the data itself says where it is no one label of several: a score, or several labels at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy.errors import UsageError
from understudy.objectives.numerics import wide
from understudy.objectives.term import Needs, Term, Weight, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["hard_multi_label", "hard_scores"]

_LOGITS = frozenset({"logits"})


def hard_scores(weight: Weight = 1.0, *, of: str = "student", name: str | None = None) -> Term:
    """The student's score must be the data's; rows without one (NaN, mask 0) do not count.

    Formula: (student.logits - score)^2, logits [N] or [N, 1]. At least 0; 0 with gradient 0 for the score itself. The
    tasks of this package give scores of mean 0 and deviation 1.

    Args:
        weight: at least 0, or a schedule.
        of: the output that learns.
        name: how logs call the term.

    >>> hard_scores(0.3).per
    'labelled'

    Raises:
        UsageError: weight is negative, or (when it is computed) there is more than one score, or none in the batch.

    Source: squared error, as Ba, Caruana 2014, arXiv 1312.6184, have it for what a teacher says.
    """
    return Term(
        name or title("hard_scores", of, "labels", usual="labels"),
        _hard_scores,
        weight,
        per="labelled",
        needs=Needs(learner=_LOGITS),
        of=of,
        against="labels",
        formula=f"({of}.logits - score)^2",
        source="Ba, Caruana 2014, arXiv 1312.6184",
    )


def hard_multi_label(weight: Weight = 1.0, *, of: str = "student", name: str | None = None) -> Term:
    """Where several labels can hold at once, the student must say of each whether it does; rows without do not count.

    Formula: mean over labels of the binary cross-entropy of sigmoid(student.logits), labels [N, K] of 0 and 1. At
    least 0; no point of equality.

    Args:
        weight: at least 0, or a schedule.
        of: the output that learns.
        name: how logs call the term.

    >>> hard_multi_label().formula
    'mean over labels of binary cross_entropy(student.logits, label)'

    Raises:
        UsageError: weight is negative, or (when it is computed) labels and logits differ in shape.

    Source: Yang et al. 2023, arXiv 2308.06453, beside its logits term.
    """
    return Term(
        name or title("hard_multi_label", of, "labels", usual="labels"),
        _hard_multi_label,
        weight,
        per="labelled",
        needs=Needs(learner=_LOGITS),
        of=of,
        against="labels",
        formula=f"mean over labels of binary cross_entropy({of}.logits, label)",
        source="Yang et al. 2023, arXiv 2308.06453",
    )


def _hard_scores(outputs: Outputs, targets: Targets, batch: Batch) -> Tensor:
    logits = wide(outputs["logits"])
    if batch.labels is None or logits.numel() != batch.labels.numel():
        got = "a batch without labels" if batch.labels is None else f"{list(batch.labels.shape)}"
        raise UsageError(f"hard_scores: wanted one score for each of logits {list(logits.shape)}, got {got}")
    scores = batch.labels.to(logits.dtype)
    missing = ~torch.isfinite(scores)
    return (logits.reshape(scores.shape) - scores.masked_fill(missing, 0.0)).square().masked_fill(missing, 0.0)


def _hard_multi_label(outputs: Outputs, targets: Targets, batch: Batch) -> Tensor:
    logits = wide(outputs["logits"])
    if batch.labels is None or batch.labels.shape != logits.shape:
        got = "a batch without labels" if batch.labels is None else f"{list(batch.labels.shape)}"
        raise UsageError(f"hard_multi_label: wanted 0 or 1 for each of logits {list(logits.shape)}, got {got}")
    missing = batch.labels < 0
    cost = F.binary_cross_entropy_with_logits(logits, batch.labels.clamp(min=0).to(logits.dtype), reduction="none")
    return cost.masked_fill(missing, 0.0).mean(dim=-1)


LISTED: tuple[tuple[Term, str], ...] = (
    (hard_scores(), "0, gradient 0, for the score of the data itself"),
    (hard_multi_label(), "none: 0 only for a certain and right student"),
)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
