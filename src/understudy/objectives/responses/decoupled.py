"""Decoupled distillation: what the teacher says of the label, and what it says of all others, weighed apart."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from understudy.errors import UsageError
from understudy.objectives.numerics import (
    check_labels,
    expectation,
    labels_out_of_range,
    log_probabilities,
    log_tail,
    number,
    pair,
)
from understudy.objectives.term import ZERO, Needs, Term, Weight, support_of, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["decoupled_kd", "decoupled_kl"]

_LOGITS = frozenset({"logits"})


def decoupled_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 1.0,
    support: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """KL(teacher || student) in its two parts: the label against all others, and the others among themselves.

    Formula: target = KL([P_label, 1 - P_label] || [Q_label, 1 - Q_label]); non_target = KL(P' || Q') with P', Q'
    renormalised on the labels that are not the row's; KL(P || Q) = target + (1 - P_label) * non_target. Both at least
    0; 0 with gradient 0 at equality. With two labels non_target is always 0. No ``1 - p`` is ever computed, so that a
    certain teacher costs no precision.

    Args:
        student_logits: [..., K].
        teacher_logits: [..., K].
        labels: [...], integers; -1 means that there is none, and both parts are 0 there.
        temperature: in (0, inf); its square is not here.
        support: bool [K], the labels that the teacher knows. Where it does not know the row's, target is 0.

    Returns:
        (target, non_target), [...] each, in nats.

    >>> target, non_target = decoupled_kl(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]), torch.tensor(0))
    >>> target, non_target
    (tensor(0.9957), tensor(0.4621))

    Raises:
        UsageError: temperature is not in (0, inf), shapes differ, or labels are of another shape, kind or range.

    Source: Zhao et al. 2022, arXiv 2203.08679, section 3.1, equations 5 and 6.
    """
    head = label_mask(student_logits, labels)
    student, teacher = pair(student_logits, teacher_logits, support=support)
    if support is not None:
        head = head[..., support]
    log_q, log_p = log_probabilities(student, temperature), log_probabilities(teacher, temperature)
    binary_q, binary_p = (torch.cat([log_tail(log, ~head), log_tail(log, head)], dim=-1) for log in (log_q, log_p))
    # From the logits again: beside a label that takes everything, log-probabilities of the others have lost digits.
    other_q, other_p = _others(student, head, temperature), _others(teacher, head, temperature)
    target, non_target = expectation(binary_p, binary_p - binary_q), expectation(other_p, other_p - other_q)
    none = labels < 0
    return target.masked_fill(none, 0.0), non_target.masked_fill(none, 0.0)


def decoupled_kd(
    temperature: float = 4.0,
    weight: Weight = 1.0,
    *,
    target: float = 1.0,
    non_target: float = 8.0,
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """The student must rank the other labels as the teacher does, however sure the teacher is of the right one.

    Formula: temperature^2 * (target * target part + non_target * non-target part), the parts of `decoupled_kl`. In
    plain KL the second part weighs 1 - P_label, next to nothing where the teacher is sure. 0 with gradient 0 at
    equality. Rows without a label do not count.

    Args:
        temperature: in (0, inf).
        weight: at least 0, or a schedule.
        target: weight of the label against the rest, at least 0; the paper's alpha.
        non_target: weight of the rest among itself, at least 0; the paper's beta.
        of: the output that learns.
        against: the source that teaches; where it knows only some labels, both are renormalised on those.
        name: how logs call the term.

    >>> decoupled_kd().per
    'labelled'

    Raises:
        UsageError: a number is out of range or both parts weigh 0; and when it is computed (the first time before
            step 0): no labels in the batch, or only two labels, where there are no others to rank.

    Source: Zhao et al. 2022, arXiv 2203.08679, equation 7; it also warms the weight up (`schedules.linear`).
    """
    number("temperature", temperature)
    for part, size in (("target", target), ("non_target", non_target)):
        number(part, size, closed=True)
    if not target and not non_target:
        raise UsageError("wanted target or non_target above 0, got 0 for both: nothing would be learnt")
    return Term(
        name or title("decoupled_kd", of, against),
        partial(_decoupled_kd, temperature=temperature, target=target, non_target=non_target),
        weight,
        per="labelled",
        needs=Needs(_LOGITS, _LOGITS),
        of=of,
        against=against,
        formula=f"temperature^2 * ({target:g} * target + {non_target:g} * non-target part of KL({against}.logits || "
        f"{of}.logits)), temperature = {temperature:g}",
        source="Zhao et al. 2022, arXiv 2203.08679",
    )


def label_mask(logits: Tensor, labels: Tensor) -> Tensor:
    """True at each position's own label, bool [..., K]; a position without one (-1) has it at label 0."""
    check_labels(logits, labels)
    # On an accelerator its own assertion says so: to look would stall the step.
    if labels.device.type == "cpu" and bool(((labels < -1) | (labels >= logits.shape[-1])).any()):
        raise UsageError(labels_out_of_range(logits, labels))
    chosen = labels.long() + (labels == -1)
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, chosen[..., None], True)


def _decoupled_kd(
    outputs: Outputs, targets: Targets, batch: Batch, *, temperature: float, target: float, non_target: float
) -> Tensor:
    if batch.labels is None:
        raise UsageError("decoupled_kd: wanted a batch with labels (-1 where a row has none), got a batch without")
    student, support = outputs["logits"], support_of(targets)
    known = student.shape[-1] if support is None else int(support.sum())
    if non_target and known < 3:
        raise UsageError(
            f"decoupled_kd: wanted at least 3 labels, got {known}: with two labels the non-target part is always 0, "
            f"so use soft_labels (or non_target=0)"
        )
    parts = decoupled_kl(student, targets["logits"], batch.labels, temperature=temperature, support=support)
    # A part of weight 0 is left out: it may be infinite.
    weighed = [size * part for size, part in zip((target, non_target), parts, strict=True) if size]
    return temperature**2 * torch.stack(weighed).sum(dim=0)


def _others(logits: Tensor, head: Tensor, temperature: float) -> Tensor:
    """Log-probabilities of the labels outside ``head``, renormalised; -inf inside, and everywhere if there are none."""
    rest = logits.masked_fill(head, -math.inf)
    nothing = (rest == -math.inf).all(dim=-1, keepdim=True)
    return log_probabilities(rest.masked_fill(nothing, 0.0), temperature).masked_fill(head | nothing, -math.inf)


FORMULAS: tuple[tuple[str, str, str, str], ...] = (
    (
        "decoupled_kl",
        "KL of the label against the rest, KL of the rest among itself",
        ZERO,
        "Zhao et al. 2022, arXiv 2203.08679",
    ),
)
LISTED: tuple[tuple[Term, str], ...] = ((decoupled_kd(), ZERO),)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
