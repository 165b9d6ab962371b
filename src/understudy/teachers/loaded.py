"""What loading a teacher gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from understudy.encoding import Encoder
from understudy.files import content_hash
from understudy.teachers.labels import Alignment


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model read from a folder, with everything that is needed to ask it, and what a reader should know.

    Attributes:
        model: the module; called with the encoder's inputs it gives logits (a tensor, or an output with ``.logits``).
        encoder: turns raw rows into the model's inputs.
        alignment: which of its columns is which label of the data; None for a fresh head, which has the data's order.
        fresh_head: True when the head was just initialised: train it before asking it anything.
        description: one line: class, layers, width.
        notes: decisions worth showing, one sentence each.
        fingerprint: hash of the weights and the config.
        tokenizer: the transformers tokenizer, None for images.
        positions: the most ids per row that the model can read, 0 for images.
    """

    model: nn.Module
    encoder: Encoder
    alignment: Alignment | None
    fresh_head: bool
    description: str
    fingerprint: str
    notes: tuple[str, ...] = ()
    tokenizer: Any = field(default=None, repr=False)
    positions: int = 0

    @property
    def label_order(self) -> tuple[int, ...] | None:
        """Columns in the order of the data's labels, None where nothing moves."""
        return self.alignment.order if self.alignment is not None and self.alignment.permuted else None


def given(model: nn.Module, encoder: Encoder) -> Loaded:
    """A module of your own as a teacher: trained elsewhere, its columns in the order of the data's labels.

    Args:
        model: called with the encoder's inputs it gives logits; a module with one input gets it by position.
        encoder: turns raw rows into the model's inputs.
    """
    return Loaded(model, encoder, None, False, describe(model), weights_hash(model))


def weights_hash(model: nn.Module) -> str:
    """Hash of what a module is (its printed structure) and of its weights: what decides its answers."""
    parts: list[str | bytes] = [repr(model)]
    for name, value in model.state_dict().items():
        tensor = value.detach().cpu().contiguous()
        parts += [name, str(tensor.dtype), str(tuple(tensor.shape)), tensor.view(-1).view(torch.uint8).numpy().data]
    return content_hash(*parts)


def describe(model: nn.Module) -> str:
    """One line about a model.

    >>> describe(nn.Sequential(nn.Linear(2, 3)))
    'Sequential, 9 parameters'
    """
    config = getattr(model, "config", None)
    parts = [type(model).__name__]
    for name, text in (("num_hidden_layers", "{} layers"), ("hidden_size", "hidden {}")):
        value = getattr(config, name, None)
        if isinstance(value, int):
            parts.append(text.format(value))
    return ", ".join([*parts, f"{sum(p.numel() for p in model.parameters()):,} parameters"])
