"""Words, pairs of words and character n-grams as ids: the whole tokenizer of a static student.

A sub-word tokenizer alone costs more than the whole budget of a static student, so this one is a regular expression
and a dictionary. What is not in the dictionary is hashed with CRC-32, which is the same on every machine.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from understudy.encoding.features import Ragged, columns, not_text
from understudy.errors import StoreError, UsageError
from understudy.files import content_hash, write_bytes

FILE = "words.txt"
EMPTY = 0  # the id of a row in which nothing was found
_MEMO = 200_000  # words remembered; a server that meets endless new words must not grow without end
_CHUNK = 8192  # rows whose ids are held as Python integers at a time
_MIX = 0x9E3779B1  # odd, so that multiplying by it loses nothing modulo 2^32: "a b" and "b a" are different pairs
# Pieces of at most 64 letters keep one endless "word" (base64, say) from costing more than its length.
_split = re.compile(r"\w{1,64}(?:'\w{1,16})?|[^\w\s]").findall


def split(text: str, *, lowercase: bool = True) -> list[str]:
    """The words and punctuation marks of a text, in order.

    >>> split("Where's my card?")
    ["where's", 'my', 'card', '?']
    """
    if not text.isascii():  # ligatures, full-width letters, combining accents, typographic apostrophes
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
    return _split(text.lower() if lowercase else text)


class WordEncoder:
    """A bag of ids for every text: 0 = empty, 1..W = words, then hashed buckets.

    Args:
        words: the dictionary; word i has id i + 1.
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
        known = {word: i for i, word in enumerate(self.words, 1)}
        self._ids = _Ids(known, self._first, buckets, characters)
        self._hashes = _Hashes()

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
        """An encoder with the ``most`` frequent words of some texts; equally frequent ones in alphabetical order."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(split(text, lowercase=lowercase))
        kept = sorted(counts, key=lambda word: (-counts[word], word))[:most]
        return cls(kept, buckets=buckets, pairs=pairs, characters=characters, lowercase=lowercase, fields=fields)

    @property
    def fingerprint(self) -> str:
        """Changes with the words, their order and every setting."""
        return content_hash(repr(sorted(self._settings().items())), *self.words)

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> Ragged:
        """Ids of every row, at least one each. Raises RowError where a row holds no text."""
        texts = self._texts(inputs)
        chunks, ends, total = [], [np.zeros(1, np.int64)], 0
        for start in range(0, len(texts), _CHUNK):
            values, lengths = self._chunk(texts[start : start + _CHUNK], start)
            chunks.append(np.array(values, np.int32))
            ends.append(total + np.array(lengths, np.int64))
            total += len(values)
        return Ragged(np.concatenate(chunks) if chunks else np.zeros(0, np.int32), np.concatenate(ends))

    def collate(self, features: Ragged, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """``ids`` int64 [M] and ``offsets`` int64 [N + 1] of some rows."""
        some = features.take(indices)
        return {"ids": some.values.astype(np.int64), "offsets": some.offsets}

    def lengths(self, features: Ragged) -> np.ndarray:
        """int64 [N]: ids per row."""
        return features.lengths

    def save(self, folder: Path) -> dict[str, Any]:
        """Write ``words.txt``; the entry for a manifest."""
        write_bytes(folder / FILE, "\n".join(self.words).encode("utf-8", "surrogatepass"))
        return {"kind": self.kind, "file": FILE, **self._settings()}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> WordEncoder:
        """The encoder that `save` wrote."""
        path = folder / entry["file"]
        try:
            text = path.read_bytes().decode("utf-8", "surrogatepass")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"cannot read the words in {path}: {error}") from error
        names = ("buckets", "pairs", "characters", "lowercase", "fields")
        return cls(text.split("\n") if text else (), **{name: entry[name] for name in names})

    def _settings(self) -> dict[str, Any]:
        return {
            "buckets": self.buckets, "pairs": self.pairs, "characters": self.characters, "lowercase": self.lowercase,
            "fields": list(self.fields),
        }  # fmt: skip

    def _texts(self, inputs: Mapping[str, Sequence[Any]]) -> Sequence[Any]:
        found = columns(inputs, self.fields)
        if len(found) == 1:
            return found[0]
        for field, column in zip(self.fields, found, strict=True):
            for row, value in enumerate(column):
                if not isinstance(value, str):
                    raise not_text(row, field, value)
        return [" ".join(row) for row in zip(*found, strict=True)]

    def _chunk(self, texts: Sequence[Any], start: int) -> tuple[list[int], list[int]]:
        """Ids of some texts in one list, and where each text ends in it."""
        values: list[int] = []
        ends: list[int] = []
        lowercase, pairs, characters = self.lowercase, self.pairs, self.characters
        id_of, hash_of = self._ids.__getitem__, self._hashes.__getitem__
        first, buckets = self._first, self.buckets
        end = 0
        for row, text in enumerate(texts, start):
            if not isinstance(text, str):
                raise not_text(row, self.fields[0], text)
            words = split(text, lowercase=lowercase)
            if characters or not buckets:  # several ids to a word, or none
                values.extend(chain.from_iterable(map(id_of, words)))
            else:
                values.extend(map(id_of, words))
            if pairs:
                values.extend([first + (a * _MIX + b & 0xFFFFFFFF) % buckets for a, b in pairwise(map(hash_of, words))])
            if len(values) == end:
                values.append(EMPTY)
            end = len(values)
            ends.append(end)
        return values, ends


class _Ids(dict[str, Any]):
    """Word -> its id (words only), or all ids of the word and its n-grams, computed when first met."""

    def __init__(self, known: Mapping[str, int], first: int, buckets: int, characters: int) -> None:
        super().__init__()
        self.known, self.first, self.buckets, self.characters = known, first, buckets, characters

    def __missing__(self, word: str) -> Any:
        if len(self) >= _MEMO:
            self.clear()
        ids = [self.known[word]] if word in self.known else [self.bucket("w:" + word)] if self.buckets else []
        if n := self.characters:
            wrapped = f"<{word}>"
            ids += [self.bucket("c:" + wrapped[i : i + n]) for i in range(max(1, len(wrapped) - n + 1))]
        self[word] = found = tuple(ids) if n or not self.buckets else ids[0]
        return found

    def bucket(self, text: str) -> int:
        return self.first + crc32(text.encode("utf-8", "surrogatepass")) % self.buckets


class _Hashes(dict[str, int]):
    """Word -> CRC-32 of its UTF-8 bytes, computed when first met."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MEMO:
            self.clear()
        self[word] = found = crc32(word.encode("utf-8", "surrogatepass"))
        return found
