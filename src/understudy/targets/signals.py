"""What is stored of a signal: an array with one entry a row, or a `Ragged` with as many as a row has words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.ragged import Ragged

Signal = NDArray[Any] | Ragged
Signals = Mapping[str, Signal]
Layout = tuple[str, tuple[int, ...]]
OFFSETS = ".offsets"  # behind a signal's name: where its rows start


def numbers(signal: Signal) -> NDArray[Any]:
    """All of its numbers, in whatever shape."""
    return signal.values if isinstance(signal, Ragged) else signal


def layout(signal: Signal) -> Layout:
    """dtype and shape of one row; of a `Ragged` the first is -1, for its rows differ in length."""
    shape = signal.values.shape[1:] if isinstance(signal, Ragged) else signal.shape[1:]
    return numbers(signal).dtype.name, ((-1, *shape) if isinstance(signal, Ragged) else shape)


def taken(signal: Signal, rows: Sequence[int] | NDArray[Any]) -> Signal:
    """Some rows, in the order asked for."""
    return signal.take(rows) if isinstance(signal, Ragged) else signal[np.asarray(rows, np.int64)]


def joined(parts: Sequence[Signal]) -> Signal:
    """The rows of all parts, one after the other."""
    ragged = [part for part in parts if isinstance(part, Ragged)]
    return Ragged.join(ragged) if ragged else np.concatenate([numbers(part) for part in parts])


def to_file(signals: Signals) -> dict[str, NDArray[Any]]:
    """The arrays that stand for them in a file: values, and offsets int64 [N + 1] where rows differ in length."""
    found: dict[str, NDArray[Any]] = {}
    for name, signal in signals.items():
        found[name] = numbers(signal)
        if isinstance(signal, Ragged):
            found[name + OFFSETS] = signal.offsets
    return found


def from_file(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Signal]:
    """What `to_file` was given."""
    offsets = {name for name in arrays if name.endswith(OFFSETS) and name.removesuffix(OFFSETS) in arrays}
    return {
        name: Ragged(array, arrays[name + OFFSETS]) if name + OFFSETS in offsets else array
        for name, array in arrays.items()
        if name not in offsets
    }
