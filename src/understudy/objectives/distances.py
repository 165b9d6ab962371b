"""Distances between two tensors of numbers that are not distributions: features and raw logits."""

from __future__ import annotations

import math

from torch import Tensor

from understudy.objectives.numerics import select, wide

__all__ = ["squared_error"]


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
    student, teacher = select(student, teacher, support, of="columns")
    student, teacher = wide(student), wide(teacher.detach())
    absent = (student == -math.inf) & (teacher == -math.inf)
    # Filled before the difference: -inf minus -inf would be NaN, in the value and in the gradient.
    difference = student.masked_fill(absent, 0.0) - teacher.masked_fill(absent, 0.0)
    return difference.square().sum(dim=-1) / (~absent).sum(dim=-1).clamp(min=1)
