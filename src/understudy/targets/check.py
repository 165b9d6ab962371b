"""What a teacher answered: is it complete, finite, of the stored form, the same as before?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from understudy.errors import StoreError, TeacherError
from understudy.ragged import Ragged
from understudy.targets.signals import Layout, Signal, Signals, numbers
from understudy.targets.signals import layout as layout_of


@dataclass(frozen=True)
class Bad:
    """The first value that is not finite: where, what, whether only the stored dtype cannot hold it, what to do."""

    signal: str
    row: int
    value: str
    overflow: bool
    advice: str


def answers(said: Signals, rows: int, *, dtype: str) -> dict[str, Signal]:
    """The teacher's arrays, floating ones in ``dtype``, or as they are ``given``. A value too large for it becomes
    infinite, which `first_bad` finds.

    Raises:
        TeacherError: no signal, or an array without one row per row asked.
    """
    if not said:
        raise TeacherError("the teacher said nothing: score returned no signal")
    result: dict[str, Signal] = {}
    for name, values in said.items():
        array = np.asarray(numbers(values))
        given = len(values) if isinstance(values, Ragged) else len(array) if array.ndim else -1
        if given != rows:
            raise TeacherError(f'the teacher gave "{name}" of shape {list(array.shape)} for {rows:,} rows')
        if array.dtype.kind not in "fiub":
            raise TeacherError(f'the teacher gave "{name}" of dtype {array.dtype}; numbers can be stored')
        with np.errstate(over="ignore"):
            array = array.astype(dtype) if array.dtype.kind == "f" and dtype != "given" else array
        result[name] = values.holding(array) if isinstance(values, Ragged) else array
    return result


def finite(signals: Signals, row: int) -> bool:
    """Whether every floating value of one row is finite."""
    floats = (signal for signal in signals.values() if numbers(signal).dtype.kind == "f")
    return all(bool(np.isfinite(signal[row]).all()) for signal in floats)


def first_bad(signals: Signals) -> Bad | None:
    """The first row with a value that is not finite, or None."""
    for name, signal in signals.items():
        array = numbers(signal)
        if array.dtype.kind != "f" or bool(np.isfinite(array).all()):
            continue
        flat = array.reshape(len(array), -1)
        place = int(np.argmin(np.isfinite(flat).all(axis=1)))
        row = int(signal.owners[place]) if isinstance(signal, Ragged) else place
        value = flat[place][~np.isfinite(flat[place])][0]
        half = array.dtype == np.float16 and bool(np.isinf(value))
        advice = 'store it with dtype "float32"' if half else "check the teacher's precision and this row"
        return Bad(name, row, str(value), half, advice)
    return None


def same_layout(layout: Mapping[str, Layout], signals: Signals, folder: Path) -> None:
    """Raises a StoreError unless the arrays have the names, dtypes and row shapes of the stored ones."""
    got = {name: layout_of(signal) for name, signal in sorted(signals.items())}
    if got != dict(layout):
        raise StoreError(
            f"the shards in {folder} hold {_shown(layout)}, the teacher now gives {_shown(got)}: "
            "ask for the same signals and dtype, or name another --store"
        )


def compare(stored: Signals, again: Signals) -> tuple[float, float]:
    """Largest |again - stored| / (1 + |stored|) over all values, and the share of rows (or of words) with the same
    largest entry.

    A signal that one side lacks, another shape, or a value that is not finite is an infinite error.
    """
    error, same = 0.0, np.ones(len(numbers(next(iter(stored.values())))), bool)
    if set(stored) != set(again):
        return np.inf, 0.0
    for name, signal in stored.items():
        other, before = again[name], numbers(signal)
        a, b = before.astype(np.float64), numbers(other).astype(np.float64)
        if a.shape != b.shape or not _same_rows(signal, other):
            return np.inf, 0.0
        gap = np.abs(b - a) / (1 + np.abs(a))
        error = max(error, float(gap.max(initial=0.0)) if bool(np.isfinite(gap).all()) else np.inf)
        if before.ndim == 2 and before.dtype.kind == "f":
            same &= a.argmax(axis=1) == b.argmax(axis=1)
    return error, float(same.mean())


def _same_rows(ours: Signal, theirs: Signal) -> bool:
    """Whether the rows of both are as long as each other."""
    if isinstance(ours, Ragged) and isinstance(theirs, Ragged):
        return bool(np.array_equal(ours.offsets, theirs.offsets))
    return not (isinstance(ours, Ragged) or isinstance(theirs, Ragged))


def _shown(layout: Mapping[str, Layout]) -> str:
    return ", ".join(f"{name} {dtype}{list(shape)}" for name, (dtype, shape) in layout.items())
