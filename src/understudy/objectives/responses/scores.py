"""Answers that are not one label of several: many labels at once, scores, and a teacher that nobody trained."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy.errors import UsageError
from understudy.objectives.distances import squared_error
from understudy.objectives.divergences import forward_kl
from understudy.objectives.numerics import number, pair, wide
from understudy.objectives.responses.decoupled import label_mask
from understudy.objectives.term import ZERO, Needs, Term, Weight, support_of, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["binary_kl", "multi_label", "regression", "virtual_teacher"]

_LOGITS = frozenset({"logits"})


def binary_kl(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, support: Tensor | None = None
) -> Tensor:
    """KL(teacher || student) of independent yes-or-no labels: [..., K] -> [...], mean over the labels, in nats.

    Formula: 1/K sum_k P_k log(P_k / Q_k) + (1 - P_k) log((1 - P_k) / (1 - Q_k)), P = sigmoid(teacher / temperature),
    Q = sigmoid(student / temperature). At least 0; 0 with gradient 0 at equality. Labels that are -inf in both, or that
    ``support`` (bool, [K]) leaves out, do not count, in K either; infinite where the student alone excludes one.

    >>> binary_kl(torch.tensor([0.0, 2.0]), torch.tensor([0.0, -1.0]))
    tensor(0.5034)

    Raises:
        UsageError: temperature is not in (0, inf), or the shapes differ.

    Source: Yang et al. 2023, arXiv 2308.06453 (multi-label logits distillation), which sums over the labels; the mean
    keeps a weight from depending on how many there are, and is torch's convention for the hard labels beside it.
    """
    number("temperature", temperature)
    student, teacher = pair(student_logits, teacher_logits, support=support)
    absent = (student == -math.inf) & (teacher == -math.inf)
    student, teacher = (logits.masked_fill(absent, 0.0) / temperature for logits in (student, teacher))
    cost = torch.zeros_like(student)
    for sign in (1.0, -1.0):
        share, excess = torch.sigmoid(sign * teacher), F.logsigmoid(sign * teacher) - F.logsigmoid(sign * student)
        cost = cost + share * torch.where(share > 0, excess, 0.0)  # before the product: 0 * inf is 0
    return cost.sum(dim=-1) / (~absent).sum(dim=-1).clamp(min=1)


def multi_label(
    temperature: float = 1.0,
    weight: Weight = 1.0,
    *,
    per: str = "examples",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """Where several labels can hold at once, each of the student's probabilities must be the teacher's.

    Formula: temperature^2 * `binary_kl` (mean over the labels that count). 0 with gradient 0 at equality.

    Args:
        temperature: in (0, inf).
        weight: at least 0, or a schedule.
        per: the mask that is counted: ``examples`` for logits [N, K], ``tokens`` for [N, L, K].
        of: the output that learns.
        against: the source that teaches; where it knows only some labels, it teaches those.
        name: how logs call the term.

    >>> multi_label(2.0).formula
    'temperature^2 * binary_kl(student.logits, teacher.logits), temperature = 2'

    Raises:
        UsageError: temperature or weight cannot be used.

    Source: Yang et al. 2023, arXiv 2308.06453, its logits term, there summed over labels and at temperature 1.
    """
    number("temperature", temperature)
    return Term(
        name or title("multi_label", of, against),
        partial(_multi_label, temperature=temperature),
        weight,
        per=per,
        needs=Needs(_LOGITS, _LOGITS),
        of=of,
        against=against,
        formula=f"temperature^2 * binary_kl({of}.logits, {against}.logits), temperature = {temperature:g}",
        source="Yang et al. 2023, arXiv 2308.06453",
    )


def regression(
    weight: Weight = 1.0,
    *,
    per: str = "examples",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """The student's scores must be the teacher's: a similarity, a price, a position.

    Formula: 1/D sum_d (student.logits - teacher.logits)^2, signal ``logits`` [N, D], or [N] for one score. The same
    mathematics as `logit_mse`, under the name of the task. No temperature: scores are not softened. At least 0; 0 with
    gradient 0 at equality.

    Args:
        weight: at least 0, or a schedule. Beside hard scores, remember that this is in units of score squared.
        per: the mask that is counted: ``examples`` for scores [N] or [N, D], ``tokens`` for [N, L] or [N, L, D].
        of: the output that learns.
        against: the source that teaches.
        name: how logs call the term.

    >>> regression(0.5).name
    'regression'

    Raises:
        UsageError: weight is negative, or (when it is computed) the scores differ in number.

    Source: Ba, Caruana 2014, arXiv 1312.6184. Chen et al. 2017 (NeurIPS, object detection) count the
    teacher only where the student is worse than it, because scores of a teacher have no bound; that is not done here.
    """
    return Term(
        name or title("regression", of, against),
        partial(_regression, per=per),
        weight,
        per=per,
        needs=Needs(_LOGITS, _LOGITS),
        of=of,
        against=against,
        formula=f"mean over scores of ({of}.logits - {against}.logits)^2",
        source="Ba, Caruana 2014, arXiv 1312.6184",
    )


def virtual_teacher(
    weight: Weight = 1.0,
    *,
    certainty: float = 0.9,
    temperature: float = 20.0,
    of: str = "student",
    name: str | None = None,
) -> Term:
    """The student must say the label as a made-up teacher would: surely, and all other labels alike.

    Formula: temperature^2 * KL(V || Q), V proportional to v^(1 / temperature), v = certainty on the label and
    (1 - certainty) / (K - 1) on each other that exists, Q = softmax(student / temperature). 0 with gradient 0 for a
    student that says v. Needs labels, and no teacher; rows without a label do not count.

    Args:
        weight: at least 0, or a schedule.
        certainty: in (0, 1); the paper's a, at least 0.9 there.
        temperature: in (0, inf); at least 20 in the paper.
        of: the output that learns.
        name: how logs call the term.

    >>> virtual_teacher().against
    'labels'

    Raises:
        UsageError: a number is out of range, or (when it is computed) the batch has no labels.

    Source: Yuan et al. 2020 (Tf-KD_reg), arXiv 1909.11723, equations 8 and 9, which have no temperature^2; it keeps
    the size of the gradient, as in `soft_labels`. The authors' code differs from them: it applies a softmax to v
    itself, does not soften the student, and averages over labels.
    """
    number("certainty", certainty, high=1.0)
    number("temperature", temperature)
    return Term(
        name or title("virtual_teacher", of, "labels", usual="labels"),
        partial(_virtual_teacher, certainty=certainty, temperature=temperature),
        weight,
        per="labelled",
        needs=Needs(learner=_LOGITS),
        of=of,
        against="labels",
        formula=f"temperature^2 * KL({certainty:g} on the label, the rest alike || {of}.logits), "
        f"temperature = {temperature:g}",
        source="Yuan et al. 2020 (Tf-KD_reg), arXiv 1909.11723",
    )


def _multi_label(outputs: Outputs, targets: Targets, batch: Batch, *, temperature: float) -> Tensor:
    support = support_of(targets)
    return temperature**2 * binary_kl(outputs["logits"], targets["logits"], temperature=temperature, support=support)


def _regression(outputs: Outputs, targets: Targets, batch: Batch, *, per: str) -> Tensor:
    mask = batch.masks[per]
    # One score may come without an axis of its own, from either side: [N] less [N, 1] would be [N, N].
    student, teacher = (
        scores[..., None] if scores.ndim == mask.ndim else scores for scores in (outputs["logits"], targets["logits"])
    )
    return squared_error(student, teacher, support=support_of(targets))


def _virtual_teacher(
    outputs: Outputs, targets: Targets, batch: Batch, *, certainty: float, temperature: float
) -> Tensor:
    if batch.labels is None:
        raise UsageError("virtual_teacher: wanted a batch with labels (-1 where a row has none), got a batch without")
    student = wide(outputs["logits"])
    head = label_mask(student, batch.labels)
    others = (student != -math.inf) & ~head
    even = math.log1p(-certainty) - others.sum(dim=-1, keepdim=True).clamp(min=1).to(student.dtype).log()
    made_up = torch.where(others, even, -math.inf).masked_fill(head, math.log(certainty))
    value = temperature**2 * forward_kl(student, made_up, temperature=temperature)
    return value.masked_fill(batch.labels < 0, 0.0)


FORMULAS: tuple[tuple[str, str, str, str], ...] = (
    (
        "binary_kl",
        "mean over labels of KL(P_k, 1 - P_k || Q_k, 1 - Q_k), P and Q sigmoids",
        ZERO,
        "Yang et al. 2023, arXiv 2308.06453",
    ),
)
LISTED: tuple[tuple[Term, str], ...] = (
    (multi_label(), ZERO),
    (regression(), ZERO),
    (virtual_teacher(), "none: 0 only for a student that says the made-up distribution"),
)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
