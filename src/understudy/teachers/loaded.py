"""What loading a teacher gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from understudy.encoding import Encoder
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
