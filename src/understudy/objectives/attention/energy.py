"""Attention as energy: at which positions a layer is most active, whatever its channels are."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy.errors import UsageError
from understudy.objectives.distances import unit
from understudy.objectives.features.layers import Layers, Pairs, needed, paired, shown
from understudy.objectives.numerics import number, wide
from understudy.objectives.term import ZERO, Term, Weight, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["attention_transfer"]


def attention_transfer(
    layers: Layers,
    weight: Weight = 1.0,
    *,
    power: float = 2.0,
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """Layers must spend their energy at the positions where the teacher's do, whatever their widths.

    Formula: mean over layers of |Q(student) - Q(teacher)|_2^2, Q = q / |q|_2, q = sum over channels of |a|^power at
    every position. In [0, 2]; 0 with gradient 0 at equality.

    Args:
        layers: the student's layer -> the teacher's (a number is a hidden state, a path a module). Feature maps
            [N, C, H, W], where of different sizes the larger q is average-pooled to the smaller; or sequences
            [N, L, D], whose padding (mask ``tokens``, if the batch has one) is left out of q. Behind a layer norm, as
            BERT's hidden states are, every position has the energy D of power 2, whatever it says, and nothing is left
            to match: name a module before the norm, or take another power.
        weight: at least 0, or a schedule.
        power: at least 1; the larger, the more the strongest channels decide.
        of: the output that learns.
        against: the source that teaches.
        name: how logs call the term.

    >>> attention_transfer({"layer2": "layer4"}).needs.learner
    frozenset({'module:layer2'})

    Raises:
        UsageError: no layers, weight or power out of range, or (when it is computed) shapes that do not go together.

    Source: Zagoruyko, Komodakis 2017, arXiv 1612.03928, equation 2. Departures: the paper's norm is not squared, which
    leaves its gradient without a value at equality; the authors' code takes the mean of squares, 1/(H W) of this. The
    mean over layers stands for beta / 2 times their sum.
    """
    number("power", power, low=1.0, closed=True)
    pairs = paired("attention_transfer", layers)
    return Term(
        name or title("attention_transfer", of, against),
        partial(_attention_transfer, pairs=pairs, power=float(power)),
        weight,
        needs=needed(pairs),
        of=of,
        against=against,
        formula=f"mean over layers of |Q({of}.layer) - Q({against}.layer)|^2, Q = sum over channels of |a|^{power:g}, "
        f"of length 1: {shown(layers)}",
        source="Zagoruyko, Komodakis 2017, arXiv 1612.03928",
    )


def _attention_transfer(outputs: Outputs, targets: Targets, batch: Batch, *, pairs: Pairs, power: float) -> Tensor:
    errors = []
    for student_name, teacher_name in pairs:
        student = _energy(outputs[student_name], batch, power)
        teacher = _energy(targets[teacher_name].detach(), batch, power)
        if student.ndim != teacher.ndim or (student.ndim == 2 and student.shape != teacher.shape):
            raise UsageError(
                f"attention_transfer: wanted student {student_name} and teacher {teacher_name} as two feature maps or "
                f"two sequences of one length, got positions {list(student.shape[1:])} and {list(teacher.shape[1:])}"
            )
        if student.ndim == 3 and student.shape != teacher.shape:
            size = (min(student.shape[1], teacher.shape[1]), min(student.shape[2], teacher.shape[2]))
            student, teacher = (F.adaptive_avg_pool2d(energy, size) for energy in (student, teacher))
        errors.append((unit(student.flatten(1)) - unit(teacher.flatten(1))).square().sum(dim=1))
    return torch.stack(errors).mean(dim=0)


def _energy(activations: Tensor, batch: Batch, power: float) -> Tensor:
    """Sum over channels of |a|^power, [N, H, W] or [N, L], in units of the row's largest activation."""
    if activations.ndim not in (3, 4):
        raise UsageError(
            f"attention_transfer: wanted feature maps [N, C, H, W] or sequences [N, L, D], "
            f"got {list(activations.shape)}: name a layer that keeps its positions"
        )
    activations = wide(activations)
    if activations.ndim == 3 and "tokens" in batch.masks:
        real = batch.masks["tokens"] != 0
        if activations.shape[:2] != real.shape:
            raise UsageError(
                f'attention_transfer: wanted a sequence at the positions of the batch\'s mask "tokens" '
                f"{list(real.shape)}, got {list(activations.shape)}: padding could not be told apart"
            )
        activations = torch.where(real[..., None], activations, 0.0)
    sizes = activations.abs()
    # The unit cancels where energies are normalised; without it a power of large activations overflows.
    peak = sizes.detach().flatten(1).amax(dim=1)
    peak = torch.where(peak < torch.finfo(peak.dtype).tiny, 1.0, peak)
    return (sizes / peak.reshape(-1, *[1] * (sizes.ndim - 1))).pow(power).sum(dim=1 if sizes.ndim == 4 else 2)


LISTED: tuple[tuple[Term, str], ...] = ((attention_transfer({"STUDENT.LAYER": "TEACHER.LAYER"}), ZERO),)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
