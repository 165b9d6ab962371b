"""Which columns a task reads, and which task fits the columns that are there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.data.answered import looks_answered
from understudy.data.problems import nearest
from understudy.data.tables import Table
from understudy.data.tabular import readable
from understudy.errors import DataError, UsageError, choices

PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("question", "sentence"),
)
"""Names that the two columns of a pair usually have; in memory they are always called as the first pair is."""
MANY = 20  # different numbers from which a column of fractions holds scores, and not the names of classes


@dataclass(frozen=True)
class Layout:
    """The columns of a task.

    Attributes:
        fields: what rows in memory call its inputs: ``("text",)``, ``("sentence1", "sentence2")``, ``("image",)``,
            ``("tokens",)``, ``("question", "context")``; one of several tuples where a task reads either.
        answer: what its labels are (`understudy.answers`).
        labels: what the column of labels is usually called; the first that is there.
    """

    fields: tuple[tuple[str, ...], ...]
    answer: str = "label"
    labels: tuple[str, ...] = ("label",)


TEXTS = Layout((("text",),))
IMAGES = Layout((("image",),))
EVERY = "*"  # in the place of a column: every one but the label's
TABLES = Layout(((EVERY,),))
TABLES_OF_SCORES = Layout(((EVERY,),), answer="score", labels=("label", "score"))
WORDS = Layout((("tokens",),), answer="tags", labels=("tags", "ner_tags", "slot_tags", "label"))
QUESTIONS = Layout((("question", "context"),), answer="span", labels=("answers",))
LAYOUTS: Mapping[str, Layout] = {"text-classification": TEXTS, "image-classification": IMAGES}


@dataclass(frozen=True)
class Columns:
    """What the columns are called in the files.

    Attributes:
        inputs: name in memory -> name in the files.
        label: of the column of labels.
        every: whether they are those of a table, whatever they are called.
    """

    inputs: Mapping[str, str]
    label: str
    every: bool = False

    @classmethod
    def find(cls, layout: Layout, there: Sequence[str], *, text: str, image: str, label: str) -> Columns:
        """The columns of a layout among those that are there.

        Args:
            layout: of the task.
            there: columns of the training rows.
            text: what the user calls the text; two names with a comma between them are a pair.
            image: what the user calls the image.
            label: what the user calls the label; ``label`` stands for the task's usual names.

        Raises:
            UsageError: a pair for a task that reads one text, or the other way round; one column twice.
        """
        label = next((name for name in layout.labels if name in there), label) if label == "label" else label
        if ("image",) in layout.fields:
            return cls({"image": image}, label)
        if (EVERY,) in layout.fields:
            return cls({name: name for name in there if name != label}, label, every=True)
        widths = {len(fields): fields for fields in layout.fields}
        said = tuple(name.strip() for name in text.split(","))
        if said == ("text",) and widths.get(1) not in (None, said):
            said = widths[1]
        if said == ("text",) and 2 in widths and (said[0] not in there or 1 not in widths):
            said = widths[2] if set(widths[2]) <= set(there) else usual_pair(there) or said
        if len(said) not in widths:
            wanted = f"two columns, such as --text {','.join(widths[2])}" if 2 in widths else "one column"
            named = "" if text == "text" else f"--text {text}: "
            raise UsageError(f"{named}this task reads {wanted}; the data has {', '.join(there)}")
        if len(set(said)) < len(said):
            raise UsageError(f"--text {text} names one column twice: a pair is of two")
        return cls(dict(zip(widths[len(said)], said, strict=True)), label)


def usual_pair(there: Sequence[str]) -> tuple[str, str] | None:
    """The two columns that look like a pair, None where none do."""
    return next((pair for pair in PAIRS if set(pair) <= set(there)), None)


def infer(table: Table, layouts: Mapping[str, Layout], *, text: str, image: str, label: str) -> tuple[str, str]:
    """The task that these columns are for, and the sentence that says why.

    Args:
        table: training rows.
        layouts: task -> layout.
        text: what the user calls the text, or the pair.
        image: what the user calls the image.
        label: what the user calls the label.

    Raises:
        DataError: an empty file, or columns that fit no task.
    """
    there = table.columns
    if image in there:
        return "image-classification", "the task is image-classification: train has an image column"
    if "question-answering" in layouts and answered(table, text=text, label=label):
        why = "train has questions, texts and, in the texts, answers"
        return "question-answering", f"the task is question-answering: {why}"
    if (words := tagged(table, text=text, label=label)) is not None and "token-classification" in layouts:
        why = f'train has words in column "{words[0]}" and, in column "{words[1]}", a tag for each'
        return "token-classification", f"the task is token-classification: {why}"
    if {"prompt", "completion"} <= set(there) and not {text, label} & set(there) and "causal-lm" in layouts:
        return "causal-lm", "the task is causal-lm: train has prompts and completions"
    if "messages" in there and text not in there and "causal-lm" in layouts and _talks(table, "messages"):
        return "causal-lm", "the task is causal-lm: train has conversations"
    if there == (text,) and "sentence-embedding" in layouts:
        return "sentence-embedding", "the task is sentence-embedding: train has texts, and no other column"
    if text not in there and usual_pair(there) is None and "," not in text:
        found = next((name for name in (label, "label", "score") if name in there), None)
        rest = [name for name in there if name != found]
        if found is not None and _is_table(table, rest):
            task = "tabular-regression" if kind_of(table, found) == "scores" else "tabular-classification"
            if task in layouts:
                return task, f'the task is {task}: train has columns of numbers and names beside "{found}"'
    pair = "," in text or (text not in there and usual_pair(there) is not None)
    inputs = "a pair of texts" if pair else "one text"
    found = next((name for name in (label, "label", "score", "labels") if name in there), None)
    kind = "names" if found is None else kind_of(table, found)
    wanted = {"labels": "multi-label", "scores": "regression"}.get(kind, "pair-classification" if pair else None)
    task = wanted or "text-classification"
    if task not in layouts:
        task = "text-classification"
    if task == "text-classification" and not pair:
        return task, f"the task is {task}: train has no image column"
    says = {"labels": "lists of labels", "scores": "numbers with fractions"}.get(kind, "labels")
    return task, f'the task is {task}: train has {inputs} and, in column "{found}", {says}'


def tagged(table: Table, *, text: str, label: str) -> tuple[str, str] | None:
    """The columns of words and of their tags: lists of texts, and lists as long; None where there are none.

    A column ``text`` beside a column ``label`` goes before them, unless the user names one of the others.
    """
    there = table.columns
    if text == "text" and label == "label" and {text, label} <= set(there):
        return None
    words = WORDS.fields[0][0] if text == "text" else text
    found = label if label != "label" else next((name for name in WORDS.labels if name in there), label)
    if not {words, found} <= set(there):
        return None
    rows = [row for row in zip(table.values(words)[:100], table.values(found)[:100], strict=True) if None not in row]
    fits = all(
        isinstance(sentence, list) and isinstance(tags, list) and all(isinstance(word, str) for word in sentence)
        for sentence, tags in rows
    )
    return (words, found) if rows and fits and any(len(a) == len(b) for a, b in rows) else None


def answered(table: Table, *, text: str, label: str) -> bool:
    """Whether there are questions, texts, and answers with the letters that they begin at."""
    try:
        columns = Columns.find(QUESTIONS, table.columns, text=text, image="", label=label)
    except UsageError:
        return False
    wanted = {*columns.inputs.values(), columns.label}
    return wanted <= set(table.columns) and looks_answered(table.values(columns.label))


def _talks(table: Table, column: str) -> bool:
    """Whether a column holds lists of messages."""
    rows = [row for row in table.values(column)[:100] if row is not None]
    return bool(rows) and all(isinstance(row, list) and row and isinstance(row[0], dict) for row in rows)


def _is_table(table: Table, rest: Sequence[str]) -> bool:
    """Whether columns describe rows by numbers, or by numbers and names."""
    kinds = [{type(value) for value in table.values(name) if value is not None} for name in rest]
    return bool(rest) and all(readable(table, name) for name in rest) and any(k & {int, float} for k in kinds)


def kind_of(table: Table, column: str) -> str:
    """``labels`` (lists), ``scores`` (many different numbers, some with fractions) or ``names``."""
    values = [value for value in table.values(column) if value is not None]
    if any(isinstance(value, list | tuple) for value in values[:100]):
        return "labels"
    if table.class_names(column) is not None:
        return "names"
    numbers = [_number(value) for value in values]
    if not numbers or any(number is None for number in numbers):
        return "names"
    real = {number for number in numbers if number is not None and not math.isnan(number)}
    return "scores" if len(real) > MANY and any(not number.is_integer() for number in real) else "names"


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value) if value != "" else math.nan
    except (TypeError, ValueError):
        return None


def layout_of(task: str, layouts: Mapping[str, Layout]) -> Layout:
    """The layout of a task.

    Raises:
        UsageError: no such task.
    """
    if task not in layouts:
        raise UsageError(f'unknown task "{task}": {choices(task, layouts)}')
    return layouts[task]


def need_columns(table: Table, columns: Columns, options: Mapping[str, str], *, more: str = "") -> None:
    """Raises a DataError with the columns there are, and ``more``, unless the table has all inputs (it has rows)."""
    if len(table) == 0:
        raise DataError(f"{table.source} is empty: it has no row")
    for field, name in columns.inputs.items():
        if name not in table.columns:
            raise DataError(
                f'{table.source} has no column "{name}" ({nearest(name, table.columns)}): '
                f"name the right one with --{options.get(field, 'text')}{more}"
            )
