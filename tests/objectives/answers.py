"""Answers to try terms on, and what the loop makes of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from understudy.objectives import Term
from understudy.records import Batch, Outputs, Targets

ROWS, LABELS = 12, 6


def draw(rows: int = ROWS, labels: int = LABELS, *, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, rows, labels, generator=generator, dtype=torch.float64).mul(scale).unbind(0)


def row(*numbers: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([numbers], dtype=dtype)


def some_labels(rows: int = ROWS, labels: int = LABELS) -> Tensor:
    return torch.randint(0, labels, (rows,), generator=torch.Generator().manual_seed(5))


def batch(labels: Tensor | None, **masks: Tensor) -> Batch:
    rows = len(labels) if labels is not None else len(next(iter(masks.values())))
    ones = torch.ones(rows, dtype=torch.float64)
    return Batch(tuple(map(str, range(rows))), {}, labels, {"examples": ones, "labelled": ones, **masks})


def loss(
    term: Term, student: Tensor, teacher: Tensor, rows: Batch | None = None, support: Tensor | None = None
) -> Tensor:
    """What the loop makes of a term: the sum over what counts, divided once."""
    rows = rows or batch(some_labels(len(student), student.shape[-1]))
    targets = Targets({"logits": teacher}, {} if support is None else {"": support})
    return term.total(Outputs({"logits": student}), targets, rows) / term.count(rows)


def slope(function, student: Tensor) -> Tensor:
    leaf = student.clone().requires_grad_(True)
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


def close(got: Tensor | float, wanted: object, tolerance: float = 1e-11) -> None:
    wanted = torch.as_tensor(np.asarray(wanted), dtype=torch.as_tensor(got).dtype)
    torch.testing.assert_close(torch.as_tensor(got), wanted, atol=tolerance, rtol=tolerance)
