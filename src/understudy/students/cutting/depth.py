"""Fewer layers: what a config says of each goes with it, and none may be another in its new place."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from understudy.errors import UsageError

_OF_PLACE = ("idx", "index", "layer_id", "layer_number", "block_id")
_OF_TRAINING = ("drop", "prob", "training")


def shorten(config: Any, chosen: Sequence[int], total: int) -> None:
    """Makes a config of ``total`` layers one of the chosen ones; lists of a thing for each layer become shorter."""
    config.num_hidden_layers = len(chosen)  # attribute_map leads it to n_layers where the config says so
    for key, value in list(vars(config).items()):
        if "layer" in key and isinstance(value, list | tuple) and len(value) == total:
            setattr(config, key, [value[i] for i in chosen])
    if getattr(config, "attention_types", None) and hasattr(config, "attention_layers"):  # GPT-Neo says it twice
        config.attention_types = [[[one], 1] for one in config.attention_layers]


def refuse_places(model: nn.Module, path: str, chosen: Sequence[int], student: nn.Module | None) -> None:
    """Raises a UsageError where a layer that moves would do something else, as its class makes it for its new place.

    Args:
        model: whose layers are the modules at ``path``.
        path: of the stack.
        chosen: layers that are kept.
        student: of these layers, otherwise as the model; None: one is made here, without numbers.
    """
    if list(chosen) == list(range(len(chosen))):
        return
    if student is None:
        whole: Any = model
        config = copy.deepcopy(whole.config)
        shorten(config, chosen, len(whole.get_submodule(path)))
        with torch.device("meta"):
            student = type(whole)(config)
    for new, old in enumerate(chosen):
        theirs = dict(_settings(model.get_submodule(f"{path}.{old}")))
        for name, value in _settings(student.get_submodule(f"{path}.{new}")):
            if theirs.get(name, value) != value:
                raise UsageError(
                    f"{type(model).__name__} cannot lose the layers before: layer {old} cannot become layer {new}: its "
                    f"{name} would be {value!r} for {theirs[name]!r}: keep the first layers (spread: first)"
                )


def _settings(layer: nn.Module) -> Iterator[tuple[str, Any]]:
    """Plain attributes of all modules of a layer, but for its number and what counts while training alone."""
    for path, module in layer.named_modules():
        for name, value in vars(module).items():
            aside = name.startswith("_") or name == "p" or any(part in name for part in (*_OF_PLACE, *_OF_TRAINING))
            if not aside and (value is None or isinstance(value, bool | int | float | str)):
                yield f"{path}.{name}".lstrip("."), value
