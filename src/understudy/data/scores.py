"""Label columns that hold no class: a score for every row, or the list of all labels that hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.data.problems import nearest
from understudy.data.tables import Table
from understudy.data.tabular import LARGEST
from understudy.errors import LabelError


def read_scores(table: Table, column: str) -> NDArray[np.float64]:
    """Numbers [N]; NaN where a row has none (null, NaN, an empty cell).

    Raises:
        LabelError: a value that is no finite number; the row is named.
    """
    found = np.empty(len(table), np.float64)
    for row, value in enumerate(table.values(column), start=1):
        number = _number(value)
        if number is None or abs(number) > LARGEST:
            raise LabelError(
                f'{table.source}, row {row:,}: column "{column}" holds {_shown(value)}, wanted a number such as 0.5, '
                f"at most {LARGEST:g}; for names of classes take a task of classification"
            )
        found[row - 1] = number
    return found


def _number(value: Any) -> float | None:
    """A float, NaN for nothing, None for what is no number."""
    if value is None or value == "":
        return math.nan
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True)
class LabelLists:
    """The labels of each row of one table as names; None where nobody said any."""

    source: str
    lists: tuple[tuple[str, ...] | None, ...]
    order: tuple[str, ...] | None


def read_lists(table: Table, column: str) -> LabelLists:
    """Lists of names, or of positions where the column names its classes. An empty list means that none holds.

    Vectors of 0 and 1, a place for each label, are read as well where no class has a name: labels are then called by
    their places, from 0.

    Raises:
        LabelError: a value that is no list of names, or a vector of another length; the row is named.
    """
    order = table.class_names(column)
    if order is None and _vectors(table, column):
        return _read_vectors(table, column)
    found: list[tuple[str, ...] | None] = []
    for row, value in enumerate(table.values(column), start=1):
        if value is None:
            found.append(None)
            continue
        if not isinstance(value, list | tuple):
            raise LabelError(
                f'{table.source}, row {row:,}: column "{column}" holds {_shown(value)}, wanted a list of labels such '
                'as ["urgent", "billing"] (Parquet or JSON lines; a CSV has no lists)'
            )
        found.append(tuple(_name(one, order, f'{table.source}, row {row:,}, column "{column}"') for one in value))
    return LabelLists(table.source, tuple(found), order)


def _vectors(table: Table, column: str) -> bool:
    """Whether every list of a column holds 0 and 1 alone, and there is one."""
    lists = [value for value in table.values(column) if isinstance(value, list | tuple) and value]
    return bool(lists) and all(isinstance(one, int | float) and one in (0, 1) for value in lists for one in value)


def _read_vectors(table: Table, column: str) -> LabelLists:
    found: list[tuple[str, ...] | None] = []
    width: int | None = None
    for row, value in enumerate(table.values(column), start=1):
        if value is None:
            found.append(None)
            continue
        width = len(value) if width is None else width
        if not isinstance(value, list | tuple) or len(value) != width:
            got = f"a vector of {len(value)} labels" if isinstance(value, list | tuple) else _shown(value)
            raise LabelError(
                f'{table.source}, row {row:,}: column "{column}" holds {got}, and the rows before have {width} each'
            )
        found.append(tuple(str(place) for place, holds in enumerate(value) if holds))
    return LabelLists(table.source, tuple(found), tuple(str(place) for place in range(width or 0)))


def _name(value: Any, order: Sequence[str] | None, where: str) -> str:
    if isinstance(value, str) and value.strip():
        return value
    if order is not None and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(order):
        return order[value]
    raise LabelError(
        f"{where} holds {_shown(value)} in its list, wanted the name of a label, or in all rows vectors of 0 and 1"
    )


def all_labels(train: LabelLists) -> tuple[str, ...]:
    """Every label of the training rows: in the column's own order, sorted otherwise.

    Raises:
        LabelError: fewer than two.
    """
    said = {name for names in train.lists if names is not None for name in names}
    if len(said) < 2:
        raise LabelError(
            f"{train.source} has {len(said)} different labels in its lists: several labels at once need at least two"
        )
    if len(said) > 50 and 2 * len(said) > len(train.lists):
        raise LabelError(
            f"{train.source} has {len(said):,} different labels in {len(train.lists):,} rows: "
            "is this the label column? name the right one with --label"
        )
    return train.order or tuple(sorted(said))


def many_hot(column: LabelLists, names: Sequence[str], *, seen: set[str]) -> NDArray[np.int64]:
    """[N, K]: 1 where a label holds, 0 where not, a row of -1 where nobody said.

    Raises:
        LabelError: a label that no training row has, or one that a row names twice.
    """
    place = {name: i for i, name in enumerate(names)}
    found = np.zeros((len(column.lists), len(names)), np.int64)
    for row, labels in enumerate(column.lists):
        if labels is None:
            found[row] = -1
            continue
        if len(set(labels)) < len(labels):
            twice = next(name for name in labels if labels.count(name) > 1)
            raise LabelError(f'{column.source}, row {row + 1:,} names the label "{twice}" twice')
        for name in labels:
            if name not in seen:
                raise LabelError(
                    f'{column.source}, row {row + 1:,}: no training row has the label "{name}" '
                    f"({nearest(name, seen)}); add rows of it to train, or leave it out here"
                )
            found[row, place[name]] = 1
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
