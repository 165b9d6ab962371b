"""A question and the text that answers it as sub-word ids: what a transformer that points at words reads.

A text that is too long for the model is read in several windows that overlap, each beside the whole question. The row
stays one row: `places` tells where each of its words stands, in the window where it has most text on both sides, so
that all words of a text compete in one softmax. A start is read at a word's first sub-word and an end at its last,
which is what models mean that were trained on sub-words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding.features import RowError, columns, padded
from understudy.encoding.subwords import FILE
from understudy.errors import StoreError, UsageError
from understudy.extras import require
from understudy.files import content_hash, write_bytes
from understudy.passages import word_places
from understudy.ragged import NOTHING, NOWHERE, Ragged

FIELDS = ("question", "context")
_AT_ONCE = 2048  # texts that the tokenizer is given together
_FIRST = np.zeros((1, 4), np.int64)  # "no answer": the first id of the first window, which speaks for all of them


@dataclass(frozen=True)
class Passages:
    """N questions in windows.

    Attributes:
        ids: int32, sub-words of each window with its question, special ones included; ``types`` are their segments.
        windows: int64 [N + 1]: those of row i are ``windows[i]`` up to ``windows[i + 1]``.
        words: int64 [M, 4] of every row: "no answer", then every word of its text; the window in which its first
            sub-word is read and the place there, and the same of its last.
        cut: bool [N], rows whose question lost its end. A text loses nothing.
    """

    ids: Ragged
    windows: np.ndarray
    words: Ragged
    cut: np.ndarray

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True)
class _Text:
    """Sub-words of one text, and the first and the last of each of its words."""

    ids: list[int]
    ends: np.ndarray


class PassageEncoder:
    """Sub-word ids of a question and a text; as many windows as the text needs.

    Args:
        tokenizer: a ``tokenizers.Tokenizer`` that puts a special id before a pair; it is copied.
        limit: the most ids of a window, special ones and question included.
        overlap: ids that two windows share; a third of the limit unless given, never more than half the room for text.
        unanswerable: whether a text may have no answer. Where it may not, nothing is read in that place.
        token_types: whether the model wants ``token_type_ids``.
        padding_id: what fills short windows in a batch.
        fields: the columns of questions and texts.
    """

    kind = "passages"

    def __init__(
        self,
        tokenizer: Any,
        *,
        limit: int,
        overlap: int | None = None,
        unanswerable: bool = True,
        token_types: bool = False,
        padding_id: int = 0,
        fields: Sequence[str] = FIELDS,
    ) -> None:
        self._tokenizer = type(tokenizer).from_str(tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._around, self._types = _template(self._tokenizer)
        special = sum(len(ids) for ids in self._around)
        if limit < special + 2:
            raise UsageError(f"a limit of {limit} ids leaves no room for a question and a text beside {special} others")
        self.limit, self.overlap = limit, limit // 3 if overlap is None else overlap
        if self.overlap < 0:
            raise UsageError(f"windows share at least 0 ids, got an overlap of {overlap}")
        self.unanswerable, self.token_types, self.padding_id = unanswerable, token_types, int(padding_id)
        self.fields = tuple(fields)
        self._asked = (limit - special) // 2  # the most ids of a question

    @property
    def fingerprint(self) -> str:
        """Changes with the tokenizer and every setting."""
        asked = "lowest of all windows" if self.unanswerable else ""
        return content_hash(self.kind, self._tokenizer.to_str(), repr(sorted(self._settings().items())), asked)

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> Passages:
        """Windows of every row.

        Raises:
            RowError: a question or a text that is no text, or has no word.
        """
        asked, told = columns(inputs, self.fields)
        for name, column in zip(self.fields, (asked, told), strict=True):
            for row, text in enumerate(column):
                _refuse(row, name, text)
        questions = dict(zip(unique := list(dict.fromkeys(asked)), self._questions(unique), strict=True))
        texts = dict(zip(unique := list(dict.fromkeys(told)), self._texts(unique), strict=True))
        ids: list[np.ndarray] = []
        types: list[np.ndarray] = []
        words: list[np.ndarray] = []
        counts = [0]
        for question, context in zip(asked, told, strict=True):
            mine = questions[question][: self._asked]
            parts, places = self._windows(mine, texts[context])
            ids += parts
            words.append(places)
            counts.append(len(parts))
            types += [self._types_of(len(mine), len(part)) for part in parts]
        flat = Ragged.of(ids, np.zeros(0, np.int32))
        segments = np.concatenate(types) if types else np.zeros(0, np.int8)
        return Passages(
            Ragged(flat.values, flat.offsets, segments),
            np.cumsum(counts, dtype=np.int64),
            Ragged.of(words, np.zeros((0, 4), np.int64)),
            np.array([len(questions[one]) > self._asked for one in asked], bool),
        )

    def collate(self, features: Passages, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``, int64 [R, L]: all windows of some rows, one
        row after the other, L the longest of them; ``owners`` int64 [R] too where a text may have no answer."""
        some = features.ids.take(_numbers(features, indices)[0])
        ids, mask = padded(some, self.padding_id)
        inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        if self.token_types:
            assert some.types is not None
            inputs["token_type_ids"] = some.holding(some.types.astype(np.int64)).padded(0, ids.shape[1])
        if self.unanswerable:
            inputs["owners"] = self.owners(features, indices)
        return inputs

    def places(self, features: Passages, indices: Sequence[int] | np.ndarray, width: int | None = None) -> np.ndarray:
        """int64 [N, 2, W]: where "no answer" and each word start and end, counted over the batch's windows, r * L + l.

        ``NOWHERE`` behind a row's last word, ``NOTHING`` where nothing is read; W is 1 + the most words of the rows.
        """
        numbers, first = _numbers(features, indices)
        length = max(1, int(features.ids.lengths[numbers].max(initial=1)))
        some = features.words.take(indices)
        window = first[some.owners]
        at = some.values
        found = np.stack([(window + at[:, 0]) * length + at[:, 1], (window + at[:, 2]) * length + at[:, 3]], axis=1)
        if not self.unanswerable:
            found[some.offsets[:-1]] = NOTHING
        return np.ascontiguousarray(np.moveaxis(some.holding(found).padded(NOWHERE, width), 2, 1))

    def answered(self, features: Passages) -> np.ndarray:
        """int64 [N]: 1 + words of each text; there is room for all."""
        return features.words.lengths

    def owners(self, features: Passages, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """int64 [R]: which of the rows each window of the batch is of."""
        rows = np.asarray(indices, np.int64)
        return np.repeat(np.arange(len(rows)), np.diff(features.windows)[rows])

    def lengths(self, features: Passages) -> np.ndarray:
        """int64 [N]: ids of all windows of a row."""
        return features.ids.offsets[features.windows[1:]] - features.ids.offsets[features.windows[:-1]]

    def save(self, folder: Path) -> dict[str, Any]:
        """Write ``tokenizer.json``; the entry for a manifest."""
        write_bytes(folder / FILE, self._tokenizer.to_str().encode())
        return {"kind": self.kind, "file": FILE, **self._settings()}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> PassageEncoder:
        """The encoder that `save` wrote."""
        tokenizers = require("tokenizers", package="tokenizers", why="a sub-word encoder")
        path = folder / entry["file"]
        try:
            tokenizer = tokenizers.Tokenizer.from_str(path.read_bytes().decode())
        except Exception as error:  # the package raises bare Exceptions
            raise StoreError(f"cannot read the tokenizer in {path}: {error}") from error
        names = ("limit", "overlap", "unanswerable", "token_types", "padding_id", "fields")
        return cls(tokenizer, **{name: entry[name] for name in names})

    def _settings(self) -> dict[str, Any]:
        return {
            "limit": self.limit, "overlap": self.overlap, "unanswerable": self.unanswerable,
            "token_types": self.token_types, "padding_id": self.padding_id, "fields": list(self.fields),
        }  # fmt: skip

    def _questions(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(one.ids) for one in _encoded(self._tokenizer, texts)]

    def _texts(self, texts: Sequence[str]) -> list[_Text]:
        found = _encoded(self._tokenizer, texts)
        return [_Text(list(one.ids), _ends(text, one.offsets)) for text, one in zip(texts, found, strict=True)]

    def _windows(self, question: Sequence[int], text: _Text) -> tuple[list[np.ndarray], np.ndarray]:
        """Ids of every window, and the window and place of "no answer" and of both ends of every word, [1 + W, 4]."""
        before, between, after = self._around
        head = [*before, *question, *between]
        room = self.limit - len(head) - len(after)
        starts = window_starts(len(text.ids), room, min(self.overlap, room // 2))
        parts = [np.array([*head, *text.ids[start : start + room], *after], np.int32) for start in starts.tolist()]
        chosen = window_of(starts, len(text.ids), room)
        at = np.stack([chosen, np.arange(len(text.ids)) - starts[chosen] + len(head)], axis=1)
        if not len(text.ids):  # a text of which the tokenizer makes nothing: all of it is said at the first id
            return parts, np.concatenate([_FIRST, np.zeros((len(text.ends), 4), np.int64)])
        return parts, np.concatenate([_FIRST, at[text.ends].reshape(-1, 4)])

    def _types_of(self, question: int, length: int) -> np.ndarray:
        before, between, after = self._types
        told = length - question - len(before) - len(between) - len(after)
        return np.array([*before, *[0] * question, *between, *[1] * told, *after], np.int8)


def window_starts(count: int, room: int, overlap: int) -> np.ndarray:
    """int64: where the windows over so many ids begin; the last one ends with the text.

    >>> window_starts(10, 6, 2).tolist(), window_starts(6, 6, 2).tolist()
    ([0, 4], [0])
    """
    if count <= room:
        return np.zeros(1, np.int64)
    starts = np.arange(0, count - room, room - overlap, dtype=np.int64)
    return np.append(starts, count - room)


def window_of(starts: np.ndarray, count: int, room: int) -> np.ndarray:
    """int64 [count]: the window in which each id has most text on its shorter side; where the text itself begins or
    ends nothing is missing.

    >>> window_of(np.array([0, 4]), 10, 6).tolist()
    [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    """
    place = np.arange(count)[None]
    before = np.where(starts[:, None] == 0, count, place - starts[:, None])
    behind = np.where(starts[:, None] + room >= count, count, starts[:, None] + room - 1 - place)
    context = np.minimum(before, behind)
    inside = (place >= starts[:, None]) & (place < starts[:, None] + room)
    return np.where(inside, context, -1).argmax(axis=0)


def _ends(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """int64 [W, 2]: the first and the last sub-word that touch each word; of a word that none touches, the next one."""
    words = word_places(text)
    letters = np.array(offsets, np.int64).reshape(-1, 2)
    most = max(0, len(letters) - 1)
    begins, stops = np.maximum.accumulate(letters[:, 0]), np.maximum.accumulate(letters[:, 1])
    first = np.minimum(np.searchsorted(stops, words[:, 0], side="right"), most)
    last = np.searchsorted(begins, words[:, 1], side="left") - 1
    return np.stack([first, np.maximum(first, last)], axis=1)


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    """Encodings without special ids; a lone surrogate, which is no letter, is read as a question mark."""
    clean = [one if one.isascii() else one.encode("utf-8", "replace").decode() for one in texts]
    found: list[Any] = []
    for start in range(0, len(clean), _AT_ONCE):
        found += tokenizer.encode_batch(clean[start : start + _AT_ONCE], add_special_tokens=False)
    return found


def _numbers(features: Passages, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of all windows of some rows, and the first of each row among them."""
    rows = np.asarray(indices, np.int64)
    counts = np.diff(features.windows)[rows]
    first = np.cumsum(counts) - counts
    return np.repeat(features.windows[:-1][rows] - first, counts) + np.arange(int(counts.sum())), first


def _template(tokenizer: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Special ids before the first of two texts, between them, and behind the second; and their segments."""
    found = tokenizer.encode("a", "a")
    sides = found.sequence_ids
    if 0 not in sides or 1 not in sides or not sides.index(0):
        raise UsageError("the tokenizer puts no special id before a question and a text, where no answer would be read")
    ends = [len(sides) - sides[::-1].index(side) for side in (0, 1)]
    parts = (slice(0, sides.index(0)), slice(ends[0], sides.index(1)), slice(ends[1], len(sides)))
    return [list(found.ids[part]) for part in parts], [list(found.type_ids[part]) for part in parts]


def _refuse(row: int, column: str, text: Any) -> None:
    if not isinstance(text, str):
        raise RowError(row, column, f"wanted a text, got {'nothing' if text is None else f'a {type(text).__name__}'}")
    if not len(word_places(text)):
        raise RowError(row, column, "there is no word in it; leave the row out")
