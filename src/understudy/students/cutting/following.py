"""What follows from the sizes in a model's config: its class is built again with others, as shapes without numbers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from understudy.errors import UsageError


def moved(model: nn.Module, **sizes: int) -> dict[str, tuple[int, ...]]:
    """For each weight of a model, the axes whose size changes with these entries of its config.

    Raises:
        UsageError: a model that its class does not build again from its config.
    """
    mine, other = model.state_dict(), _built(model, sizes).state_dict()
    if mine.keys() != other.keys():
        odd = sorted(mine.keys() ^ other.keys())
        raise UsageError(
            f"{type(model).__name__} cannot be cut: its config describes a model with other weights ({odd[0]})"
        )
    return {
        name: tuple(axis for axis, (a, b) in enumerate(zip(value.shape, other[name].shape, strict=True)) if a != b)
        for name, value in mine.items()
    }


def scaled(model: nn.Module, **sizes: int) -> str:
    """Where in a model a factor follows these entries of its config (Gemma's of its embeddings); "" if nowhere."""
    others = dict(_built(model, sizes).named_modules())
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, float) and vars(others[path]).get(name, value) != value:
                return f"{path}.{name}"
    return ""


def _built(model: nn.Module, sizes: Mapping[str, int]) -> nn.Module:
    """A model of the same class with other entries in its config, without numbers."""
    whole: Any = model
    config = copy.deepcopy(whole.config)
    for key, size in sizes.items():
        setattr(config, key, size)
    with torch.device("meta"):
        built: nn.Module = type(whole)(config)
    return built
