"""What the teacher says up to its scale: correlations of answers, and logits as z-scores."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.objectives.numerics import log_probabilities, number, pair, wide
from understudy.objectives.responses.labels import soft_labels
from understudy.objectives.term import ZERO, Needs, Term, Weight, support_of, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["correlation_distance", "dist", "logit_standardisation", "standardise"]

Said = TypeVar("Said", bound=Outputs)
_LOGITS = frozenset({"logits"})


def correlation_distance(student: Tensor, teacher: Tensor, *, support: Tensor | None = None) -> Tensor:
    """How far two vectors are from rising and falling together: [..., D] and [..., D] -> [...], fp32 or better.

    Formula: 1 - Pearson correlation over the last axis. In [0, 2]; 0 with gradient 0 at equality, and for any
    teacher = a * student + b with a > 0. A vector that does not vary has no correlation: the distance is 1 with
    gradient 0 where one does not, 0 where neither does. Two numbers correlate by 1 or -1 always, with gradient 0.
    Columns that are -inf in both (a padded vocabulary) do not count; ``support`` keeps those that the source knows.

    >>> correlation_distance(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 20.0, 0.0]))
    tensor(1.5000)

    Raises:
        UsageError: the shapes differ.

    Source: Huang et al. 2022, arXiv 2205.10536. The authors' code adds 1e-8 to the norms, which keeps it from 0 at
    equality where numbers are small; here a vector is constant only if it is so within rounding.
    """
    student, teacher = pair(student, teacher, support=support)
    return _distance(student, teacher, ~((student == -math.inf) & (teacher == -math.inf)))


def standardise(logits: Tensor, *, support: Tensor | None = None) -> Tensor:
    """Logits as z-scores over the labels: [..., K] -> [..., K], fp32 or better.

    Formula: (z - mean z) / std z over the labels that exist (not -inf) and that ``support`` (bool, [K]) keeps; the
    others are -inf. Mean 0, standard deviation 1, at most sqrt(K - 1) in size. Logits that do not vary become 0, with
    gradient 0; two logits are 1 and -1 always.

    >>> standardise(torch.tensor([4.0, 0.0, 0.0, 0.0, 0.0]))
    tensor([ 2.0000, -0.5000, -0.5000, -0.5000, -0.5000])

    Source: Sun et al. 2024, arXiv 2403.01427, algorithm 1, temperature aside. As there, the variance is over K; the
    authors' code has K - 1, as if its temperature were larger by sqrt(K / (K - 1)).
    """
    logits = wide(logits)
    exists = logits != -math.inf
    if support is not None:
        exists = exists & support
    unit, _ = _unit(logits, exists)
    return (unit * exists.sum(dim=-1, keepdim=True).to(unit.dtype).sqrt()).masked_fill(~exists, -math.inf)


def dist(
    temperature: float = 1.0,
    weight: Weight = 1.0,
    *,
    inter: float = 1.0,
    intra: float = 1.0,
    per: str = "examples",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """The student's probabilities must correlate with a strong teacher's, not equal them.

    Formula: temperature^2 * (inter * mean over rows of distance over labels + intra * mean over labels of distance
    over rows), the `correlation_distance` of softened probabilities. 0 with gradient 0 at equality. A correlation does
    not shrink as distributions flatten, so unlike a KL the gradient grows with temperature^2; the factor is the
    authors'. A student that says exactly the same of every label has no direction to learn: add hard labels.

    Args:
        temperature: in (0, inf).
        weight: at least 0, or a schedule.
        inter: weight of the correlation over the labels of each row, at least 0; the paper's beta.
        intra: weight of the correlation over the rows for each label, at least 0; the paper's gamma. It couples rows:
            only those that count take part, in micro-batches of at least three (two correlate by 1 or -1, one has
            distance 0). Without it the term is not coupled.
        per: the mask that is counted: ``examples`` for logits [N, K], ``tokens`` for [N, L, K].
        of: the output that learns.
        against: the source that teaches; where it knows only some labels, both are renormalised on those.
        name: how logs call the term.

    >>> dist().coupled, dist(intra=0).coupled
    (True, False)

    Raises:
        UsageError: a number is out of range or both parts weigh 0; and when it is computed (the first time before
            step 0): two labels, over which every row correlates by 1 or -1.

    Source: Huang et al. 2022 (DIST), arXiv 2205.10536.
    """
    number("temperature", temperature)
    for part, size in (("inter", inter), ("intra", intra)):
        number(part, size, closed=True)
    if not inter and not intra:
        raise UsageError("wanted inter or intra above 0, got 0 for both: nothing would be learnt")
    return Term(
        name or title("dist", of, against),
        partial(_dist, temperature=temperature, inter=inter, intra=intra, per=per),
        weight,
        per=per,
        needs=Needs(_LOGITS, _LOGITS),
        of=of,
        against=against,
        coupled=bool(intra),
        formula=f"temperature^2 * ({inter:g} * inter + {intra:g} * intra), 1 - correlation of softmax({of}.logits) and "
        f"softmax({against}.logits) over labels and over rows, temperature = {temperature:g}",
        source="Huang et al. 2022 (DIST), arXiv 2205.10536",
    )


def logit_standardisation(term: Term, *, name: str | None = None) -> Term:
    """A term on logits, freed from their scale: both sides as z-scores first, whatever the term does with them.

    Formula: term of (z - mean z) / std z over the labels, for student and teacher, see `standardise`; the term then
    divides by its temperature, and keeps its weight, mask and temperature^2. What the term says of its value at
    equality holds, and any student whose logits are a positive multiple of the teacher's, plus a constant, is equal.

    Args:
        term: reads ``logits`` of what learns and of what teaches.
        name: how logs call the result.

    >>> from understudy.objectives import decoupled_kd
    >>> logit_standardisation(decoupled_kd(2.0, 0.5)).weight
    0.5

    Raises:
        UsageError: the term does not read logits on both sides; and when it is computed (the first time before
            step 0): two labels, whose z-scores are 1 and -1 always.

    Source: Sun et al. 2024, arXiv 2403.01427, algorithm 2.
    """
    for side, needs in (("the learner", term.needs.learner), ("the source", term.needs.source)):
        if "logits" not in needs:
            raise UsageError(
                f'logit_standardisation: wanted a term that reads logits of learner and source, got "{term.name}", '
                f"which reads {', '.join(sorted(needs)) or 'nothing'} of {side}: wrap soft_labels or the like"
            )
    return replace(
        term,
        name=name or title("logit_standardisation", term.of, term.against),
        value=partial(_standardised, value=term.value),
        formula=f"{term.formula}, logits as z-scores over labels",
        source=f"Sun et al. 2024, arXiv 2403.01427; {term.source}",
    )


def _dist(
    outputs: Outputs, targets: Targets, batch: Batch, *, temperature: float, inter: float, intra: float, per: str
) -> Tensor:
    student, teacher = pair(outputs["logits"], targets["logits"], support=support_of(targets))
    if inter and student.shape[-1] < 3:
        raise UsageError(
            f"dist: wanted at least 3 labels, got {student.shape[-1]}: over two labels every row correlates by 1 or "
            f"-1 and teaches nothing, so use soft_labels (or inter=0)"
        )
    counted = batch.masks[per] != 0
    if counted.shape != student.shape[:-1]:
        raise UsageError(
            f'dist: wanted logits with one axis more than mask "{per}" {list(counted.shape)}, got '
            f'{list(student.shape)}: per="examples" is for [N, K], per="tokens" for [N, L, K]'
        )
    exists = ~((student == -math.inf) & (teacher == -math.inf))
    q, p = (log_probabilities(logits, temperature).exp() for logits in (student, teacher))
    value = torch.zeros_like(q[..., 0])
    if inter:
        value = value + inter * _distance(q, p, exists)
    if intra:
        value = value + intra * _over_rows(q, p, exists & counted[..., None])
    return temperature**2 * torch.where(counted, value, 0.0)


def _over_rows(q: Tensor, p: Tensor, exists: Tensor) -> Tensor:
    """Mean over the labels that exist of the distance over rows: a scalar."""
    q, p, exists = (tensor.flatten(0, -2).t() for tensor in (q, p, exists))
    labels = exists.any(dim=-1)  # the distance of a label that does not exist is 0
    return _distance(q, p, exists).sum() / labels.sum().clamp(min=1)


def _standardised(
    outputs: Outputs,
    targets: Targets,
    batch: Batch,
    *,
    value: Callable[..., Tensor],
    connector: nn.Module | None = None,
) -> Tensor:
    support = support_of(targets)
    known = outputs["logits"].shape[-1] if support is None else int(support.sum())
    if known < 3:
        raise UsageError(
            f"logit_standardisation: wanted at least 3 labels, got {known}: the z-scores of two logits are always 1 "
            f"and -1, so use the term without it"
        )
    extra = {} if connector is None else {"connector": connector}
    return value(_with_z_scores(outputs, support), _with_z_scores(targets, support), batch, **extra)


def _with_z_scores(said: Said, support: Tensor | None) -> Said:
    # A layer over the signals: copied into a dict, those that the term does not read would be computed too.
    below = cast("MutableMapping[str, Any]", said.signals)
    return replace(said, signals=ChainMap({"logits": standardise(said["logits"], support=support)}, below))


def _distance(x: Tensor, y: Tensor, exists: Tensor) -> Tensor:
    (x, x_flat), (y, y_flat) = _unit(x, exists), _unit(y, exists)
    # 1 - x . y of unit vectors, without the cancellation near equality.
    distance = 0.5 * (x - y).square().sum(dim=-1)
    flat = (x_flat | y_flat).squeeze(-1)
    return torch.where(flat, (x_flat ^ y_flat).squeeze(-1).to(distance.dtype), distance)


def _unit(values: Tensor, exists: Tensor) -> tuple[Tensor, Tensor]:
    """Values less their mean, at length 1 (0 where they do not vary); and where they do not, [..., 1]."""
    values = values.masked_fill(~exists, 0.0)
    mean = values.sum(dim=-1, keepdim=True) / exists.sum(dim=-1, keepdim=True).clamp(min=1)
    centred = (values - mean).masked_fill(~exists, 0.0)
    # Squares of small probabilities would underflow. The scale cancels, in the slope too: no gradient through it.
    scale = centred.detach().abs().amax(dim=-1, keepdim=True)
    flat = scale <= 8 * torch.finfo(values.dtype).eps * values.detach().abs().amax(dim=-1, keepdim=True)
    scaled = (centred / scale.masked_fill(flat, 1.0)).masked_fill(flat, 0.0)
    return scaled / scaled.square().sum(dim=-1, keepdim=True).masked_fill(flat, 1.0).sqrt(), flat


FORMULAS: tuple[tuple[str, str, str, str], ...] = (
    ("correlation_distance", "1 - correlation of student and teacher", ZERO, "Huang et al. 2022, arXiv 2205.10536"),
)
LISTED: tuple[tuple[Term, str], ...] = ((dist(), ZERO), (logit_standardisation(soft_labels()), ZERO))
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
