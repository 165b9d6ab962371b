"""Deeper layers of the student reviewed on the way back: attention-based fusion and a loss at several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.objectives.features.layers import Layers, Pairs, needed, paired, shown
from understudy.objectives.numerics import wide
from understudy.objectives.term import Term, Weight, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["review"]

_SIZES = (4, 2, 1)
_WIDEST = 512


def review(
    layers: Layers,
    weight: Weight = 1.0,
    *,
    per: str = "examples",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """Each layer of the student, fused with all of its deeper ones, must say what the teacher's layer says.

    Formula: mean over pairs of HCL(fused student.layer, teacher.layer). Fusing goes from deep to shallow: a 1x1
    convolution, two attention maps that weigh the layer against what came from the deeper ones (brought to its size),
    their sum, and a 3x3 convolution to the teacher's channels. HCL is the mean squared error, plus 1/2, 1/4, 1/8 of
    that of both averaged down to 4 x 4, 2 x 2, 1 x 1 (whichever are smaller than the map), over the sum of those shares
    and 1. At least 0. The fusion is the connector and always there: no value at equality.

    Args:
        layers: the student's layer -> the teacher's, feature maps [N, C, H, W], from shallow to deep.
        weight: at least 0, or a schedule; of the mean over pairs.
        per, of, against, name: as in `hints`; ``labelled`` is the other mask that fits.

    >>> review({"layer1": "layer1", "layer2": "layer2"}).per
    'examples'

    Raises:
        UsageError: no pairs, weight is negative, or (when it is computed) layers that are no feature maps.

    Source: Chen et al. 2021 (ReviewKD), arXiv 2104.09044, section 3. Departures: no batch normalisation in the fusion,
    which would couple the examples; a mean over layers in place of a sum.
    """
    pairs = paired("review", layers)
    return Term(
        name or title("review", of, against),
        partial(_review, pairs=pairs),
        weight,
        per=per,
        needs=needed(pairs),
        of=of,
        against=against,
        connector=partial(_reviewer, pairs=pairs),
        formula=f"mean over layers of HCL(fused {of}.layer and deeper, {against}.layer): {shown(layers)}",
        source="Chen et al. 2021 (ReviewKD), arXiv 2104.09044",
    )


class _Fusion(nn.Module):
    """One layer of the student with what came from the deeper ones: what it answers, and what it passes on."""

    def __init__(self, student: Tensor, teacher: Tensor, width: int, *, deepest: bool) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(student.shape[1], width, 1)
        self.attend = None if deepest else nn.Conv2d(2 * width, 2, 1)
        self.answer = nn.Conv2d(width, teacher.shape[1], 3, padding=1)
        for layer in (self.narrow, self.answer):
            nn.init.kaiming_uniform_(layer.weight, a=1)
        self.to(student.device, torch.promote_types(student.dtype, torch.float32))

    def forward(self, own: Tensor, deeper: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        own = self.narrow(own.to(self.narrow.weight.dtype))
        if self.attend is not None and deeper is not None:
            deeper = F.interpolate(deeper, own.shape[2:], mode="nearest")
            shares = torch.sigmoid(self.attend(torch.cat([own, deeper], dim=1)))
            own = own * shares[:, :1] + deeper * shares[:, 1:]
        own = F.interpolate(own, size, mode="nearest")
        return self.answer(own), own


def _reviewer(outputs: Outputs, targets: Targets, *, pairs: Pairs) -> nn.ModuleList:
    met = _maps(outputs, targets, pairs)
    width = min(_WIDEST, met[-1][0].shape[1])
    last = len(met) - 1
    return nn.ModuleList([_Fusion(*pair, width, deepest=position == last) for position, pair in enumerate(met)])


def _review(outputs: Outputs, targets: Targets, batch: Batch, *, pairs: Pairs, connector: nn.ModuleList) -> Tensor:
    values, deeper = [], None
    for (student, teacher), fusion in reversed(list(zip(_maps(outputs, targets, pairs), connector, strict=True))):
        answer, deeper = fusion(student, deeper, teacher.shape[2:])
        values.append(_hierarchical(wide(answer), wide(teacher.detach())))
    return torch.stack(values).mean(dim=0)


def _maps(outputs: Outputs, targets: Targets, pairs: Pairs) -> list[tuple[Tensor, Tensor]]:
    met = [(outputs[mine], targets[theirs]) for mine, theirs in pairs]
    for (mine, theirs), (student, teacher) in zip(pairs, met, strict=True):
        if student.ndim != 4 or teacher.ndim != 4:
            raise UsageError(
                f"review: wanted feature maps [N, C, H, W], got student {mine} {list(student.shape)} and teacher "
                f"{theirs} {list(teacher.shape)}: for other layers there are hints and hidden_states"
            )
    return met


def _hierarchical(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of maps [N, C, H, W] at several sizes, [N]."""
    value, total, share = _error(student, teacher), 1.0, 1.0
    for size in _SIZES:
        if size < min(student.shape[2:]):
            share /= 2.0
            total += share
            pooled = (F.adaptive_avg_pool2d(x, size) for x in (student, teacher))
            value = value + share * _error(*pooled)
    return value / total


def _error(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).square().mean(dim=(1, 2, 3))


LISTED: tuple[tuple[Term, str], ...] = (
    (review({"STUDENT.LAYER": "TEACHER.LAYER"}), "none: there always is a connector"),
)
"""An example of the term here, and its value at equality: what ``understudy objectives`` lists."""
