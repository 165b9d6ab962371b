"""A folder, a file or a data set name to `Splits`. Every decision on the way ends up in the notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.answers import Scale, blank
from understudy.data.answered import ENDS, read_answers, unanswered
from understudy.data.corpus import read_corpus
from understudy.data.examples import Examples, Splits
from understudy.data.labels import positions, read_labels, vocabulary
from understudy.data.language import read_language
from understudy.data.layouts import LAYOUTS, Columns, Layout, infer, layout_of, need_columns
from understudy.data.problems import images, near_duplicates, need_column, texts, words
from understudy.data.scores import all_labels, many_hot, read_lists, read_scores
from understudy.data.sentences import read_sentences
from understudy.data.sources import find
from understudy.data.split import leak_notes, split_off
from understudy.data.tables import Table
from understudy.data.tabular import names_rows, values
from understudy.data.tagged import all_types, numbered, read_tags
from understudy.errors import DataError
from understudy.tags import named

Labels = NDArray[Any]


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
    layouts: Mapping[str, Layout] = LAYOUTS,
) -> tuple[str, Splits]:
    """Reads, checks and splits a data set.

    Args:
        path_or_name: a folder with ``train|validation|test|unlabelled.{parquet,csv,jsonl}``; one such file; or a
            Hugging Face data set name (``name`` or ``name:configuration``). What is missing of validation and test is
            split off train by content, stratified by label.
        task: a key of ``layouts``; None takes the one that the columns are for.
        text: name of the column of texts, or of lists of words; two names with a comma between them are a pair.
        label: name of the column of labels: names (strings, integers, booleans or a ClassLabel), scores, lists of
            names, a tag for every word, or answers and where they begin, as the task wants them; null is "no label".
        image: name of the column of images (bytes, Hugging Face images, or paths from the file's folder).
        seed: seed of the split.
        validation_share: share of the rows, (0, 1), for a validation split that is not there.
        test_share: share of the rows, (0, 1), for a test split that is not there.
        layouts: task -> the columns that it reads.

    Returns:
        The task and the splits. Inputs are ``{"text": [...]}``, ``{"sentence1": [...], "sentence2": [...]}``,
        ``{"image": [...]}``, ``{"tokens": [[...]]}`` or ``{"question": [...], "context": [...]}`` whatever the columns
        are called. What gives vectors reads one text (`data.sentences`).

    Raises:
        UsageError: an unknown task, or impossible shares.
        DataError: no such data, or rows that cannot be used (the file and the row are named).
        LabelError: labels of several kinds, of one class only, or unseen in training.
    """
    if task is not None:
        layout_of(task, layouts)
    found = find(path_or_name, as_text=(*(name.strip() for name in text.split(",")), label, image))
    tables, notes = found.tables, list(found.notes)
    if task is None:
        task, why = infer(tables["train"], layouts, text=text, image=image, label=label)
        notes.append(why)
    layout = layout_of(task, layouts)
    shares = {"test": test_share, "validation": validation_share}
    if layout.answer == "vector":
        return task, read_sentences(tables, text=text, label=label, seed=seed, shares=shares, notes=notes)
    if layout.answer == "masked":
        return task, read_corpus(tables, text=text, seed=seed, shares=shares, notes=notes)
    if layout.answer == "next":
        return task, read_language(tables, text=text, seed=seed, shares=shares, notes=notes)
    columns = Columns.find(layout, tables["train"].columns, text=text, image=image, label=label)
    if columns.every:
        columns = _without_identifiers(tables["train"], columns, notes)
    parts, names, scale = _labelled(tables, columns, layout.answer, notes, hub=found.hub)
    unlabelled = _unlabelled(tables.get("unlabelled"), columns, parts, tables["train"].source, notes)
    shares = {name: share for name, share in shares.items() if name not in parts}
    if shares:
        parts["train"], taken = split_off(parts["train"], shares, seed=seed, source=tables["train"].source)
        parts |= taken
        for name, share in shares.items():
            notes.append(
                f"{name} is split off {tables['train'].source}: {len(parts[name]):,} rows ({share:.0%}, by content, "
                f"stratified by label, seed {seed})"
            )
    splits = Splits(parts["train"], parts["validation"], parts["test"], unlabelled, names, scale=scale)
    return task, replace(splits, notes=(*notes, *leak_notes(splits)))


def image_row(path_or_name: str | Path, column: str, image: bytes) -> str:
    """Where the rows of a data set hold this image: file, row (from 1) and path; "" where none does."""
    try:
        tables = find(path_or_name, as_text=(column,)).tables
    except DataError:
        return ""
    for table in tables.values():
        if column not in table.columns:
            continue
        for row, value in enumerate(images(table, column)):
            if value == image:
                said = table.values(column)[row]
                return f"{table.source}, row {row + 1:,}" + (f", {said}" if isinstance(said, str) else "")
    return ""


def _inputs(table: Table, columns: Columns) -> dict[str, list[Any]]:
    need_columns(table, columns, {"image": "image"})
    readers: dict[str, Callable[[Table, str], list[Any]]] = {"image": images, "tokens": words}
    return {
        field: values(table, name) if columns.every else readers.get(field, texts)(table, name)
        for field, name in columns.inputs.items()
    }


def _without_identifiers(train: Table, columns: Columns, notes: list[str]) -> Columns:
    """The columns less those that name rows: nothing can be learnt from what never comes again."""
    names = [name for name in columns.inputs if len(train) and names_rows(train, name)]
    if names and len(names) == len(columns.inputs):
        raise DataError(
            f'{train.source}: every column but "{columns.label}" has another value in nearly every row '
            f"({', '.join(names)}), so nothing is left to learn from: add columns, and write numbers as numbers"
        )
    if names:
        notes.append(f"left out, nearly every row has another value there: {', '.join(names)}")
    return replace(columns, inputs={name: name for name in columns.inputs if name not in names})


def _labelled(
    tables: dict[str, Table], columns: Columns, answer: str, notes: list[str], *, hub: bool
) -> tuple[dict[str, Examples], tuple[str, ...], Scale | None]:
    """The labelled splits. Train keeps its rows without a label for now; elsewhere they are dropped."""
    inputs = {name: _inputs(table, columns) for name, table in tables.items() if name != "unlabelled"}
    mine = {name: tables[name] for name in inputs}
    for table in mine.values():
        need_column(table, columns.label, "label")
    labels, names, scale = _READERS[answer](mine, columns, notes)
    parts = {}
    for split, rows in labels.items():
        part, source = Examples.of(inputs[split], rows), mine[split].source
        bare = int((~part.known).sum())
        if split != "train" and bare == len(part):
            if not hub:
                raise DataError(f"no row of {source} has a label: give it labels, or remove the file")
            notes.append(f"{source} has no labels, as benchmarks hide them: it is not used")
            continue
        if split != "train" and bare:
            notes.append(f"{bare:,} of {len(part):,} rows of {source} have no label: dropped")
            part = part.take(np.flatnonzero(part.known))
        parts[split] = part
    return parts, names, scale


def _classes(
    tables: Mapping[str, Table], columns: Columns, notes: list[str]
) -> tuple[dict[str, Labels], tuple[str, ...], Scale | None]:
    said = {name: read_labels(table, columns.label) for name, table in tables.items()}
    names = vocabulary(said["train"])
    notes += [f'the labels "{a}" and "{b}" differ only in case or blanks' for a, b in near_duplicates(names)]
    seen = {name for name in said["train"].names if name is not None}
    _say_missing(names, seen, notes)
    return {split: positions(one, names, seen=seen) for split, one in said.items()}, names, None


def _several(
    tables: Mapping[str, Table], columns: Columns, notes: list[str]
) -> tuple[dict[str, Labels], tuple[str, ...], Scale | None]:
    said = {name: read_lists(table, columns.label) for name, table in tables.items()}
    names = all_labels(said["train"])
    seen = {name for labels in said["train"].lists if labels is not None for name in labels}
    _say_missing(names, seen, notes)
    return {split: many_hot(one, names, seen=seen) for split, one in said.items()}, names, None


def _say_missing(names: tuple[str, ...], seen: set[str], notes: list[str]) -> None:
    missing = len(names) - len(seen)
    if missing:
        notes.append(f"{missing:,} of the {len(names):,} classes that the label column names have no training row")


def _tags(
    tables: Mapping[str, Table], columns: Columns, notes: list[str]
) -> tuple[dict[str, Labels], tuple[str, ...], Scale | None]:
    (words_of,) = columns.inputs.values()
    said = {name: read_tags(table, columns.label, words_of) for name, table in tables.items()}
    names = named(all_types(said["train"]))
    seen = {tag for row in said["train"].rows if row is not None for tag in row}
    missing = [name for name in names[1:] if name not in seen]
    if missing:
        notes.append(f"{len(missing):,} of the {len(names):,} tags have no training row, such as {missing[0]}")
    return {split: numbered(one, names, seen=seen) for split, one in said.items()}, names, None


def _spans(
    tables: Mapping[str, Table], columns: Columns, notes: list[str]
) -> tuple[dict[str, Labels], tuple[str, ...], Scale | None]:
    said = {name: read_answers(table, columns.label, columns.inputs["context"]) for name, table in tables.items()}
    for split, rows in said.items():
        if count := unanswered(rows):
            notes.append(f"{count:,} of {len(rows):,} {split} questions have no answer in their text")
    if not unanswered(said["train"]):
        notes.append("every training question has an answer, so no model here will say that there is none")
    return said, ENDS, None


def _scores(
    tables: Mapping[str, Table], columns: Columns, notes: list[str]
) -> tuple[dict[str, Labels], tuple[str, ...], Scale | None]:
    column = columns.label
    said = {name: read_scores(table, column) for name, table in tables.items()}
    train = said["train"][np.isfinite(said["train"])]
    if len(set(train.tolist())) < 2:
        raise DataError(
            f"{tables['train'].source} has {len(set(train.tolist()))} different scores in column "
            f'"{column}": a regression needs at least two'
        )
    scale = Scale.of(train)
    notes.append(f"scores of the training rows lie from {scale.low:g} to {scale.high:g}, mean {scale.mean:.3g}")
    for split, scores in said.items():
        outside = int(((scores < scale.low) | (scores > scale.high)).sum())
        if split != "train" and outside:
            notes.append(f"{outside:,} {split} rows have a score outside the range of the training rows")
    return {split: scale.there(scores) for split, scores in said.items()}, (column,), scale


_READERS = {"label": _classes, "labels": _several, "score": _scores, "tags": _tags, "span": _spans}


def _unlabelled(
    table: Table | None, columns: Columns, parts: dict[str, Examples], source: str, notes: list[str]
) -> Examples | None:
    """The unlabelled rows: the file's, then those of train, which leave ``parts["train"]``."""
    labels = parts["train"].labels
    pools = [] if table is None else [Examples.of(_inputs(table, columns), blank(labels, len(table)))]
    bare = ~parts["train"].known
    if bare.any():
        notes.append(f"{int(bare.sum()):,} of {len(bare):,} rows of {source} have no label: used as unlabelled rows")
        pools.append(parts["train"].take(np.flatnonzero(bare)))
        parts["train"] = parts["train"].take(np.flatnonzero(~bare))
    return Examples.join(pools) if pools else None
