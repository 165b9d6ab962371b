"""Texts that are continued: plain ones, prompts and what is to be said after them, or conversations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from understudy.data.corpus import own
from understudy.data.examples import Examples, Splits
from understudy.data.layouts import Columns, Layout, need_columns
from understudy.data.problems import texts
from understudy.data.split import leak_notes, split_off
from understudy.data.tables import Table
from understudy.encoding.chat import ChatProblem, canonical, conversation
from understudy.errors import DataError

TEXT, PROMPTED, CHAT = ("text",), ("prompt", "completion"), "messages"
LAYOUT = Layout((TEXT, PROMPTED), answer="next", labels=())
LETTERS = 1000  # of a row, at most: longer texts become several rows
FEW = 20  # different training rows below which nothing can be said of a language
Rows = dict[str, list[str]]
_PAIR = ", or two of them, of prompts and of what is to be said after them: --text question,answer"


def read_language(
    tables: Mapping[str, Table], *, text: str, seed: int, shares: Mapping[str, float], notes: Sequence[str] = ()
) -> Splits:
    """The splits of a language model; of every split each different row once.

    A plain text is a row where it has up to 1,000 letters, and otherwise several, cut behind white space; put together
    they are the text. White space at its own end is dropped, so that one that ends in it goes on in another row.
    Conversations are rows as they are, each as one line of JSON (`encoding.chat.canonical`).

    Args:
        tables: ``train`` and perhaps ``validation``, ``test``, ``unlabelled``, whose rows are training rows too.
        text: what the user calls the column of texts or of conversations; two names with a comma between them are
            prompts and completions.
        seed: of the split.
        shares: of the splits that are not there.
        notes: so far.

    Raises:
        DataError: no such column, an empty text, a conversation that is none, or too few rows.
    """
    said = list(notes)
    columns = _columns(tables["train"], text)
    read = {name: _rows(table, columns) for name, table in tables.items()}
    more = read.pop("unlabelled", {})
    learnt = _different({name: [*read["train"][name], *more.get(name, ())] for name in columns.inputs})
    source = tables["train"].source
    rows = len(next(iter(learnt.values())))
    if rows < FEW:
        raise DataError(
            f"{source} has {rows} different texts, too short a corpus to learn a language from: {FEW} at least, "
            "and some ten thousand to mean anything"
        )
    found = {"train": learnt} | {name: _different(one) for name, one in read.items() if name != "train"}
    parts = {name: Examples.of(one, own(len(next(iter(one.values()))))) for name, one in found.items()}
    missing = {name: share for name, share in shares.items() if name not in parts}
    if missing:
        parts["train"], taken = split_off(parts["train"], missing, seed=seed, source=source)
        parts |= taken
        said += [f"{name} is split off {source}: {len(taken[name]):,} rows (by content, seed {seed})" for name in taken]
    named = {"text": "different texts", CHAT: "conversations", "prompt": "prompts with completions"}
    what = named[next(iter(columns.inputs))]
    said.append(f"{len(parts['train']):,} {what} to learn from")
    splits = Splits(parts["train"], parts["validation"], parts["test"], None, ())
    return replace(splits, notes=(*said, *leak_notes(splits)))


def pieces(text: str, most: int = LETTERS) -> Iterator[str]:
    """A text in parts of at most ``most`` letters, cut behind white space where there is any.

    >>> list(pieces("one two three", 8)), list(pieces("abcdef", 4))
    (['one two ', 'three'], ['abcd', 'ef'])
    """
    start = last = 0
    for end in (*(match.end() for match in re.finditer(r"\s+", text)), len(text)):
        if end - start > most and last > start:
            yield text[start:last]
            start = last
        while end - start > most:  # a word longer than a row
            yield text[start : start + most]
            start += most
        last = end
    if start < len(text):
        yield text[start:]


def _columns(train: Table, text: str) -> Columns:
    """What is read; a column of lists holds conversations, and so does one of that name."""
    there = train.columns
    if text == "text" and CHAT in there and text not in there:
        return Columns({CHAT: CHAT}, "")
    if text in there and text != "text" and len(train) and (text == CHAT or isinstance(train.values(text)[0], list)):
        return Columns({CHAT: text}, "")
    return Columns.find(LAYOUT, there, text=text, image="", label="")


def conversations(table: Table, column: str) -> list[str]:
    """The conversations of a column, each as one line of JSON.

    Raises:
        DataError: what is no conversation that ends with the assistant; rows are counted from 1, without a header.
    """
    found = []
    for row, value in enumerate(table.values(column), start=1):
        try:
            found.append(canonical(conversation(value)))
        except ChatProblem as problem:
            raise DataError(f'{table.source}, row {row:,}: column "{column}": {problem}') from None
    return found


def _rows(table: Table, columns: Columns) -> Rows:
    plain = columns.inputs == {"text": "text"}  # nobody named a column
    need_columns(table, columns, {}, more=_PAIR if plain else "")
    if CHAT in columns.inputs:
        return {CHAT: conversations(table, columns.inputs[CHAT])}
    found = {name: texts(table, column) for name, column in columns.inputs.items()}
    if tuple(found) == TEXT:
        return {"text": [part for one in found["text"] for part in pieces(one.rstrip())]}
    return found


def _different(rows: Rows) -> Rows:
    """Each different row once, in the order of their first appearance."""
    once = list(dict.fromkeys(zip(*rows.values(), strict=True)))
    return {name: [row[place] for row in once] for place, name in enumerate(rows)}
