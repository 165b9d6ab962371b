"""How a training goes, apart from what it learns."""

from __future__ import annotations

import math
from dataclasses import dataclass

from understudy.errors import UsageError, choices

SCHEDULES = ("constant", "cosine", "linear")


@dataclass(frozen=True)
class Settings:
    """One training's dials; every one of them changes the weights, so all are part of a checkpoint's identity.

    Attributes:
        epochs: passes over the rows.
        batch_size: rows of one optimiser step, over all micro-batches and processes.
        accumulation: micro-batches of one step on each process; same weights for every value, less memory.
        learning_rate: peak of the schedule.
        weight_decay: decoupled, on matrices only (no biases, no norms, no vectors).
        warmup: share of the steps in which the learning rate rises linearly.
        schedule: ``linear`` or ``cosine`` to zero, or ``constant``.
        clip: largest gradient norm of each student with its connectors; None for none.
        precision: ``fp32`` or ``bf16`` autocast; divergences are fp32 either way.
        seed: of the row order, the dropout and everything else that is drawn.
        patience: epochs without a better validation score after which a student stops; None for never.
        max_steps: an upper bound of optimiser steps; the schedule ends there.
        bucketed: batches of rows of similar length.
        checkpoint_seconds: time between sealed checkpoints (changes no weight).
    """

    epochs: int = 3
    batch_size: int = 32
    accumulation: int = 1
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.06
    schedule: str = "linear"
    clip: float | None = 1.0
    precision: str = "fp32"
    seed: int = 0
    patience: int | None = None
    max_steps: int | None = None
    bucketed: bool = True
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise UsageError(f'no schedule "{self.schedule}": {choices(self.schedule, SCHEDULES)}')
        if self.precision not in ("fp32", "bf16"):
            raise UsageError(f'no precision "{self.precision}" here: {choices(self.precision, ("fp32", "bf16"))}')
        for name in ("epochs", "batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("patience", "max_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, or None, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise UsageError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.warmup <= 1:
            raise UsageError(f"warmup is a share of the steps, 0 to 1, got {self.warmup}")

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Learning rate of one step out of ``steps``: up to the peak, which it never exceeds, and towards zero.

        >>> [round(Settings(learning_rate=1.0, warmup=0.5).learning_rate_at(i, 4), 2) for i in range(4)]
        [0.5, 1.0, 1.0, 0.5]
        """
        warm = round(self.warmup * steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        if self.schedule == "constant":
            return self.learning_rate
        left = (steps - step) / (steps - warm)
        return self.learning_rate * (left if self.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))
