"""Words, pairs of words and character n-grams as ids: the whole tokenizer of a student that looks vectors up.

A sub-word tokenizer alone costs more than the whole budget of such a student, so this one is a split and a dictionary.
What is not in the dictionary is hashed with CRC-32, which is the same on every machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from understudy.encoding.features import text_columns
from understudy.encoding.memo import Memo, Uncut
from understudy.encoding.splitting import split, split_all
from understudy.encoding.vocabulary import FILE, read_words, write_words
from understudy.errors import UsageError
from understudy.files import content_hash
from understudy.ragged import Ragged

EMPTY = 0  # the id of a row in which nothing was found
_MEMO = 50_000  # words remembered; a server that meets endless new words must not grow without end
_CHUNK = 4096  # texts that are split at once
_LETTERS = 1 << 21  # and the letters of all of them, unless one text alone has more


@dataclass(frozen=True)
class Spoken:
    """The words of N texts as numbers of a memo, flat: text i is ``words[starts[i]:starts[i] + lengths[i]]``.

    Attributes:
        memo: knows the ids of every number.
        words: int64 [M]; behind every text is ``memo.first``, the number of no word.
        pairs: int64 [M], the id of each word and the next; ``memo.first`` where there is none. None without pairs.
        starts, lengths: int64 [N].
    """

    memo: Memo
    words: np.ndarray
    pairs: np.ndarray | None
    starts: np.ndarray
    lengths: np.ndarray


class WordEncoder:
    """A bag of ids for every text: 0 = empty, 1..W = words, then hashed buckets.

    Args:
        words: the dictionary; word i has id i + 1. Without one everything is hashed.
        buckets: how many ids share everything hashed: unknown words, pairs, n-grams. 0 drops unknown words.
        pairs: add one hashed id for every two neighbouring words.
        characters: add one hashed id for every ``characters`` neighbouring letters of ``<word>``; 0 is off.
        lowercase: fold upper case.
        fields: the columns, joined with a space.
    """

    kind = "words"

    def __init__(
        self,
        words: Sequence[str],
        *,
        buckets: int = 0,
        pairs: bool = False,
        characters: int = 0,
        lowercase: bool = True,
        fields: Sequence[str] = ("text",),
    ) -> None:
        if buckets < 0 or characters < 0:
            raise UsageError(f"buckets and characters are at least 0, got {buckets} and {characters}")
        if (pairs or characters) and not buckets:
            raise UsageError("pairs and characters are hashed: they need buckets, for example buckets=65536")
        if any("\n" in word for word in words) or len(set(words)) != len(words):
            raise UsageError("the words of a WordEncoder are distinct and hold no line break")
        self.words, self.buckets, self.pairs, self.characters = tuple(words), buckets, pairs, characters
        self.lowercase, self.fields = lowercase, tuple(fields)
        self.size = 1 + len(self.words) + buckets
        self._first = 1 + len(self.words)
        self._known = {word: i for i, word in enumerate(self.words, 1)}
        self._memo = Memo(self.size, self.ids_of, buckets=self.buckets)

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        most: int,
        buckets: int = 0,
        pairs: bool = False,
        characters: int = 0,
        lowercase: bool = True,
        fields: Sequence[str] = ("text",),
    ) -> WordEncoder:
        """An encoder with the ``most`` frequent words of some texts, in alphabetical order, in which they ship smaller.

        Of equally frequent ones the alphabetically first are kept.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(split(text, lowercase=lowercase))
        kept = sorted(sorted(counts, key=lambda word: (-counts[word], word))[:most])
        return cls(kept, buckets=buckets, pairs=pairs, characters=characters, lowercase=lowercase, fields=fields)

    @property
    def fingerprint(self) -> str:
        """Changes with the words, their order and every setting."""
        return content_hash(repr(sorted(self._settings().items())), *self.words)

    def ids_of(self, word: str) -> list[int]:
        """All ids of one word: its own and those of its n-grams; none of an unknown word without buckets."""
        ids = [self._known[word]] if word in self._known else [self._bucket("w:" + word)] if self.buckets else []
        if n := self.characters:
            wrapped = f"<{word}>"
            ids += [self._bucket("c:" + wrapped[i : i + n]) for i in range(max(1, len(wrapped) - n + 1))]
        return ids

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> Ragged:
        """Ids of every row, at least one each. Raises RowError where a row holds no text."""
        parts = [_bags(spoken) for spoken in self.spoken(self.texts(inputs))]
        lengths = np.concatenate([np.zeros(1, np.int64), *(lengths for _, lengths in parts)])
        return Ragged(np.concatenate([np.zeros(0, np.int32), *(ids for ids, _ in parts)]), np.cumsum(lengths))

    def texts(self, inputs: Mapping[str, Sequence[Any]]) -> Sequence[str]:
        """The one text of every row. Raises RowError where a row holds none."""
        found = text_columns(inputs, self.fields)
        return found[0] if len(found) == 1 else [" ".join(row) for row in zip(*found, strict=True)]

    def spoken(self, texts: Sequence[str], *, together: int = 1) -> Iterator[Spoken]:
        """The words of all texts, some thousand texts at a time; every ``together`` of them are not parted."""
        start, most = 0, max(1, _CHUNK // together)
        while start < len(texts):
            some = texts[start : start + most * together]
            if (letters := sum(map(len, some))) > _LETTERS and len(some) > together:
                some = some[: max(1, len(some) * _LETTERS // letters // together) * together]
            yield self._speak(some)
            start += len(some)

    def speak(self, text: str) -> tuple[Memo, list[int]]:
        """`spoken` of one text, as cheap as it can be: the numbers of its words, then the ids of its pairs."""
        memo = self._remembered()
        words = list(map(memo.__getitem__, split(text, lowercase=self.lowercase)))
        if self.pairs:
            words += memo.pairs(words, self._first)
        return memo, words

    def collate(self, features: Ragged, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """``ids`` int64 [M] and ``offsets`` int64 [N + 1] of some rows."""
        some = features.take(indices)
        return {"ids": some.values.astype(np.int64), "offsets": some.offsets}

    def lengths(self, features: Ragged) -> np.ndarray:
        """int64 [N]: ids per row."""
        return features.lengths

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the words, where there are any; the entry for a manifest."""
        if self.words:
            write_words(folder / FILE, self.words)
        return {"kind": self.kind, "file": FILE if self.words else None, **self._settings()}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> WordEncoder:
        """The encoder that `save` wrote."""
        words = read_words(folder / entry["file"]) if entry["file"] is not None else ()
        names = ("buckets", "pairs", "characters", "lowercase", "fields")
        return cls(words, **{name: entry[name] for name in names})

    def _settings(self) -> dict[str, Any]:
        return {
            "buckets": self.buckets, "pairs": self.pairs, "characters": self.characters, "lowercase": self.lowercase,
            "fields": list(self.fields),
        }  # fmt: skip

    def _bucket(self, text: str) -> int:
        return self._first + crc32(text.encode("utf-8", "surrogatepass")) % self.buckets

    def _remembered(self) -> Memo:
        """The words met so far, or a fresh start where they are too many; whoever holds the old ones may keep them."""
        if len(self._memo) > _MEMO:
            self._memo = Memo(self.size, self.ids_of, buckets=self.buckets)
        return self._memo

    def _speak(self, texts: Sequence[str]) -> Spoken:
        memo = self._remembered()
        try:
            numbers = list(map(memo.__getitem__, split_all(texts, lowercase=self.lowercase)))
        except Uncut:
            careful = split_all(texts, lowercase=self.lowercase, careful=True)
            numbers = list(map(memo.__getitem__, careful))
        words = np.array(numbers, np.int64)
        ends = np.flatnonzero(words == memo.first)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
        pairs = None
        if self.pairs:
            pairs = memo.all_pairs(words)
            pairs += self._first
            pairs[ends] = pairs[ends - 1] = memo.first
        return Spoken(memo, words, pairs, starts, ends - starts)


def _bags(spoken: Spoken) -> tuple[np.ndarray, np.ndarray]:
    """Ids int32 of every text, those of its words before those of its pairs, and how many int64 [N]."""
    ids, ends, _ = spoken.memo.arrays()
    numbers = spoken.words - spoken.memo.first
    counts = ends[numbers + 1] - ends[numbers]
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    of_words = before[spoken.starts + spoken.lengths] - before[spoken.starts]
    of_pairs = np.maximum(spoken.lengths - 1, 0) * (spoken.pairs is not None)
    lengths = np.maximum(of_words + of_pairs, 1)
    starts = np.cumsum(lengths) - lengths
    values = np.full(int(lengths.sum()), EMPTY, np.int32)
    values[_places(starts, of_words)] = ids[_places(ends[numbers], counts)]
    if spoken.pairs is not None:
        values[_places(starts + of_words, of_pairs)] = spoken.pairs[spoken.pairs != spoken.memo.first]
    return values, lengths


def _places(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Where stretches lie that start there and are so long: [5, 9], [2, 1] -> [5, 6, 9]."""
    ends = np.cumsum(counts)
    return np.repeat(starts - ends + counts, counts) + np.arange(int(ends[-1]) if len(ends) else 0)
