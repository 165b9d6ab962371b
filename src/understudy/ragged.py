"""Rows of different lengths in one flat array: ids of a text, logits of the words of a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOWHERE = -1  # a place behind the last one of a row
NOTHING = -2  # a place that there is, and at which nothing is read


@dataclass(frozen=True)
class Ragged:
    """Row i is ``values[offsets[i]:offsets[i + 1]]``.

    >>> rows = Ragged(np.array([7, 8, 9], np.int32), np.array([0, 2, 3]))
    >>> rows.take([1, 0]).values.tolist()
    [9, 7, 8]

    Attributes:
        values: [M], int32 where they are ids; or [M, K], float32 where they are logits.
        offsets: int64 [N + 1], rising, from 0 to M.
        types: int8 [M], the segment of each value (0 or 1), or None where all are 0.
        cut: bool [N], the rows that were longer than the encoder's limit and lost their ends; None where it has none.
    """

    values: NDArray[Any]
    offsets: NDArray[Any]
    types: NDArray[Any] | None = None
    cut: NDArray[Any] | None = None

    @classmethod
    def of(cls, rows: Iterable[NDArray[Any]], like: NDArray[Any] | None = None) -> Ragged:
        """Arrays of any lengths as rows; ``like`` says of what kind nothing is.

        >>> Ragged.of([np.array([1, 2]), np.array([3])]).offsets.tolist()
        [0, 2, 3]
        """
        rows = list(rows)
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        nothing = np.zeros(0, np.int64) if like is None else like[:0]
        return cls(np.concatenate(rows) if rows else nothing, offsets)

    @classmethod
    def join(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts, at least one, one after the other."""
        lengths = np.concatenate([np.zeros(1, np.int64), *(part.lengths for part in parts)])
        types = [part.types for part in parts if part.types is not None]
        cuts = [part.cut for part in parts if part.cut is not None]
        return cls(
            np.concatenate([part.values for part in parts]),
            np.cumsum(lengths),
            np.concatenate(types) if len(types) == len(parts) else None,
            np.concatenate(cuts) if len(cuts) == len(parts) else None,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        row = range(len(self))[row]
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[Any]:
        """int64 [N]."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> NDArray[Any]:
        """int64 [M]: the row of each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, indices: Sequence[int] | NDArray[Any]) -> Ragged:
        """Some rows, in the order asked for."""
        rows = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[rows]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        where = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        types = None if self.types is None else self.types[where]
        return Ragged(self.values[where], offsets, types, None if self.cut is None else self.cut[rows])

    def first(self, most: int) -> Ragged:
        """At most so many values of every row, the first ones; ``cut`` says which rows had more.

        >>> some = Ragged(np.array([7, 8, 9], np.int32), np.array([0, 1, 3])).first(1)
        >>> some.values.tolist(), some.cut.tolist()
        ([7, 8], [False, True])
        """
        cut = self.lengths > most
        if not cut.any():
            return replace(self, cut=cut)
        kept = np.arange(len(self.values)) - np.repeat(self.offsets[:-1], self.lengths) < most
        offsets = np.zeros_like(self.offsets)
        np.cumsum(np.minimum(self.lengths, most), out=offsets[1:])
        return Ragged(self.values[kept], offsets, None if self.types is None else self.types[kept], cut)

    def holding(self, values: NDArray[Any]) -> Ragged:
        """Rows of the same lengths with other values, [M] or [M, K]."""
        return Ragged(values, self.offsets)

    def rows(self) -> NDArray[Any]:
        """Object array [N] of the rows."""
        return as_rows([self[row] for row in range(len(self))])

    def padded(self, fill: float, width: int | None = None) -> NDArray[Any]:
        """[N, W] or [N, W, K]: rows filled up to ``width``, the longest where None; what is longer is left out."""
        lengths = self.lengths
        width = max(1, int(lengths.max(initial=1))) if width is None else width
        found = np.full((len(self), width, *self.values.shape[1:]), fill, self.values.dtype)
        place = np.arange(len(self.values)) - np.repeat(self.offsets[:-1], lengths)
        kept = place < width
        found[self.owners[kept], place[kept]] = self.values[kept]
        return found


def as_rows(values: Sequence[Any]) -> NDArray[Any]:
    """Object array [N] of N things, be they arrays of one length.

    >>> as_rows([np.zeros(2), np.zeros(2)]).shape
    (2,)
    """
    found = np.empty(len(values), object)
    for row, value in enumerate(values):
        found[row] = value
    return found


def in_order(parts: Sequence[tuple[NDArray[Any], Ragged]]) -> Ragged:
    """Rows that were made some at a time, in the order of their numbers.

    >>> one, two = Ragged.of([np.array([1, 2])]), Ragged.of([np.array([3])])
    >>> in_order([(np.array([1]), one), (np.array([0]), two)]).values.tolist()
    [3, 1, 2]
    """
    numbers = np.concatenate([rows for rows, _ in parts])
    return Ragged.join([part for _, part in parts]).take(np.argsort(numbers, kind="stable"))


def at_places(values: NDArray[Any], places: NDArray[Any], never: float = 0.0) -> Ragged:
    """Of values [R, L, K] those at each row's places, which count over the whole batch: r * L + l.

    Args:
        values: of any models' positions; a row of the batch may have several of R.
        places: int64 [N, W]; or [N, K, W], where each of the K columns stands at a place of its own. `NOWHERE` behind
            a row's last one, `NOTHING` where no value is read.
        never: what is written there instead.

    >>> at_places(np.arange(8.0).reshape(2, 2, 2), np.array([[[1, -1], [2, -1]]])).values.tolist()
    [[2.0, 5.0]]
    """
    flat = values.reshape(-1, values.shape[-1])
    there = (places if places.ndim == 2 else places[:, 0]) != NOWHERE
    offsets = np.zeros(len(places) + 1, np.int64)
    np.cumsum(there.sum(1), out=offsets[1:])
    if places.ndim == 2:
        return Ragged(flat[places[there]], offsets)
    chosen = np.moveaxis(places, 1, 2)[there]
    found = np.take_along_axis(flat.T, np.maximum(chosen, 0).T, axis=1).T
    return Ragged(np.where(chosen == NOTHING, np.float32(never), found), offsets)
