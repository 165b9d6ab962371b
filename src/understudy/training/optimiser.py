"""Fused AdamW over everything that learns, and clipping per student."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from understudy.errors import NonFiniteError
from understudy.training.distillation import Distillation
from understudy.training.settings import Settings


def make_optimiser(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW with decoupled decay on matrices only; the fused kernel, which is one pass over the memory.

    Parameters come in the order of ``named_parameters``, so that a checkpoint's indices mean the same in every run.
    """
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    filled = [group for group in groups if group["params"]]
    return torch.optim.AdamW(filled, lr=settings.learning_rate, fused=True)


def clip(model: Distillation, most: float | None, *, step: int, still: Sequence[str] = ()) -> None:
    """Scales each student's gradient, with its own terms' connectors, to a norm of at most ``most``; None: looks only.

    Students named in ``still`` have stopped: their gradients are dropped, so that the optimiser passes them by.

    Raises:
        NonFiniteError: a gradient that is not a number, behind a loss that is: the weights were not touched yet.
    """
    for name, student in zip(model.names, model.students, strict=True):
        own = list(student.parameters())
        for term in model.terms:
            owner = "student" if term.of.startswith("exit.") else term.of
            if term.name in model.connectors and (owner == name or owner.startswith(f"{name}.")):
                own += model.connectors[term.name].parameters()
        if name in still:
            for parameter in own:
                parameter.grad = None
            continue
        norm = torch.nn.utils.get_total_norm([p.grad for p in own if p.grad is not None])
        if not torch.isfinite(norm):
            bad = [n for n, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
            where = ", ".join(map(model.title, bad[:4])) + (f" and {len(bad) - 4} more" if len(bad) > 4 else "")
            raise NonFiniteError(
                f"the gradient of {name} became non-finite at step {step + 1} in {where or 'its norm'}, behind a "
                "finite loss: lower the learning rate or use precision fp32; the last good checkpoint was kept"
            )
        if most is not None and norm > most:  # a pass over the memory less where there is nothing to scale
            torch.nn.utils.clip_grads_with_norm_(own, most, norm)
