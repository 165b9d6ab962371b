"""Tags of words: O, B-TYPE and I-TYPE as numbers that say what they mean, and the entities that they spell.

    number   0    1     2     3     4    ...
    name     O   B-a   I-a   B-b   I-b   ...

So every type has both its tags, whether or not a row uses them, and whoever counts entities needs no names. Entities
are read as conlleval reads them (Sang and Buchholz 2000, CoNLL-2000; seqeval's default): a B begins one, and so does an
I behind an O, behind another type or at the start of a sentence; an I of the same type goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.ragged import Ragged

OUTSIDE = "O"


def named(types: Iterable[str]) -> tuple[str, ...]:
    """The names of all tags, in the order of their numbers.

    >>> named(["city"])
    ('O', 'B-city', 'I-city')
    """
    return (OUTSIDE, *(f"{begin}-{one}" for one in types for begin in "BI"))


def types_of(names: Sequence[str]) -> tuple[str, ...]:
    """The types that these names are of.

    >>> types_of(["O", "B-city", "I-city"])
    ('city',)
    """
    return tuple(name[2:] for name in names[1::2])


def type_of(tag: str) -> str | None:
    """The type of a tag, an empty text of O; None for what is no tag.

    >>> type_of("B-city"), type_of("O"), type_of("city"), type_of("S-city")
    ('city', '', None, None)
    """
    if tag == OUTSIDE:
        return ""
    return tag[2:] if tag[:2] in ("B-", "I-") and len(tag) > 2 else None


def spans(tags: Ragged) -> NDArray[np.int64]:
    """The entities of N sentences, int64 [S, 4]: sentence, first word, the word behind the last, type.

    >>> spans(Ragged.of([np.array([2, 1, 2, 0]), np.array([3, 2])])).tolist()
    [[0, 0, 1, 0], [0, 1, 3, 0], [1, 0, 1, 1], [1, 1, 2, 0]]
    """
    numbers = tags.values.astype(np.int64)
    inside = numbers > 0
    kind = (numbers - 1) // 2
    before = np.concatenate([[-1], np.where(inside, kind, -1)[:-1]]) if len(numbers) else numbers
    first = np.zeros(len(numbers), bool)
    first[tags.offsets[:-1][tags.lengths > 0]] = True
    begins = inside & ((numbers % 2 == 1) | first | (before != kind))
    starts = np.flatnonzero(begins)
    entity = np.cumsum(begins)[inside] - 1
    lengths = np.bincount(entity, minlength=len(starts))
    rows = tags.owners[starts]
    places = starts - tags.offsets[:-1][rows]
    return np.stack([rows, places, places + lengths, kind[starts]], axis=1).astype(np.int64)


def following(tags: NDArray[Any], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tags of words that were moved or left out: every word keeps its entity, and each run of one begins with a B.

    Args:
        tags: int64 [words].
        places: int64 [words that are there now], where each was.

    >>> following(np.array([0, 1, 2, 3]), np.array([2, 0, 3])).tolist()  # without the first word of an entity
    [1, 0, 3]
    """
    entity = np.full(len(tags), -1)
    for number, (_, start, end, _) in enumerate(spans(Ragged.of([tags])).tolist()):
        entity[start:end] = number
    moved, mine = tags[places].astype(np.int64), entity[places]
    goes_on = np.concatenate([[False], mine[1:] == mine[:-1]])[: len(mine)]
    return np.where(mine < 0, 0, moved - (moved + 1) % 2 + goes_on)


def side_by_side(truth: NDArray[Any], said: NDArray[Any]) -> tuple[Ragged, Ragged]:
    """Two object arrays [N] of tags as rows of the lengths of the first.

    Where nothing was said of the last words of a sentence, which a model had no room for, it is O.
    """
    wanted = Ragged.of(list(truth))
    given = Ragged.of([np.asarray(one)[: len(row)] for row, one in zip(truth, said, strict=True)])
    flat = np.zeros(len(wanted.values), np.int64)
    flat[np.repeat(wanted.offsets[:-1] - given.offsets[:-1], given.lengths) + np.arange(len(given.values))] = (
        given.values
    )
    return wanted, wanted.holding(flat)


def keys(entities: NDArray[np.int64], words: int, types: int) -> NDArray[np.int64]:
    """One number for each entity of at most so many words and types: equal where all of it is equal.

    >>> keys(np.array([[0, 0, 1, 0], [0, 0, 1, 1]]), 5, 2).tolist()
    [2, 3]
    """
    row, start, end, kind = entities.T
    return ((row * (words + 1) + start) * (words + 1) + end) * types + kind
