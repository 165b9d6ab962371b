"""A folder, a file or a data set name to `Splits`. Every decision on the way ends up in the notes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy.data.examples import Examples, Splits
from understudy.data.labels import LabelColumn, positions, read_labels, vocabulary
from understudy.data.problems import images, near_duplicates, need_column, texts
from understudy.data.sources import find
from understudy.data.split import leak_notes, split_off
from understudy.data.tables import Table
from understudy.errors import DataError, UsageError, choices

TEXT, IMAGE = "text-classification", "image-classification"


@dataclass(frozen=True)
class _Columns:
    """What the columns are called in the files. Rows in memory always say ``text`` or ``image``."""

    task: str
    text: str
    image: str
    label: str

    def inputs(self, table: Table) -> dict[str, list[Any]]:
        if self.task == IMAGE:
            need_column(table, self.image, "image")
            return {"image": images(table, self.image)}
        need_column(table, self.text, "text")
        return {"text": texts(table, self.text)}

    def labels(self, table: Table) -> LabelColumn:
        need_column(table, self.label, "label")
        return read_labels(table, self.label)


def load(
    path_or_name: str | Path,
    *,
    task: str | None = None,
    text: str = "text",
    label: str = "label",
    image: str = "image",
    seed: int = 0,
    validation_share: float = 0.1,
    test_share: float = 0.1,
) -> tuple[str, Splits]:
    """Reads, checks and splits a data set.

    Args:
        path_or_name: a folder with ``train|validation|test|unlabelled.{parquet,csv,jsonl}``; one such file; or a
            Hugging Face data set name (``name`` or ``name:configuration``). What is missing of validation and test is
            split off train by content, stratified by label.
        task: "text-classification" or "image-classification"; None takes images where there is an image column.
        text: name of the column of texts.
        label: name of the column of labels (strings, integers, booleans or a ClassLabel; null is "no label").
        image: name of the column of images (bytes, Hugging Face images, or paths from the file's folder).
        seed: seed of the split.
        validation_share: share of the rows, (0, 1), for a validation split that is not there.
        test_share: share of the rows, (0, 1), for a test split that is not there.

    Returns:
        The task and the splits. Inputs are ``{"text": [...]}`` or ``{"image": [...]}`` whatever the columns are called.

    Raises:
        UsageError: an unknown task, or impossible shares.
        DataError: no such data, or rows that cannot be used (the file and the row are named).
        LabelError: labels of several kinds, of one class only, or unseen in training.
    """
    if task not in (None, TEXT, IMAGE):
        raise UsageError(f'unknown task "{task}": {choices(task, [TEXT, IMAGE])}')
    found = find(path_or_name, as_text=(text, label, image))
    tables, notes = found.tables, list(found.notes)
    if task is None:
        task = IMAGE if image in tables["train"].columns else TEXT
        notes.append(f"the task is {task}: train has {'an' if task == IMAGE else 'no'} image column")
    columns = _Columns(task, text, image, label)
    parts, names = _labelled(tables, columns, notes, hub=found.hub)
    unlabelled = _unlabelled(tables.get("unlabelled"), columns, parts, tables["train"].source, notes)
    shares = {"test": test_share, "validation": validation_share}
    shares = {name: share for name, share in shares.items() if name not in parts}
    if shares:
        parts["train"], taken = split_off(parts["train"], shares, seed=seed, source=tables["train"].source)
        parts |= taken
        for name, share in shares.items():
            notes.append(
                f"{name} is split off {tables['train'].source}: {len(parts[name]):,} rows ({share:.0%}, by content, "
                f"stratified by label, seed {seed})"
            )
    splits = Splits(parts["train"], parts["validation"], parts["test"], unlabelled, names)
    return task, replace(splits, notes=(*notes, *leak_notes(splits)))


def _labelled(
    tables: dict[str, Table], columns: _Columns, notes: list[str], *, hub: bool
) -> tuple[dict[str, Examples], tuple[str, ...]]:
    """The labelled splits. Train keeps its rows without a label (-1) for now; elsewhere they are dropped."""
    inputs = {name: columns.inputs(table) for name, table in tables.items() if name != "unlabelled"}
    said = {name: columns.labels(tables[name]) for name in inputs}
    names = vocabulary(said["train"])
    notes += [f'the labels "{a}" and "{b}" differ only in case or blanks' for a, b in near_duplicates(names)]
    seen = {name for name in said["train"].names if name is not None}
    missing = len(names) - len(seen)
    if missing:
        notes.append(f"{missing:,} of the {len(names):,} classes that the label column names have no training row")
    parts = {}
    for split, column in said.items():
        part = Examples.of(inputs[split], positions(column, names, seen=seen))
        bare = int(np.sum(part.labels < 0))
        if split != "train" and bare == len(part):
            if not hub:
                raise DataError(f"no row of {column.source} has a label: give it labels, or remove the file")
            notes.append(f"{column.source} has no labels, as benchmarks hide them: it is not used")
            continue
        if split != "train" and bare:
            notes.append(f"{bare:,} of {len(part):,} rows of {column.source} have no label: dropped")
            part = part.take(np.flatnonzero(part.labels >= 0))
        parts[split] = part
    return parts, names


def _unlabelled(
    table: Table | None, columns: _Columns, parts: dict[str, Examples], source: str, notes: list[str]
) -> Examples | None:
    """The unlabelled rows: the file's, then those of train, which leave ``parts["train"]``."""
    pools = [] if table is None else [Examples.of(columns.inputs(table))]
    bare = parts["train"].labels < 0
    if bare.any():
        notes.append(f"{int(bare.sum()):,} of {len(bare):,} rows of {source} have no label: used as unlabelled rows")
        pools.append(parts["train"].take(np.flatnonzero(bare)))
        parts["train"] = parts["train"].take(np.flatnonzero(~bare))
    return Examples.join(pools) if pools else None
