"""The records that every room passes around. Frozen, and free of torch: a tensor here is whatever the caller's is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from understudy.errors import UsageError, choices

Self = TypeVar("Self", bound="Outputs")


@dataclass(frozen=True)
class Batch:
    """Some rows, ready for every model that looks at them.

    Attributes:
        keys: content keys of the rows, [N] strings; rows are joined with stored targets by these.
        inputs: model name -> that model's own encoding of the same rows (``inputs["student"]``, ``inputs["teacher"]``).
        labels: [N] int64, -1 where a row has none; scores and several labels as `understudy.answers` says; tags of
            words int64 [N, W], -1 where a word has none and behind a row's last one; of spans int64 [N, 2]; hidden
            tokens int64 [N, P], the ids that were there.
        masks: name -> float weights of what is counted: ``examples`` [N], ``labelled`` [N] (0 where a row has no
            label, the class weight elsewhere), ``tokens`` [N, L]. A term divides by the sum of the mask it names.
            Where words have tags, ``labelled`` is [N, W], and ``words`` [N, W] are those that every model answers;
            where tokens are hidden both are [N, P], of the hidden ones.
            Where answers are spans, ``labelled`` is [N, 2], start and end, and ``ends`` [N, 2] are those of every row.
        places: where words have tags: model name -> int64 [N, W], where among that model's positions each word's logits
            are, counted over the batch (r * L + l), -1 behind a row's last word; so logits [R, L, K] of any tokenizer
            become those of words, [N, W, K]. R is N but where a row is read in several windows. Where answers are
            spans: [N, 2, W], a start and an end of "no answer" and of every word, and logits become [N, 2, W].
        epoch: passes over the data so far; randomness of a view is a function of (seed, epoch, key).
        step: optimiser steps so far; what is drawn in one is a function of (seed, step, key).
        written: whether the student wrote what is to be said (`training.Rollouts`): what is stored is of other tokens.
    """

    keys: tuple[str, ...]
    inputs: Mapping[str, Mapping[str, Any]]
    labels: Any
    masks: Mapping[str, Any]
    epoch: int = 0
    places: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    written: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: Any) -> Batch:
        """The same batch with every tensor on ``device``."""
        if getattr(self.labels, "device", None) == device:  # all of a batch is in one place
            return self
        return replace(
            self,
            inputs={name: {k: v.to(device) for k, v in encoding.items()} for name, encoding in self.inputs.items()},
            labels=None if self.labels is None else self.labels.to(device),
            masks={name: mask.to(device) for name, mask in self.masks.items()},
            places={name: place.to(device) for name, place in self.places.items()},
        )


@dataclass(frozen=True)
class Outputs:
    """What models say about a batch: ``name.signal`` -> tensor, and after ``of(name)`` just ``signal`` -> tensor.

    >>> said = Outputs({"student.logits": 1, "exit.0.logits": 2})
    >>> said.of("exit.0")["logits"]
    2
    """

    signals: Mapping[str, Any]

    def of(self, name: str) -> Outputs:
        """The signals of one output or source, without its prefix."""
        return Outputs(self._mine(f"{name}."))

    def _mine(self, prefix: str) -> dict[str, Any]:
        return {key.removeprefix(prefix): value for key, value in self.signals.items() if key.startswith(prefix)}

    def detach(self: Self) -> Self:
        """The same values, cut off from the gradient: how a peer or a deeper layer teaches."""
        return replace(self, signals={key: value.detach() for key, value in self.signals.items()})

    def __getitem__(self, signal: str) -> Any:
        try:
            return self.signals[signal]
        except KeyError:
            raise UsageError(f'no signal "{signal}" here: {choices(signal, self.signals)}') from None

    def __contains__(self, signal: str) -> bool:
        return signal in self.signals


@dataclass(frozen=True)
class Targets(Outputs):
    """What teachers say, live or stored: ``source.signal`` -> tensor, with the labels that each source knows.

    ``support`` maps a source to a bool tensor [K], absent where it knows them all.
    """

    support: Mapping[str, Any] = field(default_factory=dict)

    def of(self, name: str) -> Targets:
        """The signals of one source; ``support`` keeps that source's mask under the key ``""``."""
        return Targets(self._mine(f"{name}."), {"": self.support[name]} if name in self.support else {})
