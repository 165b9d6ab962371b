"""Columns of a table to clean values: numbers or names, and nothing in between."""

from __future__ import annotations

import math
from typing import Any

from understudy.data.tables import Table
from understudy.errors import DataError

LARGEST = 1e30  # beyond it squares and float32 overflow
FEW = 50  # different names from which a column of mostly different ones says who a row is, and not what


def readable(table: Table, column: str) -> bool:
    """Whether a column holds numbers or names: something that a row of a table may be described by."""
    return all(value is None or isinstance(value, bool | int | float | str) for value in table.values(column))


def names_rows(table: Table, column: str) -> bool:
    """Whether a column of names is as good as a number of the row (an identifier, a date, a free text).

    Raises:
        DataError: nearly all of them are numbers, so that the others are mistakes; the row is named.
    """
    values = [value for value in table.values(column) if isinstance(value, str)]
    different = len(set(values))
    if different <= FEW or 2 * different <= len(values):
        return False
    odd = [row for row, value in enumerate(table.values(column), start=1) if value and not _is_number(value)]
    if 0 < 10 * len(odd) <= len(values):
        value = table.values(column)[odd[0] - 1]
        raise DataError(
            f'{table.source}, row {odd[0]:,}: column "{column}" holds {value!r}, and numbers in '
            f"{len(values) - len(odd):,} other rows: correct it, or leave the cell empty"
        )
    return True


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def values(table: Table, column: str) -> list[Any]:
    """Numbers (float, None where missing), or names (str).

    Raises:
        DataError: values of both kinds, or of neither; the row is named.
    """
    found: list[Any] = []
    kinds: dict[str, int] = {}
    for row, value in enumerate(table.values(column), start=1):
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            found.append(None)
            continue
        kind = "names" if isinstance(value, bool | str) else "numbers"
        large = isinstance(value, int | float) and abs(value) > LARGEST
        if large or not isinstance(value, bool | int | float | str):
            what = f"{value:g}" if large else f"a {type(value).__name__}"
            raise DataError(
                f'{table.source}, row {row:,}: column "{column}" holds {what}, wanted a name, or a number of at most '
                f"{LARGEST:g}"
            )
        kinds.setdefault(kind, row)
        if len(kinds) == 2:
            first = next(iter(kinds))
            raise DataError(
                f'{table.source}, row {row:,}: column "{column}" mixes {first} (row {kinds[first]:,}) and {kind}: '
                "write all of its values the same way"
            )
        found.append(str(value) if kind == "names" else float(value))
    return ["" if value is None else value for value in found] if "names" in kinds else found
