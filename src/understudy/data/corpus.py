"""Texts without labels: what a masked language model reads. A text is its own label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from understudy.answers import Array
from understudy.data.examples import Examples, Splits
from understudy.data.layouts import Columns, Layout, need_columns
from understudy.data.problems import texts
from understudy.data.split import leak_notes, split_off
from understudy.data.tables import Table
from understudy.errors import DataError

LAYOUT = Layout((("text",),), answer="masked", labels=())
FEW = 20  # different training texts below which nothing can be said of a language


def read_corpus(
    tables: Mapping[str, Table], *, text: str, seed: int, shares: Mapping[str, float], notes: Sequence[str] = ()
) -> Splits:
    """The splits of a task that hides tokens; of every split each different text once.

    Args:
        tables: ``train`` and perhaps ``validation``, ``test``, ``unlabelled``, whose texts are training rows too.
        text: what the user calls the text; of several names with commas between them each column brings its texts.
        seed: of the split.
        shares: of the splits that are not there.
        notes: so far.

    Raises:
        DataError: no such column, an empty text, or too few texts.
    """
    said = list(notes)
    read = {name: _texts(table, text) for name, table in tables.items()}
    source = tables["train"].source
    learnt = list(dict.fromkeys([*read["train"], *read.pop("unlabelled", ())]))
    if len(learnt) < FEW:
        raise DataError(
            f"{source} has {len(learnt)} different texts, too short a corpus to learn a language from: {FEW} at least, "
            "and some ten thousand to mean anything"
        )
    parts = {name: Examples.of({"text": found}, own(len(found))) for name, found in read.items() if name != "train"}
    parts["train"] = Examples.of({"text": learnt}, own(len(learnt)))
    missing = {name: share for name, share in shares.items() if name not in parts}
    if missing:
        parts["train"], taken = split_off(parts["train"], missing, seed=seed, source=source)
        parts |= taken
        said += [
            f"{name} is split off {source}: {len(taken[name]):,} texts (by content, seed {seed})" for name in taken
        ]
    said.append(f"{len(parts['train']):,} different texts to learn from")
    splits = Splits(parts["train"], parts["validation"], parts["test"], None, ())
    return replace(splits, notes=(*said, *leak_notes(splits)))


def own(rows: int) -> Array:
    """int64 [N, 1]: the labels of texts that are their own."""
    return np.zeros((rows, 1), np.int64)


def _texts(table: Table, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    columns = Columns(dict(zip(names, names, strict=True)), "")
    need_columns(table, columns, {})
    return list(dict.fromkeys(one for name in names for one in texts(table, name)))
