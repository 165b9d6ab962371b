"""Label columns to positions in a list of names."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.data.problems import nearest
from understudy.data.tables import Table
from understudy.errors import LabelError

BOOLEAN_WORDS = {"true", "false"}


@dataclass(frozen=True)
class LabelColumn:
    """The labels of one table as names; None where a row has none. ``order`` is a ClassLabel's own order of names."""

    source: str
    names: tuple[str | None, ...]
    order: tuple[str, ...] | None


def read_labels(table: Table, column: str) -> LabelColumn:
    """Class names, integers, whole floats, strings and booleans as names. Null, NaN and blank are no label.

    Raises:
        LabelError: values of several kinds, lists, or a ClassLabel number without a name.
    """
    values = table.values(column)
    order = table.class_names(column)
    where = f'{table.source}, column "{column}"'
    if order is not None:
        return LabelColumn(table.source, tuple(_class_name(v, order, where) for v in values), order)
    names = [_name(value, where) for value in values]
    kinds = {_kind(value) for value, name in zip(values, names, strict=True) if name is not None}
    if kinds == {"string"}:
        names, kinds = _written(names)
    if len(kinds) > 1:
        shown = sorted({name for name in names if name is not None})[:6]
        raise LabelError(
            f"{where} mixes labels of the kinds {' and '.join(sorted(kinds))} ({', '.join(shown)}): "
            "write every label as a string (YAML and CSV writers turn yes, no, on and off into booleans)"
        )
    return LabelColumn(table.source, tuple(names), None)


def _class_name(value: Any, order: Sequence[str], where: str) -> str | None:
    if value is None or value == -1:  # -1: Hugging Face's mark of a hidden label
        return None
    if not 0 <= value < len(order):
        raise LabelError(f"{where}: label {value} has no name; the column names {len(order)} classes")
    return order[value]


def _kind(value: Any) -> str:
    return {bool: "boolean", int: "number", float: "number", str: "string"}[type(value)]


def _name(value: Any, where: str) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool | int | float):
        return str(value)
    raise LabelError(f"{where} holds a {type(value).__name__}; one label per row is a string, a number or a boolean")


def _written(names: Sequence[str | None]) -> tuple[list[str | None], set[str]]:
    """Strings, as in a CSV: "1.0" is what a tool makes of 1 beside an empty cell; "True" beside "1" is a mixture."""
    said = {name for name in names if name is not None}
    if all(_number(name) is not None for name in said):
        return [None if name is None else re.sub(r"(?<=\d)\.0+$", "", name) for name in names], {"string"}
    booleans = {name for name in said if name.casefold() in BOOLEAN_WORDS}
    rest = said - booleans
    if booleans and rest and all(_number(name) is not None or name.casefold() in {"yes", "no"} for name in rest):
        return list(names), {"boolean", "string"}
    return list(names), {"string"}


def _number(name: str) -> float | None:
    return float(name) if re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", name) else None


def vocabulary(train: LabelColumn) -> tuple[str, ...]:
    """Label names: a ClassLabel's own order; numbers by value; other names sorted.

    Raises:
        LabelError: no label at all, one class only, or as good as one class per row.
    """
    said = {name for name in train.names if name is not None}
    if not said:
        raise LabelError(
            f"no row of {train.source} has a label: distilling needs labelled rows of at least two classes"
        )
    if len(said) == 1:
        raise LabelError(
            f'{train.source} has one class only ("{next(iter(said))}" in all {len(train.names):,} rows): '
            "a classifier needs at least two"
        )
    if len(said) > 50 and 2 * len(said) > len(train.names):
        raise LabelError(
            f"{train.source} has {len(said):,} different labels in {len(train.names):,} rows: "
            "is this the label column? name the right one with --label"
        )
    if train.order is not None:
        return train.order
    numbers = {name: _number(name) for name in said}
    by_value = None not in numbers.values()
    return tuple(sorted(said, key=lambda name: (numbers[name] or 0.0 if by_value else 0.0, name)))


def positions(column: LabelColumn, names: Sequence[str], *, seen: set[str]) -> NDArray[np.int64]:
    """Position of each row's label in ``names``, -1 where it has none.

    Raises:
        LabelError: a label that no training row has (not in ``seen``).
    """
    place = {name: i for i, name in enumerate(names)}
    for row, name in enumerate(column.names, start=1):
        if name is not None and name not in seen:
            raise LabelError(
                f'{column.source}, row {row:,}: no training row has the label "{name}" ({nearest(name, seen)}); '
                "add rows of it to train, or leave it out here"
            )
    return np.array([-1 if name is None else place[name] for name in column.names], np.int64)
