"""Texts that a student will be measured on, and rows that would give them away."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from understudy.data.tables import BUILDERS, read_file
from understudy.errors import DataError
from understudy.generation.grams import grams, words

GRAM = 8
_SPLITS = ("validation", "test")


class Shown(Protocol):
    """Something with a prompt and a completion."""

    @property
    def prompt(self) -> str:
        """The prompt."""

    @property
    def completion(self) -> str:
        """The completion."""


class Avoided:
    """Every run of 8 words of some texts, which neither prompt nor completion may hold, and the shorter texts whole.

    A short text (a question of five words, but a label too) is looked for among prompts only, and only as the whole:
    a completion may well be a label.
    """

    def __init__(self, texts: Iterable[str], sources: Iterable[str] = ()) -> None:
        self.sources = tuple(sources)
        self._runs: set[str] = set()
        self._whole: set[str] = set()
        for text in texts:
            (self._runs if len(words(text)) >= GRAM else self._whole).update(grams(text, GRAM))

    def meets(self, row: Shown) -> bool:
        """Whether prompt or completion shares a run with the texts, or the prompt is one of the short ones.

        >>> from types import SimpleNamespace as Row
        >>> avoided = Avoided(["a b c d e f g h i", "short"])
        >>> [avoided.meets(Row(prompt=p, completion="short")) for p in ("Short!", "a short one", "x b c d e f g h i")]
        [True, False, True]
        """
        asked, said = grams(row.prompt, GRAM), grams(row.completion, GRAM)
        return not (asked | said).isdisjoint(self._runs) or not asked.isdisjoint(self._whole)


def read_avoided(path: Path) -> Avoided:
    """The texts of every column of a file, or of the validation and test files of a folder.

    Raises:
        DataError: no such file, or a folder without a validation or test file.
    """
    if path.is_dir():
        files = [path / f"{split}{suffix}" for split in _SPLITS for suffix in BUILDERS]
        files = [file for file in files if file.is_file()]
        if not files:
            raise DataError(f"{path} has no validation or test file: --avoid takes evaluation data")
    elif path.is_file():
        files = [path]
    else:
        raise DataError(f"no file or folder {path}: --avoid takes evaluation data")
    found: list[str] = []
    for file in files:
        table = read_file(file)
        for column in table.columns:
            for value in table.values(column):
                found += _texts(value)
    if not found:
        raise DataError(f"{path} holds no text to avoid")
    return Avoided(found, [file.name for file in files])


def _texts(value: object) -> list[str]:
    """The texts in a value: itself, or those inside a list or a message."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, list):
        if value and all(isinstance(part, str) for part in value):
            return [" ".join(value)]  # a sentence of words
        return [text for part in value for text in _texts(part)]
    return []
