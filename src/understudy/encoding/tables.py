"""Rows of a table as numbers: standardised where they are numbers, one column per category where they are names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding.features import RowError, columns
from understudy.errors import UsageError
from understudy.files import content_hash

MOST = 100  # categories of a column; the others are one


@dataclass(frozen=True)
class Column:
    """How one column is read.

    Attributes:
        name: of the column.
        mean, std: of its training values, where it holds numbers; a missing one reads as the mean.
        missing: whether a training row lacked it; then a second feature says so.
        categories: of a column of names, the commonest first; None: it holds numbers. A name that is not among them
            reads as none of them.
    """

    name: str
    mean: float = 0.0
    std: float = 1.0
    missing: bool = False
    categories: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        """Features that it becomes."""
        return 1 + self.missing if self.categories is None else len(self.categories)


class TableEncoder:
    """Columns of numbers and of names as float32 features.

    Args:
        columns: how each is read, in order.
    """

    kind = "table"

    def __init__(self, columns: Sequence[Column]) -> None:
        if not columns:
            raise UsageError("a table needs at least one column beside the label")
        self.columns = tuple(columns)
        self.fields = tuple(column.name for column in columns)
        self.size = sum(column.width for column in columns)

    @classmethod
    def fit(cls, inputs: Mapping[str, Sequence[Any]]) -> TableEncoder:
        """What the training rows say of each column: numbers where all of its values are, names otherwise."""
        return cls([_fitted(name, values) for name, values in inputs.items()])

    @property
    def fingerprint(self) -> str:
        """Changes with every statistic and category."""
        return content_hash(self.kind, repr(self.columns))

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """float32 [N, F]. Raises RowError for a name where a number is wanted, or a value that is neither."""
        found = columns(inputs, self.fields)
        features = np.zeros((len(found[0]), self.size), np.float32)
        at = 0
        for column, values in zip(self.columns, found, strict=True):
            part = features[:, at : at + column.width]
            for row, value in enumerate(values):
                if column.categories is None:
                    number = _number(value, column.name, row)
                    if math.isnan(number):
                        part[row, 1:] = 1.0
                    else:
                        part[row, 0] = (number - column.mean) / column.std
                elif (name := _name(value, column.name, row)) in column.categories:
                    part[row, column.categories.index(name)] = 1.0
            at += column.width
        return features

    def collate(self, features: np.ndarray, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """``features`` float32 [N, F] of some rows."""
        return {"features": features[np.asarray(indices, np.int64)]}

    def lengths(self, features: np.ndarray) -> np.ndarray:
        """Ones: every row costs the same."""
        return np.ones(len(features), np.int64)

    def save(self, folder: Path) -> dict[str, Any]:
        """The entry for a manifest; nothing is written."""
        return {"kind": self.kind, "columns": [asdict(column) for column in self.columns]}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> TableEncoder:
        """The encoder that `save` described."""
        made = [
            Column(**{**one, "categories": None if one["categories"] is None else tuple(one["categories"])})
            for one in entry["columns"]
        ]
        return cls(made)


def _fitted(name: str, values: Sequence[Any]) -> Column:
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        numbers = np.array([_number(value, name, row) for row, value in enumerate(values)])
        known = numbers[~np.isnan(numbers)]
        mean, std = (float(known.mean()), float(known.std()) or 1.0) if len(known) else (0.0, 1.0)
        return Column(name, mean, std, missing=len(known) < len(numbers))
    names = [_name(value, name, row) for row, value in enumerate(values)]
    counted = {one: names.count(one) for one in set(names)}
    ordered = sorted(counted, key=lambda one: (-counted[one], one))
    return Column(name, categories=tuple(ordered[:MOST]))


def _number(value: Any, column: str, row: int) -> float:
    if value is None or value == "":
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowError(row, column, f"wanted a number, got a {type(value).__name__} ({str(value)[:40]!r})")
    if math.isinf(value):
        raise RowError(row, column, "wanted a finite number, got infinity")
    return float(value)


def _name(value: Any, column: str, row: int) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool | int | str):
        return str(value)
    raise RowError(row, column, f"wanted a name, got a {type(value).__name__} ({str(value)[:40]!r})")
