"""Columns of tags, one for every word, to the numbers that stand for them (`understudy.tags`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.data.problems import nearest
from understudy.data.tables import Table
from understudy.errors import DataError, LabelError
from understudy.ragged import as_rows
from understudy.tags import type_of


@dataclass(frozen=True)
class TagColumn:
    """The tags of each row of one table as names; None where a row has none. ``order``: of a ClassLabel's names."""

    source: str
    rows: tuple[tuple[str, ...] | None, ...]
    order: tuple[str, ...] | None


def read_tags(table: Table, column: str, words: str) -> TagColumn:
    """Lists of tags, as names or as numbers where the column names its classes; null is "no tags".

    Args:
        table: of one split.
        column: of the tags.
        words: column of the words.

    Raises:
        DataError: as many tags as words are wanted, and a row has another number.
        LabelError: no list, or a tag that is neither O nor B-TYPE nor I-TYPE; row and word are named.
    """
    order = table.class_names(column)
    found: list[tuple[str, ...] | None] = []
    for row, (tags, sentence) in enumerate(zip(table.values(column), table.values(words), strict=True), start=1):
        where = f"{table.source}, row {row:,}"
        if tags is None:
            found.append(None)
            continue
        if not isinstance(tags, list):
            raise LabelError(f'{where}: column "{column}" holds {_shown(tags)}, wanted a list with a tag for each word')
        if isinstance(sentence, list) and len(tags) != len(sentence):
            raise DataError(
                f'{where}: {len(sentence)} words in column "{words}" and {len(tags)} tags in column "{column}": '
                "each word has one tag"
            )
        found.append(tuple(_tag(tag, order, f"{where}, word {place}") for place, tag in enumerate(tags, start=1)))
    return TagColumn(table.source, tuple(found), order)


def _tag(tag: Any, order: Sequence[str] | None, where: str) -> str:
    if order is not None and isinstance(tag, int) and not isinstance(tag, bool) and 0 <= tag < len(order):
        tag = order[tag]
    if not isinstance(tag, str) or type_of(tag) is None:
        raise LabelError(f"{where}: the tag {_shown(tag)} is neither O nor B- or I- and a type, such as B-city")
    return tag


def all_types(train: TagColumn) -> tuple[str, ...]:
    """The types of the training rows: in the column's own order where it names its tags, sorted otherwise.

    Raises:
        LabelError: there is no row with tags, or no tag but O.
    """
    said = {str(type_of(tag)) for row in train.rows if row is not None for tag in row} - {""}
    if not said:
        raise LabelError(f"no word of {train.source} has a tag other than O: there is nothing to learn")
    ordered = sorted(said) if train.order is None else [str(type_of(tag)) for tag in train.order]
    return tuple(dict.fromkeys(kind for kind in ordered if kind in said))


def numbered(column: TagColumn, names: Sequence[str], *, seen: set[str]) -> NDArray[Any]:
    """Object array [N]: int64 [words] numbers of tags, None where a row has none.

    Raises:
        LabelError: a tag that no training row has.
    """
    place = {name: i for i, name in enumerate(names)}
    for row, tags in enumerate(column.rows, start=1):
        for tag in tags or ():
            if tag not in seen and tag != names[0]:
                raise LabelError(
                    f'{column.source}, row {row:,}: no training row has the tag "{tag}" ({nearest(tag, seen)}); '
                    "add rows of it to train, or leave it out here"
                )
    return as_rows([None if tags is None else np.array([place[tag] for tag in tags], np.int64) for tags in column.rows])


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
