"""Sentences of given words as a few ids a word: what a small network that tags words reads instead of sub-words.

    the word        in lower case: its place in a dictionary, or a hashed bucket
    its beginning   the first three letters, hashed
    its end         the last three letters, and the last two, hashed
    its shape       capitals, small letters, digits and marks: "Berlin" is Xx, "2nd" dx, "A.B." X.X.

A word that was never seen in training is known by the last four.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from understudy.encoding.features import columns
from understudy.encoding.tokens import FIELD, sentence
from understudy.encoding.vocabulary import FILE, read_words, write_words
from understudy.errors import UsageError
from understudy.files import content_hash
from understudy.ragged import NOWHERE, Ragged

PADDING = 0
FIRST = 1  # the id of the first word
PARTS = 5  # ids of a word
_MEMO = 100_000  # words remembered


class AffixEncoder:
    """Ids of every word: 0 = padding, 1..W = words, then buckets of unknown words and of the other four.

    >>> encoder = AffixEncoder(["fly", "to"], buckets=100, limit=8)
    >>> encoder.encode({"tokens": [["Fly", "to", "Rome"]]}).values[:2, 0].tolist()
    [1, 2]

    Args:
        words: the dictionary, in lower case.
        buckets: how many ids share everything hashed.
        limit: the most words of a sentence; what is beyond them is not read.
        fields: the column of words.
    """

    kind = "affixes"

    def __init__(self, words: Sequence[str], *, buckets: int, limit: int, fields: Sequence[str] = (FIELD,)) -> None:
        if buckets < 1 or limit < 1:
            raise UsageError(f"an AffixEncoder wants buckets and a limit of at least 1, got {buckets} and {limit}")
        if any("\n" in word for word in words) or len(set(words)) != len(words):
            raise UsageError("the words of an AffixEncoder are distinct and hold no line break")
        self.words, self.buckets, self.limit, self.fields = tuple(words), buckets, limit, tuple(fields)
        self.size = FIRST + len(self.words) + buckets
        self._known = {word: i for i, word in enumerate(self.words, FIRST)}
        self._memo: dict[str, tuple[int, ...]] = {}

    @classmethod
    def fit(cls, sentences: Iterable[Sequence[str]], *, most: int, buckets: int, limit: int) -> AffixEncoder:
        """An encoder with the ``most`` frequent words of some sentences; of equals the alphabetically first."""
        counts = Counter(word.lower() for words in sentences for word in words if "\n" not in word)
        kept = sorted(sorted(counts, key=lambda word: (-counts[word], word))[:most])
        return cls(kept, buckets=buckets, limit=limit)

    @property
    def fingerprint(self) -> str:
        """Changes with the words, their order and every setting."""
        return content_hash(self.kind, repr(sorted(self._settings().items())), *self.words)

    def ids_of(self, word: str) -> tuple[int, ...]:
        """The five ids of one word."""
        small = word.lower()
        known = self._known.get(small)
        return (
            self._bucket("w:" + small) if known is None else known,
            self._bucket("b:" + small[:3]),
            self._bucket("e:" + small[-3:]),
            self._bucket("t:" + small[-2:]),
            self._bucket("s:" + shape(word)),
        )

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> Ragged:
        """int32 [M, 5], five ids for every word, 1 to ``limit`` words a row. Raises RowError where there are none."""
        (column,) = columns(inputs, self.fields)
        if len(self._memo) > _MEMO:
            self._memo = {}
        memo, found, lengths = self._memo, [], []
        for row, words in enumerate(column):
            for word in sentence(row, self.fields[0], words):
                ids = memo.get(word)
                if ids is None:
                    ids = memo[word] = self.ids_of(word)
                found.append(ids)
            lengths.append(len(words))
        values = np.array(found, np.int32).reshape(-1, PARTS)
        return Ragged(values, np.cumsum([0, *lengths], dtype=np.int64)).first(self.limit)

    def collate(self, features: Ragged, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """``part_ids`` int64 [N, L, 5] and ``attention_mask`` int64 [N, L] of some rows, L the longest of them."""
        some = features.take(indices)
        ids = some.padded(PADDING).astype(np.int64)
        mask = np.arange(ids.shape[1]) < some.lengths[:, None]
        return {"part_ids": ids, "attention_mask": mask.astype(np.int64)}

    def places(self, features: Ragged, indices: Sequence[int] | np.ndarray, width: int | None = None) -> np.ndarray:
        """int64 [N, W]: where each word's logits are, counted over the batch, n * L + l; -1 behind a row's last word; W
        the most words of the rows."""
        lengths = features.lengths[np.asarray(indices, np.int64)]
        length = max(1, int(lengths.max(initial=1)))
        place = np.arange(length if width is None else width)
        rows = np.arange(len(lengths))[:, None]
        return np.where(place < lengths[:, None], rows * length + place, NOWHERE)

    def answered(self, features: Ragged) -> np.ndarray:
        """int64 [N]: words of each row that there was room for."""
        return features.lengths

    def lengths(self, features: Ragged) -> np.ndarray:
        """int64 [N]: words per row."""
        return features.lengths

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the words, where there are any; the entry for a manifest."""
        if self.words:
            write_words(folder / FILE, self.words)
        return {"kind": self.kind, "file": FILE if self.words else None, **self._settings()}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> AffixEncoder:
        """The encoder that `save` wrote."""
        words = read_words(folder / entry["file"]) if entry["file"] is not None else ()
        return cls(words, **{name: entry[name] for name in ("buckets", "limit", "fields")})

    def _settings(self) -> dict[str, Any]:
        return {"buckets": self.buckets, "limit": self.limit, "fields": list(self.fields)}

    def _bucket(self, text: str) -> int:
        return FIRST + len(self.words) + crc32(text.encode("utf-8", "surrogatepass")) % self.buckets


def shape(word: str) -> str:
    """What a word looks like: runs of capitals, small letters and digits as one sign each, marks as they are.

    >>> shape("Berlin"), shape("2nd"), shape("U.S."), shape("don't")
    ('Xx', 'dx', 'X.X.', "x'x")
    """
    found = ""
    for letter in word:
        sign = "d" if letter.isdigit() else "X" if letter.isupper() else "x" if letter.isalpha() else letter
        if found[-1:] != sign:
            found += sign
    return found[:12]
