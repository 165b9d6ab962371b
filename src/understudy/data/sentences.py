"""Texts to learn from, and pairs of texts with a score to measure on: what a task that gives vectors reads.

In memory every row is one text. Training rows are texts without a label; a pair brings both of its texts. Rows of
validation and test come two by two, rows 0 and 1 being the first pair, and both have the pair's score; where a split
has texts and no pairs, each text is paired with one drawn at random, and the score is NaN until the teacher says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from understudy.answers import Array
from understudy.data.examples import Examples, Splits, content_key
from understudy.data.layouts import PAIRS, Columns, Layout, need_columns
from understudy.data.problems import texts
from understudy.data.scores import read_scores
from understudy.data.split import leak_notes, split_off
from understudy.data.tables import Table
from understudy.errors import DataError
from understudy.files import content_hash

LAYOUT = Layout((("text",), PAIRS[0]), answer="vector", labels=("label", "score"))
DRAWN = 2000  # the most pairs of a split that the data has none of


@dataclass(frozen=True)
class Read:
    """One table: columns of texts, one or a pair, and scores [N] where it has any."""

    source: str
    columns: tuple[list[str], ...]
    scores: Array | None

    @property
    def texts(self) -> list[str]:
        """Every text once, in the order of the rows."""
        return list(dict.fromkeys(text for row in zip(*self.columns, strict=True) for text in row))


def read_sentences(
    tables: Mapping[str, Table],
    *,
    text: str,
    label: str,
    seed: int,
    shares: Mapping[str, float],
    notes: Sequence[str] = (),
) -> Splits:
    """The splits of a task that gives vectors.

    Args:
        tables: ``train`` and perhaps ``validation``, ``test``, ``unlabelled``, whose texts are training rows too.
        text: what the user calls the text, or the pair.
        label: what the user calls the score.
        seed: of the split, and of the pairs that are drawn.
        shares: of the splits that are not there.
        notes: so far.

    Raises:
        DataError: an empty text, a pair without a score where one is to be measured on, or too few texts.
    """
    said = list(notes)
    read = {name: _read(table, text, label) for name, table in tables.items()}
    missing = {name: share for name, share in shares.items() if name not in read}
    parts: dict[str, Examples] = {}
    if missing:
        read["train"], taken = _split_off(read["train"], missing, seed=seed)
        read |= taken
        said += [f"{name} is split off {read['train'].source}, by content, seed {seed}" for name in missing]
    more = read.pop("unlabelled", None)
    learnt = list(dict.fromkeys([*read["train"].texts, *(more.texts if more else [])]))
    parts["train"] = Examples.of({"text": learnt}, np.full((len(learnt), 1), np.nan, np.float32))
    said.append(f"{len(learnt):,} different texts to learn from, none with a label")
    for name in ("validation", "test"):
        parts[name] = _pairs(read[name], said, name, seed=seed)
    splits = Splits(parts["train"], parts["validation"], parts["test"], None, (), couples=True)
    return replace(splits, notes=(*said, *leak_notes(splits)))


def _read(table: Table, text: str, label: str) -> Read:
    there = table.columns
    known = all(name.strip() in there for name in text.split(","))
    columns = Columns.find(LAYOUT, there, text=text if known or "text" not in there else "text", image="", label=label)
    need_columns(table, columns, {})
    found = tuple(texts(table, name) for name in columns.inputs.values())
    scored = len(found) == 2 and columns.label in there
    return Read(table.source, found, read_scores(table, columns.label) if scored else None)


def _split_off(train: Read, shares: Mapping[str, float], *, seed: int) -> tuple[Read, dict[str, Read]]:
    """Pairs with a score where the training rows are some, texts otherwise."""
    fields = [f"column {i}" for i in range(len(train.columns))]
    whole = Examples.of(dict(zip(fields, train.columns, strict=True)), train.scores)
    rest, taken = split_off(whole, shares, seed=seed, source=train.source)

    def back(rows: Examples) -> Read:
        scores = None if train.scores is None else rows.labels.astype(np.float64)
        return Read(train.source, tuple(rows.inputs[field] for field in fields), scores)

    return back(rest), {name: back(rows) for name, rows in taken.items()}


def _pairs(read: Read, notes: list[str], name: str, *, seed: int) -> Examples:
    """The rows of a split, two by two."""
    if len(read.columns) == 1:
        return _drawn(read, notes, name, seed=seed)
    if read.scores is None or not np.isfinite(read.scores).any():
        raise DataError(
            f"{read.source}: {name} has pairs of texts and no score of any: give them a column of scores (--label "
            "names it), or single texts, which are then compared as the teacher compares them"
        )
    kept = np.flatnonzero(np.isfinite(read.scores))
    if len(kept) < len(read.scores):
        dropped = len(read.scores) - len(kept)
        notes.append(f"{dropped:,} of {len(read.scores):,} pairs of {read.source} have no score: dropped")
    rows = [text for row in kept.tolist() for text in (read.columns[0][row], read.columns[1][row])]
    return Examples.of({"text": rows}, np.repeat(read.scores[kept], 2)[:, None].astype(np.float32))


def _drawn(read: Read, notes: list[str], name: str, *, seed: int) -> Examples:
    """Texts in a random circle, each with the next: whoever they are, they stand in one order."""
    order = sorted(read.texts, key=lambda text: content_hash(str(seed), content_key({"text": text})))
    if len(order) < 3:
        raise DataError(f"{read.source}: {name} has {len(order)} different texts; pairs are drawn from three at least")
    pairs = [(one, order[(i + 1) % len(order)]) for i, one in enumerate(order)][:DRAWN]
    notes.append(
        f"{name} has no pairs with a score: {len(pairs):,} pairs of its texts are drawn at random, and their score is "
        "the teacher's own cosine"
    )
    rows = [text for pair in pairs for text in pair]
    return Examples.of({"text": rows}, np.full((len(rows), 1), np.nan, np.float32))
