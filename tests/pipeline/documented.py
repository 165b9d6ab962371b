"""What run.json promises: its structure as it is documented, and a walk that checks a real one against it."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any

NUMBER = Real
SHARE = "a number from 0 to 1"


class Maybe:
    """The structure, or null."""

    def __init__(self, structure: Any) -> None:
        self.structure = structure


ROWS = {"rows": int, "fingerprint": str}
ESTIMATE = {"value": SHARE, "low": SHARE, "high": SHARE}
MODEL = {
    "parameters": int,
    "bytes": int,
    "metrics": {"accuracy": ESTIMATE},
    "latency_ms": {"p50": NUMBER, "p95": NUMBER, "p99": NUMBER, "batch": {1}, "threads": int},
    "throughput_per_s": {"value": NUMBER, "batch": int, "threads": int},
}
RUN_JSON: dict[str, Any] = {
    "schema": {1},
    "understudy": str,
    "task": {"text-classification", "image-classification"},
    "recipe": dict,
    "data": {"train": ROWS, "validation": ROWS, "test": ROWS, "unlabelled": Maybe(ROWS)},
    "models": dict.fromkeys(("teacher", "baseline", "twin", "student", "artefact"), MODEL),
    "baselines": [{"name": str, "metrics": {"accuracy": ESTIMATE}}],
    "comparison": {
        "metric": {"accuracy"},
        "direction": {"higher", "lower"},
        "retention": NUMBER,
        "gap_closed": Maybe(NUMBER),
        "agreement": Maybe(SHARE),
        "negative_flip_rate": Maybe(SHARE),
        "ece": Maybe(SHARE),
        "compression": Maybe(NUMBER),
        "speedup": NUMBER,
        "per_class": [{"label": str, "teacher": NUMBER, "artefact": NUMBER, "p_value": SHARE}],
    },
    "cost": {"label_seconds": NUMBER, "teacher_calls": int, "train_seconds": NUMBER, "twin_seconds": NUMBER},
    "verdict": {
        "distillation": {"BEATS", "NO GAIN", "INCONCLUSIVE", "HARMS"},
        "margin": NUMBER,
        "seeds": int,
        "why": str,
        "next": str,
        "gates": [{"name": str, "limit": NUMBER, "value": NUMBER, "passed": bool}],
    },
    "stages": [{"name": str, "status": {"done", "reused", "failed"}, "seconds": NUMBER, "fingerprint": str}],
    "environment": {
        "python": str,
        "torch": str,
        "transformers": str,
        "device": str,
        "threads": int,
        "precision": str,
    },
}


def found(facts: Any, structure: Any = RUN_JSON, path: str = "") -> Iterator[str]:
    """The path of every documented value that is there and of the promised kind; anything else is an AssertionError.

    A set lists the values that may stand there, a list holds the structure of each of its (one or more) entries, a
    dictionary names keys that must be there; others may stand beside them.
    """
    if isinstance(structure, Maybe):
        if facts is None:
            yield path
            return
        structure = structure.structure
    if isinstance(structure, dict):
        assert isinstance(facts, dict), f"{path}: wanted an object, got {facts!r}"
        for key, inner in structure.items():
            assert key in facts, f"{path}.{key} is missing; there are {sorted(facts)}"
            yield from found(facts[key], inner, f"{path}.{key}")
    elif isinstance(structure, list):
        assert isinstance(facts, list), f"{path}: wanted a list, got {facts!r}"
        assert facts, f"{path} is empty"
        for i, entry in enumerate(facts):
            yield from found(entry, structure[0], f"{path}[{i}]")
    else:
        assert _fits(facts, structure), f"{path}: wanted {structure}, got {facts!r}"
        yield path


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, set):
        return value in kind and not isinstance(value, bool)
    number = isinstance(value, Real) and not isinstance(value, bool) and value == value
    if kind == SHARE:
        return number and 0 <= value <= 1
    if kind is Real:
        return number
    return isinstance(value, kind) and (kind is not int or not isinstance(value, bool)) and value != ""
