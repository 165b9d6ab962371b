"""Which training a checkpoint belongs to: a hash of everything that decides the weights."""

from __future__ import annotations

import re
from dataclasses import asdict
from functools import partial
from typing import Any

from understudy.data.feed import Feed
from understudy.files import content_hash
from understudy.training.distillation import Distillation
from understudy.training.settings import Settings

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_SAMPLES = 64  # steps at which a schedule of weights is looked at


def identity(
    model: Distillation, settings: Settings, data: Feed, teacher: Any, prepare: Any = None, *, steps: int, world: int
) -> str:
    """Hash of rows, encodings, students, objective, teacher, settings (less the checkpoint clock) and processes.

    The weights that a student starts from take no part: the checkpoint has its own, and a module of a user's may be
    drawn anew in every process. A teacher takes part by its ``fingerprint``, if it has one, and so does ``prepare``.
    """
    dials = {key: value for key, value in asdict(settings).items() if key != "checkpoint_seconds"}
    parts = [data.fingerprint, _shown(data.view), repr(sorted(dials.items())), str(world)]
    parts.append(str(getattr(teacher, "fingerprint", "")))
    parts += [str(prepare.fingerprint)] if hasattr(prepare, "fingerprint") else []
    parts += [_ADDRESS.sub("", repr(student)) for student in model.students]
    parts += [f"{name} {tuple(p.shape)} {p.requires_grad}" for name, p in model.named_parameters()]
    for term in model.terms:
        weights = [term.weight_at(step) for step in range(0, steps, max(1, steps // _SAMPLES))]
        parts += [term.name, term.of, term.against, term.per, term.formula, _shown(term.value), repr(weights)]
    return content_hash(*parts)


def _shown(value: Any) -> str:
    """A value as text that is the same in every process: a function by its name, a partial with its arguments."""
    if isinstance(value, partial):
        arguments = [*value.args, *sorted(value.keywords.items())]
        return f"{_shown(value.func)}({', '.join(map(_shown, arguments))})"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_shown, value))})"
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return _ADDRESS.sub("", repr(value))
