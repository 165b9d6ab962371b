"""What encoders produce, and what every encoder can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from understudy.errors import DataError


class RowError(DataError):
    """One row that cannot be encoded; ``row`` counts from 0, the message from 1."""

    def __init__(self, row: int, column: str, problem: str) -> None:
        super().__init__(f'row {row + 1}, column "{column}": {problem}')
        self.row, self.column, self.problem = row, column, problem


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths in one flat array: row i is ``values[offsets[i]:offsets[i + 1]]``.

    >>> rows = Ragged(np.array([7, 8, 9], np.int32), np.array([0, 2, 3]))
    >>> rows.take([1, 0]).values.tolist()
    [9, 7, 8]

    Attributes:
        values: int32 [M].
        offsets: int64 [N + 1], rising, from 0 to M.
        types: int8 [M], the segment of each value (0 or 1), or None where all are 0.
        cut: bool [N], the rows that were longer than the encoder's limit and lost their ends; None where it has none.
    """

    values: np.ndarray
    offsets: np.ndarray
    types: np.ndarray | None = None
    cut: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        row = range(len(self))[row]
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N]."""
        return np.diff(self.offsets)

    def take(self, indices: Sequence[int] | np.ndarray) -> Ragged:
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


@dataclass(frozen=True)
class Pairs:
    """Rows of two texts each: those of row i are rows 2 i and 2 i + 1 of ``texts``."""

    texts: Ragged

    def __len__(self) -> int:
        return len(self.texts) // 2

    @property
    def cut(self) -> np.ndarray | None:
        """bool [N], the rows of which either text lost its end; None where texts have no limit."""
        return None if self.texts.cut is None else np.logical_or(self.texts.cut[0::2], self.texts.cut[1::2])


Features = Ragged | Pairs | np.ndarray


class Encoder(Protocol):
    """Raw columns -> features -> inputs of a model."""

    kind: str
    fields: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Changes when any row could be encoded differently."""

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> Any:
        """Features of all rows. Raises RowError for a row that cannot be read, DataError for a missing column."""

    def collate(self, features: Any, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """The model's inputs for some rows."""

    def lengths(self, features: Any) -> np.ndarray:
        """int64 [N]: what a row costs, for sorting into batches."""

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the files that it needs; its entry in a manifest, for `load_encoder`."""


def padded(rows: Ragged, padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Values int64 [N, L] filled up with ``padding``, and a mask bool [N, L] of what is real; L is at least 1."""
    lengths = rows.lengths
    mask = np.arange(max(1, int(lengths.max(initial=1)))) < lengths[:, None]
    values = np.full(mask.shape, padding, np.int64)
    values[mask] = rows.values
    return values, mask


def columns(inputs: Mapping[str, Sequence[Any]], fields: Sequence[str]) -> list[Sequence[Any]]:
    """The columns that an encoder reads, all of one length. Raises DataError naming the one that is missing."""
    missing = [field for field in fields if field not in inputs]
    if missing:
        raise DataError(f'no column "{missing[0]}"; there are: {", ".join(map(str, inputs)) or "none"}')
    found = [inputs[field] for field in fields]
    if len({len(column) for column in found}) > 1:
        sizes = ", ".join(f"{field}: {len(column)}" for field, column in zip(fields, found, strict=True))
        raise DataError(f"columns of different lengths ({sizes})")
    return found


def text_columns(inputs: Mapping[str, Sequence[Any]], fields: Sequence[str]) -> list[Sequence[str]]:
    """`columns` that hold nothing but texts. Raises RowError for the first row that does not."""
    found = columns(inputs, fields)
    if any(set(map(type, column)) - {str} for column in found):
        for row, values in enumerate(zip(*found, strict=True)):
            for field, value in zip(fields, values, strict=True):
                if not isinstance(value, str):
                    raise not_text(row, field, value)
    return found


def not_text(row: int, column: str, value: object) -> RowError:
    """The error for a value that should have been a string."""
    nothing = value is None or (isinstance(value, float) and value != value)
    got = "nothing (null or NaN)" if nothing else f"a {type(value).__name__}"
    return RowError(row, column, f"wanted a text, got {got}; drop the row or fill it in")
