"""The outputs of a classifier: in another order, or where they begin."""

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
    head = _head(model, len(names))
    rows = torch.tensor(list(order), device=head.weight.device)
    head.weight.copy_(head.weight[rows].clone())
    if head.bias is not None:
        head.bias.copy_(head.bias[rows].clone())
    config: Any = getattr(model, "config", None)
    if config is not None:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}


@torch.no_grad()
def begin_at_shares(model: nn.Module, shares: Sequence[float]) -> None:
    """Lets a fresh head of several labels begin at how often each holds, in place: its biases become their log-odds.

    From biases of 0 every label holds in half of the rows, and AdamW, which moves a number by the learning rate a step,
    needs ten thousand steps of 1.5e-4 to say "seldom" by a bias; until then it is the hidden layer that says it.

    Args:
        model: a classifier; its head is the last linear layer with as many outputs as there are labels.
        shares: [K] of rows in which a label holds, above 0 and below 1.

    Raises:
        UsageError: no such layer, or a share that is none.

    Source: Lin et al. 2017, arXiv 1708.02002, section 4.1 (one prior for all labels there).
    """
    if not all(0 < share < 1 for share in shares):
        raise UsageError(f"shares lie between 0 and 1, got {min(shares):g} to {max(shares):g}")
    head = _head(model, len(shares))
    if head.bias is not None:
        head.bias.copy_(torch.tensor(shares, dtype=head.bias.dtype).logit())


def _head(model: nn.Module, outputs: int) -> nn.Linear:
    found = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    if not found:
        raise UsageError(f"{type(model).__name__} has no linear layer with {outputs} outputs to say labels with")
    return found[-1]
