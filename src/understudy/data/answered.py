"""Columns of answers that stand in a text, in the form of SQuAD, to spans of its words (`understudy.passages`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.data.tables import Table
from understudy.errors import DataError, LabelError
from understudy.passages import Gold, word_places
from understudy.ragged import as_rows

ENDS = ("start", "end")
"""What the two columns of logits are called."""
_WANTED = 'wanted {"text": [...], "answer_start": [...]} with as many of both, empty where the text has no answer'


def read_answers(table: Table, column: str, context: str) -> NDArray[Any]:
    """Object array [N] of `Gold`: every answer of every row; None where a row has no label (null).

    Args:
        table: of one split.
        column: of the answers: texts and the letters of the context, counted from 0, that they begin at; or a list of
            ``{"text", "answer_start"}``. No answer at all says that the text has none.
        context: column of the texts.

    Raises:
        LabelError: values of another shape.
        DataError: an answer that does not stand where it is said to; the row is named, and where it stands.
    """
    found: list[Gold | None] = []
    last: tuple[str, Any] = ("", None)
    for row, (value, text) in enumerate(zip(table.values(column), table.values(context), strict=True), start=1):
        where = f"{table.source}, row {row:,}"
        if value is None:
            found.append(None)
            continue
        texts, starts = _parted(value, f'{where}: column "{column}"')
        if not isinstance(text, str):
            raise DataError(f'{where}: column "{context}" holds no text')
        if last[0] != text:  # several questions about one text mostly follow each other
            last = text, word_places(text)
        for answer, start in zip(texts, starts, strict=True):
            _stands(answer, start, text, where)
        found.append(Gold.of(text, texts, starts, last[1]))
    return as_rows(found)


def looks_answered(values: Sequence[Any]) -> bool:
    """Whether these are answers: the first hundred that are there have texts and their places."""
    some = [value for value in values[:100] if value is not None]
    return bool(some) and all(_lists(value) is not None for value in some)


def _lists(value: Any) -> tuple[list[Any], list[Any]] | None:
    """Texts and places, whatever they are; None for another shape."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        value = {key: [one.get(key) for one in value] for key in ("text", "answer_start")}
    if not isinstance(value, dict) or not {"text", "answer_start"} <= set(value):
        return ([], []) if value == [] else None
    texts, starts = value["text"], value["answer_start"]
    return (texts, starts) if isinstance(texts, list) and isinstance(starts, list) else None


def _parted(value: Any, where: str) -> tuple[list[str], list[int]]:
    lists = _lists(value)
    if lists is None:
        raise LabelError(f"{where} holds {_shown(value)}, {_WANTED}")
    texts, starts = lists
    if len(texts) != len(starts):
        raise LabelError(f"{where} holds {len(texts)} texts and {len(starts)} places, {_WANTED}")
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
            raise LabelError(f"{where} holds {_shown(text)} at {_shown(start)}, wanted a text and a whole number")
    return texts, starts


def _stands(answer: str, start: int, context: str, where: str) -> None:
    if not len(word_places(answer)):
        raise DataError(f"{where}: the answer {_shown(answer)} has no word in it; take it out")
    if start >= 0 and context.startswith(answer, start):
        return
    places = [at for at in range(len(context)) if context.startswith(answer, at)]
    if not places:
        raise DataError(f"{where}: the answer {_shown(answer)} is nowhere in its context; take it out, or correct it")
    nearest = int(min(places, key=lambda at: abs(at - start)))
    raise DataError(
        f"{where}: the answer {_shown(answer)} does not begin at letter {start} of its context but at {nearest}: "
        "correct answer_start (letters are counted from 0, and are Unicode's, not bytes)"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def unanswered(labels: NDArray[Any]) -> int:
    """How many rows say that their text has no answer."""
    return int(np.sum([one is not None and not one.spans for one in labels]))
