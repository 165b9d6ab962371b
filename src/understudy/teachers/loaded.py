"""What loading a teacher gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from understudy.encoding import Encoder
from understudy.errors import TeacherError
from understudy.files import content_hash
from understudy.students import MaskedLM
from understudy.teachers.label import Inputs, Logits, Scorer, score_rows, scorer
from understudy.teachers.labels import Alignment

Ask = Callable[[Inputs], np.ndarray]
Beside = Callable[[Inputs], dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A teacher with everything that is needed to ask it, and what a reader should know.

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
        ask: raw columns -> logits [N, columns] of a teacher that is no module (``teachers.function``); its ``model``
            then only says so where somebody runs it.
        bytes: on disk, of a teacher that has no folder of its own; None where nobody knows, or the folder says it.
        own_labels: the names of its columns, of a teacher that has yet to meet the data (``teachers.settle``).
        speed: threads -> ``latency_ms`` and ``throughput_per_s`` of a teacher that keeps its own time, as asking it
            again would cost money (``teachers.endpoint``).
        account: who was asked and what it cost, for run.json, of a teacher that costs money.
        beside: raw columns -> further signals [N, ...] of rows that were just asked about, stored with their logits.
        members: of a teacher that is several (``teachers.ensemble``).
        space: what is averaged over them.
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
    ask: Ask | None = field(default=None, repr=False)
    bytes: int | None = None
    own_labels: tuple[str, ...] = ()
    speed: Callable[[int], dict[str, Any]] | None = field(default=None, repr=False)
    account: Callable[[], dict[str, Any]] | None = field(default=None, repr=False)
    beside: Beside | None = field(default=None, repr=False)
    members: tuple[Member, ...] = ()
    space: str = "probabilities"

    def scores(self, inputs: Inputs, *, batch_size: int = 64) -> Logits:
        """Logits of every row, float32 [N, K], columns in the order of the data's labels; of words a `Ragged`.

        Args:
            inputs: raw column -> values.
            batch_size: rows per forward of a module.

        Raises:
            TeacherError: a logit that is not finite, with its row.
        """
        if self.ask is None:
            return score_rows(self.model, self.encoder, inputs, batch_size=batch_size, order=self.label_order)
        said = self._asked(inputs)
        bad = np.flatnonzero(~np.isfinite(said).all(1))
        if len(bad):
            raise TeacherError(
                f"{self.description} gives logits that are not finite for {len(bad)} of {len(said)} rows, "
                f"first for row {bad[0] + 1}"
            )
        return said

    def scorer(self, inputs: Inputs) -> Scorer:
        """A function ``score(rows) -> {"logits": float32 [n, K]}`` for the target store, which looks for NaN itself.

        Where there are further signals (``beside``), they are beside them.
        """
        if self.ask is None:
            return scorer(self.model, self.encoder, inputs, order=self.label_order)

        def score(rows: Sequence[int]) -> dict[str, Logits]:
            fields = self.encoder.fields
            some = {name: [inputs[name][row] for row in rows] for name in fields}
            said: dict[str, Logits] = {"logits": self._asked(some)}
            return said if self.beside is None else said | self.beside(some)

        return score

    @property
    def parent(self) -> Loaded:
        """The one model that a student can be cut from or take its vectors from: itself, or the weightiest member.

        Members that know every label go before those that do not, and the first of equals before the others.
        """
        models = [one for one in self.members if one.teacher.ask is None]
        if not models:
            return self
        return max(models, key=lambda one: (one.support is None, one.weight)).teacher.parent

    def _asked(self, inputs: Inputs) -> np.ndarray:
        assert self.ask is not None
        said, order = self.ask(inputs).astype(np.float32), self.label_order
        if not len(said):
            return np.zeros((0, len(order or ())), np.float32)
        return said if order is None else np.ascontiguousarray(said[:, list(order)])

    @property
    def label_order(self) -> tuple[int, ...] | None:
        """Columns in the order of the data's labels, None where nothing moves."""
        return self.alignment.order if self.alignment is not None and self.alignment.permuted else None


@dataclass(frozen=True, eq=False)
class Member:
    """One of several teachers that teach as one.

    Attributes:
        name: within the ensemble.
        teacher: its columns, once in order, are the labels that it knows, in the order of the data's.
        weight: above 0; only its share of all weights counts.
        temperature: what its logits are divided by before they are joined.
        support: [K], the labels that it knows; None: all.
    """

    name: str
    teacher: Loaded
    weight: float = 1.0
    temperature: float = 1.0
    support: tuple[bool, ...] | None = None


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
    model = model.model if isinstance(model, MaskedLM) else model
    config = getattr(model, "config", None)
    parts = [type(model).__name__]
    for name, text in (("num_hidden_layers", "{} layers"), ("hidden_size", "hidden {}")):
        value = getattr(config, name, None)
        if isinstance(value, int):
            parts.append(text.format(value))
    return ", ".join([*parts, f"{sum(p.numel() for p in model.parameters()):,} parameters"])
