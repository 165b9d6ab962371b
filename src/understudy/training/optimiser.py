"""Fused AdamW over everything that learns, and clipping per student."""

from __future__ import annotations

import torch
from torch import nn

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


def clip(model: Distillation, most: float | None) -> None:
    """Scales each student's gradient, with its own terms' connectors, to a norm of at most ``most``."""
    if most is None:
        return
    for name, student in zip(model.names, model.students, strict=True):
        own = list(student.parameters())
        for term in model.terms:
            owner = "student" if term.of.startswith("exit.") else term.of
            if term.name in model.connectors and (owner == name or owner.startswith(f"{name}.")):
                own += model.connectors[term.name].parameters()
        torch.nn.utils.clip_grad_norm_([p for p in own if p.grad is not None], most)
