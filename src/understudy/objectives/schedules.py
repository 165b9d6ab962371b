"""Weights that change with the optimiser step. A schedule multiplies the configured weight, it never replaces it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from understudy.errors import UsageError
from understudy.objectives.term import Weight

__all__ = ["Schedule", "cosine", "linear", "off_after", "step"]


@dataclass(frozen=True, repr=False)
class Schedule:
    """A weight times a factor of the step; prints as what it does, so that a run can show and compare it."""

    weight: Weight
    factor: Callable[[int], float] = field(compare=False)
    text: str

    def __call__(self, step: int) -> float:
        weight = self.weight(step) if callable(self.weight) else self.weight
        return weight * self.factor(step)

    def __repr__(self) -> str:
        return f"{self.weight!r} * {self.text}"


def linear(weight: Weight, *, steps: int, start: float = 0.0, end: float = 1.0) -> Schedule:
    """The weight times a straight line from ``start`` at step 0 to ``end`` at ``steps``, and ``end`` from there on.

    >>> [linear(2.0, steps=4)(step) for step in (0, 2, 4, 9)]
    [0.0, 1.0, 2.0, 2.0]
    """
    _positive("steps", steps)
    text = f"linear({start:g} to {end:g} in {steps} steps)"
    return Schedule(weight, lambda step: start + (end - start) * min(step / steps, 1.0), text)


def cosine(weight: Weight, *, steps: int, start: float = 1.0, end: float = 0.0) -> Schedule:
    """The weight times half a cosine from ``start`` at step 0 to ``end`` at ``steps``, and ``end`` from there on.

    >>> [round(cosine(2.0, steps=4)(step), 3) for step in (0, 2, 4, 9)]
    [2.0, 1.0, 0.0, 0.0]
    """
    _positive("steps", steps)
    text = f"cosine({start:g} to {end:g} in {steps} steps)"
    return Schedule(
        weight, lambda step: end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0))), text
    )


def step(weight: Weight, *, every: int, factor: float = 0.5) -> Schedule:
    """The weight times ``factor`` once more after each ``every`` steps.

    >>> [step(2.0, every=10)(now) for now in (0, 9, 10, 25)]
    [2.0, 2.0, 1.0, 0.5]
    """
    _positive("every", every)
    return Schedule(weight, lambda now: float(factor ** (now // every)), f"step({factor:g} every {every})")


def off_after(weight: Weight, *, steps: int) -> Schedule:
    """The weight for the first ``steps`` steps, 0 after them.

    >>> [off_after(2.0, steps=3)(step) for step in (0, 2, 3)]
    [2.0, 2.0, 0.0]
    """
    _positive("steps", steps)
    return Schedule(weight, lambda step: 1.0 if step < steps else 0.0, f"off_after({steps})")


def _positive(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise UsageError(f"wanted {name} as an integer of at least 1, got {value!r}")
