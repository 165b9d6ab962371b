"""The outputs of a classifier in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from understudy.errors import UsageError


@torch.no_grad()
def reorder_labels(model: nn.Module, order: Sequence[int], names: Sequence[str]) -> None:
    """Moves the outputs of a classifier, in place: output i becomes what was ``order[i]``, and is called ``names[i]``.

    Args:
        model: a transformers classifier; its head is the last linear layer with as many outputs as there are labels.
        order: [K] old positions, each once.
        names: [K] label names in the new order.

    Raises:
        UsageError: no such layer, or an order that is no permutation.
    """
    if sorted(order) != list(range(len(names))):
        raise UsageError(f"an order of {len(names)} labels names each position once, got {list(order)[:8]}")
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == len(names)]
    if not heads:
        raise UsageError(f"{type(model).__name__} has no linear layer with {len(names)} outputs to reorder")
    head, rows = heads[-1], torch.tensor(list(order), device=heads[-1].weight.device)
    head.weight.copy_(head.weight[rows].clone())
    if head.bias is not None:
        head.bias.copy_(head.bias[rows].clone())
    config: Any = getattr(model, "config", None)
    if config is not None:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}
