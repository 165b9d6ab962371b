"""Raw columns to clean inputs: every value is what the task reads, or one error names the file and the row."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from understudy.data.tables import Table
from understudy.errors import DataError, choices

MOST_CHOICES = 12


def nearest(got: object, known: Iterable[str]) -> str:
    """The end of an error message: all choices where they are few, the nearest ones where they are many.

    >>> nearest("refnd", ["refund"] + [f"other_{i}" for i in range(99)])
    'did you mean "refund"? 100 are known'
    """
    names = list(known)
    if len(names) <= MOST_CHOICES:
        return choices(got, names)
    near = difflib.get_close_matches(str(got), names, n=1)
    return (f'did you mean "{near[0]}"? ' if near else "") + f"{len(names):,} are known"


def need_column(table: Table, column: str, option: str) -> None:
    """Raises a DataError with the columns there are, unless the table has this one. A table without rows has none."""
    if len(table) == 0:
        raise DataError(f"{table.source} is empty: it has no row")
    if column not in table.columns:
        raise DataError(
            f'{table.source} has no column "{column}" ({nearest(column, table.columns)}): '
            f"name the right one with --{option}"
        )


def texts(table: Table, column: str) -> list[str]:
    """The texts of a column.

    Raises:
        DataError: a text that is missing, NaN, blank or not a string; rows are counted from 1, without a header.
    """
    values = table.values(column)
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str):
            got = "nothing" if value is None or value != value else f"{_article(value)} ({_short(value)})"
            raise DataError(f'{table.source}, row {row:,}: column "{column}" holds {got}, wanted a text')
        if not value.strip():
            raise DataError(f'{table.source}, row {row:,}: the text in column "{column}" is empty')
    return values


def words(table: Table, column: str) -> list[list[str]]:
    """The sentences of a column, lists of words.

    Raises:
        DataError: a sentence that is missing, no list or empty, or a word that is no text; rows are counted from 1.
    """
    values = table.values(column)
    for row, value in enumerate(values, start=1):
        where = f'{table.source}, row {row:,}: column "{column}"'
        if not isinstance(value, list):
            got = "nothing" if value is None else f"{_article(value)} ({_short(value)})"
            raise DataError(f'{where} holds {got}, wanted a list of words such as ["fly", "to", "Rome"]')
        if not value:
            raise DataError(f"{where} holds a sentence without a word: take the row out")
        for place, word in enumerate(value, start=1):
            if not isinstance(word, str) or not word:
                got = "nothing" if word is None else "an empty text" if word == "" else _article(word)
                raise DataError(f"{where}: word {place} is {got} ({_short(word)}), wanted a text")
    return values


def images(table: Table, column: str) -> list[bytes]:
    """The file bytes of a column of images, not decoded.

    A value is bytes, a Hugging Face image ``{"bytes", "path"}``, or a path, absolute or from the table's folder.

    Raises:
        DataError: a value that is missing or of another kind, or a file that is not there.
    """
    return [
        _image(value, table.folder, f'{table.source}, row {row:,}: column "{column}"')
        for row, value in enumerate(table.values(column), start=1)
    ]


def _image(value: Any, folder: Path | None, where: str) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and value.strip():
        path = (folder or Path()) / value
        try:
            value = path.read_bytes()
        except OSError as error:
            raise DataError(f"{where}: cannot read the image {path}: {error.strerror or error}") from None
    if isinstance(value, bytes) and value:
        return value
    got = "nothing" if not value else _article(value)
    raise DataError(f"{where} holds {got}, wanted image bytes (PNG or JPEG) or a path to a file")


def near_duplicates(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of label names that differ only in case or in blanks around them.

    >>> near_duplicates(["Refund", "loss", "refund "])
    [('Refund', 'refund ')]
    """
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        seen = first.setdefault(name.strip().casefold(), name)
        if seen != name:
            pairs.append((seen, name))
    return pairs


def _article(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
