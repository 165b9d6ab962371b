"""Linear layers of transformers models, also those whose weights lie the other way round, and sizes of configs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FEED_FORWARD = ("intermediate_size", "hidden_dim", "ffn_dim", "n_inner")
"""What configs call the width between the two sides of a feed-forward block."""


def crosswise(module: nn.Module) -> bool:
    """Whether it is a linear layer whose weights are [inputs, outputs]: GPT-2's ``Conv1D``."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def linear(module: nn.Module) -> bool:
    """Whether it is a linear layer, of either kind."""
    return isinstance(module, nn.Linear) or crosswise(module)


def matrix(model: nn.Module, path: str) -> Tensor:
    """The weights of the linear layer at a path, fp64 [outputs, inputs] on the CPU."""
    weight = model.get_parameter(f"{path}.weight").detach().double().cpu()
    return weight.T if crosswise(model.get_submodule(path)) else weight


def feed_forward_of(config: Any) -> tuple[str, int] | None:
    """A config's name of the feed-forward size and that size; None where it says none.

    GPT-2's is four times the width unless it is said.
    """
    for key in FEED_FORWARD:
        found = getattr(config, key, None)
        if isinstance(found, int):
            return key, found
        if key == "n_inner" and hasattr(config, key) and isinstance(getattr(config, "hidden_size", None), int):
            return key, 4 * config.hidden_size
    return None


def head_size_of(config: Any) -> int:
    """Dimensions of an attention head: what the config says, else the width divided by the heads."""
    said = getattr(config, "head_dim", None)
    return said if isinstance(said, int) else int(config.hidden_size // config.num_attention_heads)


def key_heads_of(config: Any) -> int:
    """Heads of keys and values, each of which may serve several heads of queries."""
    said = getattr(config, "num_key_value_heads", None)
    return said if isinstance(said, int) else int(config.num_attention_heads)


def rotary(model: nn.Module) -> bool:
    """Whether positions turn the dimensions of its queries and keys, each by an angle of its own (RoPE)."""
    config = getattr(model, "config", None)
    said = any(getattr(config, key, None) is not None for key in ("rope_parameters", "rotary_dim"))
    return said or any("Rotary" in type(module).__name__ for module in model.modules())


def stretch(rows: Tensor, group: int, size: int) -> Tensor:
    """Rows of keys or values -> rows of the queries, or of the mixed values, that they serve: all heads of a group.

    >>> stretch(torch.tensor([2, 3]), 2, 2)  # the second of two key heads: the third and the fourth head
    tensor([4, 5, 6, 7])

    Args:
        rows: int64, head after head, equally many of each.
        group: heads of queries for each head of keys.
        size: dimensions of a head.
    """
    heads = rows.div(size, rounding_mode="floor")
    starts = heads.unique_consecutive()
    inside = (rows % size).view(len(starts), 1, -1)
    first = (starts[:, None] * group + torch.arange(group, device=rows.device)) * size
    return (first[:, :, None] + inside).flatten()
