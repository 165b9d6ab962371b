"""Arithmetic that every divergence shares: fp32 at least, log-space, 0 * inf = 0, teachers without gradient."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from understudy.errors import UsageError

__all__ = [
    "check_labels",
    "expectation",
    "log_mixture",
    "log_probabilities",
    "log_tail",
    "number",
    "pair",
    "select",
    "wide",
]


def wide(tensor: Tensor) -> Tensor:
    """The tensor in fp32, or in fp64 where it is that already: bf16 divergences go negative near convergence."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def number(name: str, value: float, *, low: float = 0.0, high: float = math.inf, closed: bool = False) -> float:
    """The value, or a UsageError that says the range; ``closed`` lets ``low`` in, ``high`` is always out.

    >>> number("temperature", 2.0)
    2.0
    """
    inside = isinstance(value, Real) and low <= value < high and (closed or value != low)
    if not inside:
        bracket = "[" if closed else "("
        raise UsageError(f"wanted {name} in {bracket}{low:g}, {high:g}), got {value!r}")
    return float(value)


def select(student: Tensor, teacher: Tensor, support: Tensor | None, *, of: str = "labels") -> tuple[Tensor, Tensor]:
    """Both tensors on the columns that the source knows (all of them when ``support`` is None).

    Raises:
        UsageError: the shapes differ, or the support is empty or not a bool mask [K].
    """
    if student.ndim == 0 or student.shape != teacher.shape:
        raise UsageError(
            f"wanted student and teacher of one shape, got student {_size(student)} {of}, teacher {_size(teacher)} "
            f"(shapes {list(student.shape)} and {list(teacher.shape)}): align what the teacher says with the data first"
        )
    if support is None:
        return student, teacher
    if support.dtype != torch.bool or support.shape != student.shape[-1:]:
        raise UsageError(
            f"wanted support as a bool mask [{student.shape[-1]}], got {support.dtype} {list(support.shape)}"
        )
    student, teacher = student[..., support], teacher[..., support]
    if not student.shape[-1]:
        raise UsageError(f"wanted a source that knows at least one label, got a support of none of {len(support)}")
    return student, teacher


def pair(student: Tensor, teacher: Tensor, *, support: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Student and teacher, wide, on the labels that the teacher knows; no gradient reaches the teacher."""
    student, teacher = select(student, teacher, support)
    return wide(student), wide(teacher.detach())


def log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """``log softmax(logits / temperature)`` over the last axis; -inf stays -inf, with gradient 0."""
    number("temperature", temperature)
    return torch.log_softmax(logits if temperature == 1.0 else logits / temperature, dim=-1)


def expectation(log_weights: Tensor, values: Tensor) -> Tensor:
    """Sum over the last axis of ``exp(log_weights) * values``, where a weight of 0 beats an infinite value.

    The value is replaced *before* the product, so that 0 * inf arises neither here nor in the gradient.
    """
    weights = log_weights.exp()
    return (weights * torch.where(weights > 0, values, 0.0)).sum(dim=-1)


def log_mixture(first: Tensor, second: Tensor, share: float) -> Tensor:
    """``log(share * exp(first) + (1 - share) * exp(second))``, share in [0, 1)."""
    if share == 0.0:
        return second
    first, second = first + math.log(share), second + math.log1p(-share)
    # logaddexp(-inf, -inf) is right, its gradient is NaN: a column that neither knows is kept out of it.
    neither = (first == -math.inf) & (second == -math.inf)
    safe = torch.logaddexp(first.masked_fill(neither, 0.0), second.masked_fill(neither, 0.0))
    return safe.masked_fill(neither, -math.inf)


def log_tail(log_probs: Tensor, head: Tensor) -> Tensor:
    """Log of the mass outside ``head`` (bool, same shape): log-sum-exp of the rest, never ``1 - sum``; [..., 1]."""
    rest = log_probs.masked_fill(head, -math.inf)
    # The log-sum-exp of nothing is -inf, which is right, and its gradient NaN.
    nothing = (rest == -math.inf).all(dim=-1, keepdim=True)
    safe = torch.logsumexp(rest.masked_fill(nothing, 0.0), dim=-1, keepdim=True)
    return safe.masked_fill(nothing, -math.inf)


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Raises a UsageError unless there is one integer for each position of logits [..., K]."""
    if not logits.ndim or labels.shape != logits.shape[:-1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UsageError(
            f"wanted one integer label for each position of logits {list(logits.shape)}, "
            f"got {labels.dtype} {list(labels.shape)}"
        )


def labels_out_of_range(logits: Tensor, labels: Tensor) -> str:
    """What to say about labels that the student has no logit for."""
    low, high = (int(end) for end in labels.aminmax())
    labels_of_student = logits.shape[-1]
    return (
        f"wanted labels in 0 .. {labels_of_student - 1} (-1: none), got {low} .. {high}: "
        f"the student has {labels_of_student} labels, so build it with as many as the data"
    )


def _size(tensor: Tensor) -> int:
    return tensor.shape[-1] if tensor.ndim else 0
