"""What features say together: their information about the teacher's, their patterns, their neighbours."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.objectives.distances import unit
from understudy.objectives.divergences import forward_kl
from understudy.objectives.features.layers import (
    Layers,
    Pairs,
    apply,
    counted,
    linear,
    needed,
    paired,
    shown,
    sizes_met,
)
from understudy.objectives.numerics import wide
from understudy.objectives.relations.pairs import products
from understudy.objectives.term import ZERO, Needs, Term, Weight, signal, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["neuron_selectivity", "probabilistic", "variational_information"]

_START, _LEAST = 5.0, 1e-5  # variance of each channel at the start, and what keeps it above 0
_FAINT = 1e-7  # what keeps a similarity above 0, as in the authors' code


def variational_information(
    layers: Layers,
    weight: Weight = 1.0,
    *,
    per: str = "examples",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """The student's layers must make the teacher's predictable: the more they tell about them, the lower.

    Formula: mean over pairs, positions and channels of 1/2 ((mean(student.layer) - teacher.layer)^2 / variance +
    log variance), a lower bound on their mutual information, upside down and without its constant. The connector has
    the mean (a 1x1 convolution for maps, a linear map otherwise) and one variance for each of the teacher's channels,
    softplus(alpha) + 1e-5, 5 at the start. There always is one, so no value at equality; negative where the
    prediction is good (at least 1/2 log 1e-5, about -5.8).

    Args:
        layers: the student's layer -> the teacher's; maps of different sizes and ``per`` are as in `hints`.
        weight: at least 0, or a schedule; of the mean over pairs.
        per, of, against, name: as in `hints`.

    >>> variational_information({"layer2": "layer3"}).name
    'variational_information'

    Raises:
        UsageError: no pairs, weight is negative, or (when it is computed) positions that differ, or a padded sequence
            of which padding would count.

    Source: Ahn et al. 2019 (VID), arXiv 1904.05835, section 2. A departure: one 1x1 convolution, where the usual code
    has three with ReLUs between.
    """
    pairs = paired("variational_information", layers)
    return Term(
        name or title("variational_information", of, against),
        partial(_variational_information, pairs=pairs, per=per),
        weight,
        per=per,
        needs=needed(pairs),
        of=of,
        against=against,
        connector=partial(_gaussians, pairs=pairs),
        formula="mean over layers, positions and channels of "
        f"1/2 ((mean({of}.layer) - {against}.layer)^2 / variance + log variance): {shown(layers)}",
        source="Ahn et al. 2019 (VID), arXiv 1904.05835",
    )


def neuron_selectivity(
    layers: Layers,
    weight: Weight = 1.0,
    *,
    per: str = "examples",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """The student's neurons must be active where the teacher's are, whichever of them it is, and however many.

    Formula: mean over pairs of the squared maximum mean discrepancy between the student's and the teacher's patterns,
    kernel k(x, y) = (x . y)^2: mean k(s, s') + mean k(t, t') - 2 mean k(s, t). A pattern is one channel over all
    positions, of length 1 (one that is 0 everywhere stays so). In [0, 2]; 0 with gradient 0 at equality, and for the
    same patterns in another order or all of them repeated.

    Args:
        layers: the student's layer -> the teacher's, maps [N, C, H, W] (of two sizes the larger is average-pooled to
            that of the smaller) or [N, L, D], where padding is no position. Channels may differ: there is no connector.
        weight: at least 0, or a schedule; of the mean over pairs.
        per, of, against, name: as in `hints`; ``labelled`` is the other mask that fits.

    >>> neuron_selectivity({"layer4": "layer4"}).connector is None
    True

    Raises:
        UsageError: no pairs, weight is negative, or (when it is computed) layers of other shapes or positions.

    Source: Huang, Wang 2017 (NST), arXiv 1707.01219, polynomial kernel with d = 2 and c = 0. A departure: maps of
    different sizes are pooled, not interpolated.
    """
    pairs = paired("neuron_selectivity", layers)
    return Term(
        name or title("neuron_selectivity", of, against),
        partial(_neuron_selectivity, pairs=pairs),
        weight,
        per=per,
        needs=needed(pairs),
        of=of,
        against=against,
        formula=f"mean over layers of MMD^2 between the patterns of {of}.layer and {against}.layer over positions, "
        f"kernel (x . y)^2: {shown(layers)}",
        source="Huang, Wang 2017 (NST), arXiv 1707.01219",
    )


def probabilistic(
    student: str = "features",
    teacher: str = "features",
    weight: Weight = 1.0,
    *,
    per: str = "examples",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """For each row, the others of the batch must be as likely neighbours as they are to the teacher.

    Formula: KL(P_j || Q_j) over the other rows i of the batch, P_ij = K_ij / sum over k != j of K_kj of the teacher,
    K = (cosine + 1) / 2, Q likewise of the student. At least 0; 0 with gradient 0 at equality. Widths may differ: there
    is no connector. Rows that do not count are nobody's neighbours. A row alone, or one of two, has nothing to choose
    from: 0.

    Args:
        student: a signal of the student, [N, D].
        teacher: a signal of the teacher, [N, D].
        weight: at least 0, or a schedule.
        per: ``examples``, or ``labelled``: only rows with a label are neighbours then.
        of, against, name: as in `hints`.

    >>> probabilistic().coupled
    True

    Raises:
        UsageError: weight is negative, or (when it is computed) features that are not [N, D].

    Source: Passalis, Tefas 2018 (PKT), arXiv 1803.10837. Their code and what is made from it let a row be its
    own neighbour and divide by the batch size twice; the paper's formula has k != j.
    """
    mine, theirs = signal(student), signal(teacher)
    return Term(
        name or title("probabilistic", of, against),
        partial(_probabilistic, student=mine, teacher=theirs, per=per),
        weight,
        per=per,
        needs=Needs(frozenset({mine}), frozenset({theirs})),
        of=of,
        against=against,
        coupled=True,
        formula="KL(P_j || Q_j) over the other rows, P and Q proportional to (cosine + 1) / 2 of "
        f"{against}.{theirs} and of {of}.{mine}",
        source="Passalis, Tefas 2018 (PKT), arXiv 1803.10837",
    )


class _Gaussian(nn.Module):
    """What the student's layer says about the teacher's: a mean at every position, a variance for every channel."""

    def __init__(self, student: Tensor, teacher: Tensor) -> None:
        super().__init__()
        self.mean = linear(student, teacher)
        start = math.log(math.expm1(_START - _LEAST))
        self.alpha = nn.Parameter(self.mean.weight.new_full((self.mean.out_features,), start))

    def forward(self, student: Tensor) -> tuple[Tensor, Tensor]:
        return wide(apply(self.mean, student)), F.softplus(self.alpha) + _LEAST


def _gaussians(outputs: Outputs, targets: Targets, *, pairs: Pairs) -> nn.ModuleList:
    return nn.ModuleList([_Gaussian(outputs[mine], targets[theirs]) for mine, theirs in pairs])


def _variational_information(
    outputs: Outputs, targets: Targets, batch: Batch, *, pairs: Pairs, per: str, connector: nn.ModuleList
) -> Tensor:
    values = []
    for (mine, theirs), gaussian in zip(pairs, connector, strict=True):
        student, teacher = sizes_met(outputs[mine], targets[theirs])
        mean, variance = gaussian(student)
        if mean.shape != teacher.shape:
            raise UsageError(
                f"variational_information: wanted student {mine} and teacher {theirs} at the same positions, got "
                f"shapes {list(outputs[mine].shape)} and {list(targets[theirs].shape)}"
            )
        value = 0.5 * ((mean - teacher).square() / variance + variance.log()).mean(dim=-1)
        values.append(counted("variational_information", value, batch, per))
    return torch.stack(values).mean(dim=0)


def _neuron_selectivity(outputs: Outputs, targets: Targets, batch: Batch, *, pairs: Pairs) -> Tensor:
    values = []
    for mine, theirs in pairs:
        student, teacher = sizes_met(outputs[mine], targets[theirs])
        if student.ndim not in (3, 4) or student.shape[:-1] != teacher.shape[:-1]:
            raise UsageError(
                f"neuron_selectivity: wanted student {mine} and teacher {theirs} as maps [N, C, H, W], or as [N, L, D] "
                f"of the same positions, got shapes {list(outputs[mine].shape)} and {list(targets[theirs].shape)}"
            )
        values.append(_discrepancy(*(_patterns(layer, batch) for layer in (student, teacher))))
    return torch.stack(values).mean(dim=0)


def _patterns(layer: Tensor, batch: Batch) -> Tensor:
    """Each channel over all positions, [N, C, positions], of length 1; padding of a sequence is 0."""
    if layer.ndim == 3 and "tokens" in batch.masks:
        tokens = batch.masks["tokens"]
        if tokens.shape != layer.shape[:2]:
            raise UsageError(
                f"neuron_selectivity: wanted layers of the batch's positions {list(tokens.shape)}, so that padding is "
                f"known, got {list(layer.shape)}"
            )
        layer = torch.where(tokens[..., None] != 0, layer, 0.0)
    return unit(layer.flatten(1, -2).transpose(1, 2))


def _discrepancy(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared MMD of patterns [N, C, positions] under k(x, y) = (x . y)^2, [N]."""
    if student.shape[2] > max(student.shape[1], teacher.shape[1]):  # fewer channels than positions
        own, theirs, both = (_kernel(x, y) for x, y in ((student, student), (teacher, teacher), (student, teacher)))
        return own + theirs - 2.0 * both
    # The same in another order: the sum of (x . y)^2 over x and y is that of the products of their Gram matrices.
    own, theirs = (products(x.mT, x.mT) / x.shape[1] for x in (student, teacher))
    return (own - theirs).square().sum(dim=(1, 2))


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return products(first, second).square().mean(dim=(1, 2))


def _probabilistic(outputs: Outputs, targets: Targets, batch: Batch, *, student: str, teacher: str, per: str) -> Tensor:
    own, theirs = outputs[student], targets[teacher]
    counts = batch.masks[per] != 0
    if own.ndim != 2 or theirs.ndim != 2 or not own.shape[:1] == theirs.shape[:1] == counts.shape:
        raise UsageError(
            f"probabilistic: wanted student {student} and teacher {teacher} as [N, D], got shapes {list(own.shape)} "
            f'and {list(theirs.shape)}: choose pooled features, such as the signal "features"'
        )
    neighbours = counts[:, None] & counts & ~torch.eye(len(counts), dtype=torch.bool, device=counts.device)
    student_logs, teacher_logs = (_similarities(rows, neighbours) for rows in (own, theirs.detach()))
    return forward_kl(student_logs, teacher_logs)


def _similarities(rows: Tensor, neighbours: Tensor) -> Tensor:
    """Logits of the neighbours of every row, [N, N]: log K, -inf for what is none; 0 for a row without any."""
    directions = unit(wide(rows))
    kernel = (products(directions, directions) + 1.0) / 2.0
    logs = (kernel.clamp(min=0.0) + _FAINT).log().masked_fill(~neighbours, -math.inf)
    return logs.masked_fill(~neighbours.any(dim=1, keepdim=True), 0.0)


LISTED: tuple[tuple[Term, str], ...] = (
    (neuron_selectivity({"STUDENT.LAYER": "TEACHER.LAYER"}), ZERO),
    (probabilistic(), ZERO),
    (variational_information({"STUDENT.LAYER": "TEACHER.LAYER"}), "none: lower the better it predicts"),
)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
