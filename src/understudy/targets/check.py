"""What a teacher answered: is it complete, finite, of the stored form, the same as before?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from understudy.errors import StoreError, TeacherError

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Bad:
    """The first value that is not finite: where, what, whether only the stored dtype cannot hold it, what to do."""

    signal: str
    row: int
    value: str
    overflow: bool
    advice: str


def answers(said: Arrays, rows: int, *, dtype: str) -> dict[str, NDArray[np.generic]]:
    """The teacher's arrays, floating ones in ``dtype``. A value too large for it becomes infinite, which `first_bad`
    finds.

    Raises:
        TeacherError: no signal, or an array without one row per row asked.
    """
    if not said:
        raise TeacherError("the teacher said nothing: score returned no signal")
    result = {}
    for name, values in said.items():
        array = np.asarray(values)
        if array.ndim == 0 or len(array) != rows:
            raise TeacherError(f'the teacher gave "{name}" of shape {list(array.shape)} for {rows:,} rows')
        if array.dtype.kind not in "fiub":
            raise TeacherError(f'the teacher gave "{name}" of dtype {array.dtype}; numbers can be stored')
        with np.errstate(over="ignore"):
            result[name] = array.astype(dtype) if array.dtype.kind == "f" else array
    return result


def finite(signals: Arrays, row: int) -> bool:
    """Whether every floating value of one row is finite."""
    return all(bool(np.isfinite(array[row]).all()) for array in signals.values() if array.dtype.kind == "f")


def first_bad(signals: Arrays) -> Bad | None:
    """The first row with a value that is not finite, or None."""
    for name, array in signals.items():
        if array.dtype.kind != "f" or bool(np.isfinite(array).all()):
            continue
        flat = array.reshape(len(array), -1)
        row = int(np.argmin(np.isfinite(flat).all(axis=1)))
        value = flat[row][~np.isfinite(flat[row])][0]
        half = array.dtype == np.float16 and bool(np.isinf(value))
        advice = 'store it with dtype "float32"' if half else "check the teacher's precision and this row"
        return Bad(name, row, str(value), half, advice)
    return None


def same_layout(layout: Mapping[str, tuple[str, tuple[int, ...]]], signals: Arrays, folder: Path) -> None:
    """Raises a StoreError unless the arrays have the names, dtypes and row shapes of the stored ones."""
    got = {name: (array.dtype.name, array.shape[1:]) for name, array in sorted(signals.items())}
    if got != dict(layout):
        raise StoreError(
            f"the shards in {folder} hold {_shown(layout)}, the teacher now gives {_shown(got)}: "
            "ask for the same signals and dtype, or name another --store"
        )


def compare(stored: Arrays, again: Arrays) -> tuple[float, float]:
    """Largest |again - stored| / (1 + |stored|) over all values, and the share of rows with the same largest entry.

    A signal that one side lacks, another shape, or a value that is not finite is an infinite error.
    """
    error, same = 0.0, np.ones(len(next(iter(stored.values()))), bool)
    if set(stored) != set(again):
        return np.inf, 0.0
    for name, before in stored.items():
        a, b = before.astype(np.float64), again[name].astype(np.float64)
        if a.shape != b.shape:
            return np.inf, 0.0
        gap = np.abs(b - a) / (1 + np.abs(a))
        error = max(error, float(gap.max(initial=0.0)) if bool(np.isfinite(gap).all()) else np.inf)
        if before.ndim == 2 and before.dtype.kind == "f":
            same &= a.argmax(axis=1) == b.argmax(axis=1)
    return error, float(same.mean())


def _shown(layout: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {dtype}{list(shape)}" for name, (dtype, shape) in layout.items())
