"""What a training tells the outside: after every step a few facts, at the end the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Step:
    """Where a training is: ``loss`` and ``terms`` are running means of this epoch, ``agreement`` the share of rows on
    which student and teacher choose the same label, ``best`` the best validation score so far, ``remaining`` an
    estimate in seconds, ``validation`` the score of the epoch that ended with this step, if one did."""

    step: int
    steps: int
    epoch: int
    loss: float
    terms: Mapping[str, float]
    agreement: float | None
    best: float | None
    remaining: float
    validation: float | None = None


@dataclass(frozen=True)
class Training:
    """What a training did.

    Attributes:
        students: name -> module as it was given, in eval mode, with the weights of its best epoch.
        history: one mapping an epoch: ``step``, ``epoch``, ``loss``, ``terms`` (unweighted), ``weights``,
            ``agreement``, ``validation`` (of the student), ``scores`` (of everyone in a cohort).
        best: name -> best validation score, empty without ``validate``.
        seconds: time spent training, over all sittings.
        notes: what was decided on the way (frozen parts, skipped checkpoints, halved micro-batches).
        preparing: those of the seconds that ``prepare`` took.
    """

    students: Mapping[str, nn.Module]
    history: tuple[Mapping[str, Any], ...]
    best: Mapping[str, float]
    steps: int
    seconds: float
    notes: tuple[str, ...] = field(default=())
    preparing: float = 0.0

    @property
    def student(self) -> nn.Module:
        """The one that ships."""
        return self.students["student"]


Watch = Callable[[Step], None]


def silent(step: Step) -> None:
    """Watches nothing."""
