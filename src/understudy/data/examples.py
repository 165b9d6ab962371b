"""Rows in memory: raw inputs, labels and content keys, and the splits that they form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.answers import Scale, known
from understudy.errors import UsageError
from understudy.files import content_hash
from understudy.ragged import Ragged


def content_key(row: Mapping[str, Any]) -> str:
    """What a row *is*, whatever its position: the hash of its input columns, names sorted, values with their types.

    The label takes no part, so a labelled row and the same row without a label have one key, and targets stored for
    one serve the other. The key of a row is 32 hexadecimal digits (BLAKE2b, 128 bits).

    Args:
        row: input column -> value (str, bytes, int, float, bool, None or a list of str).

    Raises:
        UsageError: a value of another type.

    >>> content_key({"text": "hello"}) == content_key({"text": "hello"}) != content_key({"text": "Hello"})
    True
    """
    parts: list[bytes] = []
    for name in sorted(row):
        parts += [name.encode("utf-8", "surrogatepass"), *_canonical(name, row[name])]
    return content_hash(*parts)


def _canonical(name: str, value: Any) -> tuple[bytes, bytes]:
    """A type tag and bytes, so that the text "1", the number 1 and the byte b"1" are three contents."""
    if isinstance(value, str):
        return b"str", value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return b"bytes", value
    if value is None or isinstance(value, bool | int | float):
        return type(value).__name__.encode(), repr(value).encode()
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return b"words", json.dumps(list(value)).encode()  # every word in quotes, all of it ASCII
    raise UsageError(
        f'column "{name}" holds a {type(value).__name__}; a content key takes str, bytes, a number or a list of words'
    )


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows of one split.

    Attributes:
        inputs: raw column -> values, each of length N (``{"text": [str]}``, ``{"image": [bytes]}``, PNG or JPEG, or
            ``{"tokens": [[str]]}``).
        labels: [N] int64 positions in the label names, -1 where a row has none; or what another answer wants (see
            `understudy.answers`). Read-only.
        keys: [N] content keys; duplicates keep one key.
    """

    inputs: Mapping[str, list[Any]]
    labels: NDArray[Any]
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        labels = np.array(self.labels)
        if labels.dtype.kind != "O":
            labels = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)
        lengths = {"labels": len(labels), "keys": len(self.keys)} | {k: len(v) for k, v in self.inputs.items()}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"examples need one value per row in every column; lengths are {lengths}")

    @classmethod
    def of(cls, inputs: Mapping[str, list[Any]], labels: Sequence[int] | NDArray[Any] | None = None) -> Examples:
        """Examples with their keys computed; without labels, every row has -1.

        >>> Examples.of({"text": ["a", "b"]}, [0, 1]).take([1]).inputs
        {'text': ['b']}
        """
        names = tuple(inputs)
        keys = tuple(content_key(dict(zip(names, row, strict=True))) for row in zip(*inputs.values(), strict=True))
        return cls(inputs, np.full(len(keys), -1, np.int64) if labels is None else np.asarray(labels), keys)

    @classmethod
    def join(cls, parts: Iterable[Examples]) -> Examples:
        """The rows of all parts, one after the other. The parts have the same columns."""
        parts = list(parts)
        if not parts or any(set(part.inputs) != set(parts[0].inputs) for part in parts):
            raise UsageError(f"examples to join need the same columns; got {[sorted(p.inputs) for p in parts]}")
        return cls(
            {name: [value for part in parts for value in part.inputs[name]] for name in parts[0].inputs},
            np.concatenate(_alike([part.labels for part in parts])),
            tuple(key for part in parts for key in part.keys),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> Examples:
        """The rows at these positions, in this order."""
        rows = np.asarray(indices, dtype=np.int64).tolist()
        return Examples(
            {name: [values[row] for row in rows] for name, values in self.inputs.items()},
            self.labels[rows],
            tuple(self.keys[row] for row in rows),
        )

    @property
    def texts(self) -> list[str]:
        """Every text of every column of text, row after row; of words, all of a row with blanks between."""
        return [
            value if isinstance(value, str) else " ".join(value)
            for row in zip(*self.inputs.values(), strict=True)
            for value in row
            if isinstance(value, str | list)
        ]

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """[N]: which rows have a label."""
        return known(self.labels)

    def counts(self, classes: int) -> NDArray[np.int64]:
        """Rows that have each label, or words that have each tag, [classes]; rows without a label do not count.

        Scores and spans belong to no class.
        """
        if self.labels.dtype.kind == "f":
            return np.zeros(classes, np.int64)
        mine = self.labels[self.known]
        if mine.dtype.kind == "O":
            if len(mine) and not isinstance(mine[0], np.ndarray):
                return np.zeros(classes, np.int64)
            mine = Ragged.of(list(mine)).values
        return mine.sum(0) if mine.ndim == 2 else np.bincount(mine, minlength=classes).astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the keys and labels in their order: two splits with one fingerprint train alike."""
        if self.labels.dtype.kind == "O":
            return content_hash(
                "\n".join(self.keys), json.dumps([None if one is None else one.tolist() for one in self.labels])
            )
        kind = "<f4" if self.labels.dtype.kind == "f" else "<i8"
        return content_hash("\n".join(self.keys), self.labels.astype(kind).tobytes())


def _alike(labels: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Labels of one width: what is not known of some rows (`understudy.answers`: a teacher's vectors) is NaN there."""
    widths = [one.shape[1] if one.ndim == 2 else 0 for one in labels]
    if len(set(widths)) == 1:
        return labels
    more = [np.full((len(one), max(widths) - width), np.nan) for one, width in zip(labels, widths, strict=True)]
    return [np.concatenate([one, nothing], axis=1) for one, nothing in zip(labels, more, strict=True)]


@dataclass(frozen=True, eq=False)
class Splits:
    """The rows of one task.

    Attributes:
        train: labelled rows to learn from.
        validation: labelled rows on which everything is chosen.
        test: labelled rows, opened once, at evaluation.
        unlabelled: rows without a label, or None. They take part in soft terms only.
        label_names: name of each label; a label is a position in here. Of a score, what it is called.
        notes: decisions and counts that a reader should see, one plain sentence each.
        scale: of scores; None where labels are names.
        couples: rows of validation and test come two by two, and a label belongs to both (`data.sentences`).
    """

    train: Examples
    validation: Examples
    test: Examples
    unlabelled: Examples | None
    label_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    scale: Scale | None = None
    couples: bool = False

    @property
    def meaning(self) -> tuple[str, ...]:
        """What decides what a column of logits says: the names of the labels, and the scale of a score."""
        return (*self.label_names, *([] if self.scale is None else [repr(self.scale)]))

    @property
    def pairs(self) -> bool:
        """Whether a row is two texts."""
        return self.fields == ("sentence1", "sentence2")

    @property
    def fields(self) -> tuple[str, ...]:
        """Raw columns of a row, without the label."""
        return tuple(self.train.inputs)
