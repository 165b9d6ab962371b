"""A term: one thing that must match, what it reads, what it counts, and how much it weighs.

A term never divides. `Term.total` is a sum over counted positions and `Term.count` what it is to be divided by; the
loop sums both over micro-batches and processes and divides once, so that a loss does not depend on how rows are split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.objectives.numerics import wide
from understudy.records import Batch, Outputs, Targets

__all__ = ["ZERO", "Needs", "Term", "Weight", "signal", "support_of", "title"]

ZERO = "0, gradient 0"  # what most terms say of their value at equality

Weight = float | Callable[[int], float]
Said = TypeVar("Said", bound=Outputs)


@dataclass(frozen=True)
class Needs:
    """Signals that a term reads: of the output that learns, and of the source that teaches.

    ``logits``; ``module:<path>`` for the output of any module; ``states`` and ``head`` for hidden states and the
    weights of a head, instead of logits.
    """

    learner: frozenset[str] = frozenset()
    source: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Term:
    """One part of an objective.

    Attributes:
        name: how logs call it, and the name of its connector: unique in an objective, without dots.
        value: ``(outputs, targets, batch[, connector=module])`` -> unreduced fp32, one number for each entry of the
            mask. ``outputs`` are the signals of ``of``, ``targets`` those of ``against``, detached, without prefixes.
        weight: a number, or optimiser step -> number (see `understudy.objectives.schedules`).
        per: the mask in ``batch.masks`` that is counted.
        needs: the signals that ``value`` reads.
        of: the output that learns: ``student``, ``exit.0``, ``peer.1``.
        against: the source that teaches: ``teacher``, ``teacher.fr``, ``self``, ``peer.1``, ``labels``.
        connector: builds the trained part that never ships from observed outputs and targets, before the optimiser.
        coupled: the value of one entry depends on the others, so that splitting a batch changes it.
        formula: for people.
        source: where the formula is from.
    """

    name: str
    value: Callable[..., Tensor]
    weight: Weight = 1.0
    per: str = "examples"
    needs: Needs = Needs()
    of: str = "student"
    against: str = "teacher"
    connector: Callable[[Outputs, Targets], nn.Module] | None = None
    coupled: bool = False
    formula: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not self.name or "." in self.name:
            raise UsageError(f"wanted a term's name without dots (its connector is a named module), got {self.name!r}")
        if not callable(self.weight):
            self._checked(self.weight)

    def weight_at(self, step: int) -> float:
        """The weight at an optimiser step.

        >>> Term("half", torch.sub, weight=0.5).weight_at(0)
        0.5
        """
        return self._checked(self.weight(step) if callable(self.weight) else self.weight)

    def count(self, batch: Batch) -> Tensor:
        """What the total is to be divided by: the sum of the mask, a scalar, from the batch alone."""
        return wide(self._mask(batch)).sum()

    def total(self, outputs: Outputs, targets: Targets, batch: Batch, connector: nn.Module | None = None) -> Tensor:
        """Sum over the mask of value * mask, a scalar.

        What is masked may hold anything: a copy of something that counts stands in for it before the value is computed,
        so that NaN or inf there reach neither the sum nor the gradient, and no value has to bear a row of zeros (which
        it reads only where nothing counts at all).

        Raises:
            UsageError: no such mask, or a value of another shape than the mask.
        """
        mask = self._mask(batch)
        # A look at the mask costs nothing on a CPU, stand-ins a fifth of the term; elsewhere the look would stall.
        everything = not mask.numel() or (mask.device.type == "cpu" and bool(mask.all()))
        if not everything:
            counted = mask != 0
            outputs, targets = _covered(outputs, counted), _covered(targets, counted)
        if connector is None:
            value = self.value(outputs, targets, batch)
        else:
            value = self.value(outputs, targets, batch, connector=connector)
        if value.shape != mask.shape:
            raise UsageError(
                f'term "{self.name}": wanted one value for each entry of mask "{self.per}" {list(mask.shape)}, '
                f"got {list(value.shape)}: values are unreduced"
            )
        weighed = wide(value) * mask
        return weighed.sum() if everything else torch.where(mask != 0, weighed, 0.0).sum()

    def _mask(self, batch: Batch) -> Tensor:
        if self.per not in batch.masks:
            raise UsageError(f'term "{self.name}" counts mask "{self.per}": {choices(self.per, batch.masks)}')
        mask: Tensor = batch.masks[self.per]
        return mask

    def _checked(self, weight: float) -> float:
        if not isinstance(weight, Real) or not 0.0 <= weight < math.inf:
            raise UsageError(f'term "{self.name}": wanted a weight of at least 0, got {weight!r}')
        return float(weight)


class _Covered(Mapping[str, Any]):
    """Signals whose uncounted rows read as the first counted one, the same row in all of them."""

    def __init__(self, signals: Mapping[str, Any], counted: Tensor) -> None:
        self._signals, self._counted = signals, counted

    def __getitem__(self, name: str) -> Any:
        signal = self._signals[name]
        # Weights (a head) are not rows of the batch, even if they happen to be as many.
        if not isinstance(signal, Tensor) or isinstance(signal, nn.Parameter) or name == "head":
            return signal
        counted = self._counted
        # Positions only where the shape is unmistakable, [N, L, D] under [N, L]: logits [N, K] with K = L, or attention
        # [N, heads, L, L] with heads = L, look like positions and are not. Elsewhere a row goes if none of it counts.
        if counted.ndim > 1 and not (signal.ndim == counted.ndim + 1 and signal.shape[:-1] == counted.shape):
            counted = counted.flatten(1).any(dim=1)
        if signal.shape[: counted.ndim] != counted.shape:
            return signal
        stand_in = signal.detach().flatten(0, counted.ndim - 1).index_select(0, counted.flatten().int().argmax()[None])
        stand_in = stand_in.masked_fill(~counted.any(), 0).squeeze(0)
        return torch.where(counted.reshape(*counted.shape, *[1] * (signal.ndim - counted.ndim)), signal, stand_in)

    def __iter__(self) -> Iterator[str]:
        return iter(self._signals)

    def __len__(self) -> int:
        return len(self._signals)

    def __contains__(self, name: object) -> bool:
        return name in self._signals


def _covered(said: Said, counted: Tensor) -> Said:
    return replace(said, signals=_Covered(said.signals, counted))


def title(kind: str, of: str, against: str, *, usual: str = "teacher") -> str:
    """The name of a term: its kind, and what is unusual about it; dots would not do as the name of a connector.

    >>> title("soft_labels", "exit.0", "self")
    'soft_labels/exit-0/self'
    """
    unusual = [part for part, default in ((of, "student"), (against, usual)) if part != default]
    return "/".join([kind, *unusual]).replace(".", "-")


def signal(layer: str | int) -> str:
    """What a layer is called as a signal: a number is a hidden state, a plain path the output of that module.

    >>> signal(3), signal("query.1"), signal("encoder.layer.3")
    ('hidden.3', 'query.1', 'module:encoder.layer.3')
    """
    name = f"hidden.{layer}" if isinstance(layer, int) else layer
    known = name in ("features", "logits") or name.startswith(("module:", "input:"))
    kind, _, index = name.rpartition(".")
    return name if known or (kind in _LAYERED and index.isdigit()) else f"module:{name}"


_LAYERED = ("hidden", "attention", "query", "key", "value")


def support_of(targets: Outputs) -> Tensor | None:
    """The labels that a source knows, None for all; a peer or an own layer has no support at all."""
    return targets.support.get("") if isinstance(targets, Targets) else None
