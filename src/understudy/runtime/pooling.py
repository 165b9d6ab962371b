"""Sums and maxima over the vectors of rows of different lengths, without one loop per row.

Rows are sorted by length, and the vectors at one place of all rows that reach so far are added at once. What is added
is as long as a block of rows is wide, so that it stays in the cache, whatever the lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_NUMBERS = 1 << 16  # in a block of sums: 256 kB
_PIECE = 256  # places of a row that are gone through together: one endless row must not be a loop over its words


class Table(NamedTuple):
    """What is pooled.

    Attributes:
        sums: float32 [R, d + 1], rows that are added.
        most: float32 [R, d], rows whose maximum is taken; None where it is not wanted.
    """

    sums: np.ndarray
    most: np.ndarray | None


def pooled(
    table: Table, ids: Sequence[np.ndarray], starts: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Sums float32 [N, d + 1] and maxima float32 [N, d] over the table's rows that each of N rows names.

    Args:
        table: of R rows.
        ids: int64 arrays [M] in [0, R), read side by side: row n names ``a[starts[n]:starts[n] + lengths[n]]`` of each.
        starts, lengths: int64 [N]. A row of length 0 gives sums of 0 and maxima of -inf.
    """
    pieces = np.maximum(-(-lengths // _PIECE), 1)
    if len(pieces) == 0 or pieces.max() == 1:
        return _pooled(table, ids, starts, lengths)
    ends = np.cumsum(pieces)
    number = np.arange(ends[-1]) - np.repeat(ends - pieces, pieces)
    left = np.repeat(lengths, pieces) - number * _PIECE
    sums, most = _pooled(table, ids, np.repeat(starts, pieces) + number * _PIECE, np.minimum(left, _PIECE))
    first = ends - pieces
    for place in range(1, int(pieces.max())):
        rows = np.flatnonzero(pieces > place)
        sums[first[rows]] += sums[first[rows] + place]
        if most is not None:
            most[first[rows]] = np.maximum(most[first[rows]], most[first[rows] + place])
    return sums[first], None if most is None else most[first]


def _pooled(
    table: Table, ids: Sequence[np.ndarray], starts: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    width = table.sums.shape[1]
    sums = np.zeros((len(order), width), np.float32)
    most = None if table.most is None else np.full((len(order), width - 1), -np.inf, np.float32)
    step = max(1, _NUMBERS // width)
    found = np.empty((min(step, len(order)), width), np.float32)
    tops = np.empty((len(found), width - 1), np.float32)
    for block in range(0, len(order), step):
        here = slice(block, block + step)
        first, longest = starts[here], int(lengths[block])
        reach = np.searchsorted(-lengths[here], -np.arange(longest))  # rows that have a word at this place
        for place, count in enumerate(reach.tolist()):
            where = first[:count] + place
            for flat in ids:
                rows = flat.take(where)
                into = sums[block : block + count]
                # clip: take would go through a copy to be able to take an error back; every id is one of ours
                into += table.sums.take(rows, axis=0, out=found[:count], mode="clip")
                if most is not None and table.most is not None:
                    top = most[block : block + count]
                    np.maximum(top, table.most.take(rows, axis=0, out=tops[:count], mode="clip"), out=top)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return sums[back], None if most is None else most[back]
