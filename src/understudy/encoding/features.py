"""What encoders produce, and what every encoder can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from understudy.errors import DataError
from understudy.ragged import Ragged


class RowError(DataError):
    """One row that cannot be encoded; ``row`` counts from 0, the message from 1."""

    def __init__(self, row: int, column: str, problem: str) -> None:
        super().__init__(f'row {row + 1}, column "{column}": {problem}')
        self.row, self.column, self.problem = row, column, problem


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
    values = rows.padded(padding).astype(np.int64)
    return values, np.arange(values.shape[1]) < rows.lengths[:, None]


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
