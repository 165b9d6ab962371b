"""Distances between two tensors of numbers that are not distributions: features and raw logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from understudy.objectives.numerics import select, wide

__all__ = ["cosine_distance", "squared_error"]


def squared_error(student: Tensor, teacher: Tensor, *, support: Tensor | None = None) -> Tensor:
    """Mean squared difference over the last axis: [..., D] and [..., D] -> [...], fp32 or better.

    Formula: 1/D sum_d (student_d - teacher_d)^2. At least 0; 0 with gradient 0 at equality. Columns that are -inf in
    both (a padded vocabulary) do not count, in D either; -inf in one alone is infinite. ``support`` keeps the columns
    that the source knows. No gradient reaches the teacher.

    >>> import torch
    >>> squared_error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)

    Raises:
        UsageError: the shapes differ.
    """
    student, teacher, absent = _present(student, teacher, support)
    return (student - teacher).square().sum(dim=-1) / (~absent).sum(dim=-1).clamp(min=1)


def cosine_distance(student: Tensor, teacher: Tensor, *, support: Tensor | None = None) -> Tensor:
    """One minus the cosine over the last axis: [..., D] and [..., D] -> [...], fp32 or better.

    Formula: 1 - cos(student, teacher), computed as 1/2 |u(student) - u(teacher)|^2 with u(x) = x / |x|, which is the
    same and loses no digits near equality. In [0, 2]; 0 with gradient 0 at equality, and for any positive multiple. A
    vector of zeros has no direction: it is 0 from another one, 1/2 from everything else, and its gradient is 0. Columns
    that are -inf in both do not count. ``support`` keeps the columns that the source knows. No gradient reaches the
    teacher.

    >>> import torch
    >>> cosine_distance(torch.tensor([1.0, 0.0]), torch.tensor([3.0, 4.0]))
    tensor(0.4000)

    Raises:
        UsageError: the shapes differ.

    Source: Sanh et al. 2019 (DistilBERT), arXiv 1910.01108.
    """
    student, teacher, _ = _present(student, teacher, support)
    return 0.5 * (unit(student) - unit(teacher)).square().sum(dim=-1)


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1 over the last axis; one of zeros stays so, with gradient 0.

    The largest entry is divided out first, so that no square over- or underflows; it cancels in value and gradient.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    peak = vectors.detach().abs().amax(dim=-1, keepdim=True)
    nothing = peak < torch.finfo(vectors.dtype).tiny
    # An epsilon in the denominator would give a vector of zeros a gradient of 1 / epsilon.
    scaled = torch.where(nothing, 0.0, vectors / torch.where(nothing, 1.0, peak))
    return scaled * torch.where(nothing, 1.0, scaled.square().sum(dim=-1, keepdim=True)).rsqrt()


def _present(student: Tensor, teacher: Tensor, support: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both, wide, with 0 in the columns that neither has, and where those are."""
    student, teacher = select(student, teacher, support, of="columns")
    student, teacher = wide(student), wide(teacher.detach())
    absent = (student == -math.inf) & (teacher == -math.inf)
    # Filled before the difference: -inf minus -inf would be NaN, in the value and in the gradient.
    return student.masked_fill(absent, 0.0), teacher.masked_fill(absent, 0.0), absent
