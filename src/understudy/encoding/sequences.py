"""The words of a text in order, one id a word: what a small network that sees order reads instead of sub-words.

Splitting, dictionary, hashing and their memory are `WordEncoder`'s; only the layout is another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding.features import padded
from understudy.encoding.words import WordEncoder
from understudy.errors import UsageError
from understudy.files import content_hash
from understudy.ragged import Ragged

PADDING = 0
FIRST = 2  # the id of the first word; 1 is the one id of a text in which nothing was found


class SequenceEncoder:
    """Ids in the order of the text: 0 = padding, 1 = empty text, 2..W + 1 = words, then hashed buckets.

    >>> words = WordEncoder(["my", "card"], buckets=10)
    >>> SequenceEncoder(words, limit=3).encode({"text": ["My card, my card", ""]}).values.tolist()
    [2, 3, 5, 1]

    Args:
        words: the dictionary, its buckets for unknown words and its columns; one id a word, so no pairs and no
            characters. Without buckets unknown words are left out, and what stood beside them moves together.
        limit: the most ids a row may have; the rest of the text is not read.
    """

    kind = "sequence"

    def __init__(self, words: WordEncoder, *, limit: int) -> None:
        if words.pairs or words.characters:
            raise UsageError("a sequence has one id a word: its WordEncoder wants pairs=False and characters=0")
        if limit < 1:
            raise UsageError(f"a sequence has at least 1 id, got a limit of {limit}")
        self._bags, self.limit = words, limit
        self.words, self.buckets, self.fields = words.words, words.buckets, words.fields
        self.size = words.size + 1

    @property
    def fingerprint(self) -> str:
        """Changes with the words, their order and every setting."""
        return content_hash(self.kind, str(self.limit), self._bags.fingerprint)

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> Ragged:
        """Ids of every row, 1 to ``limit`` each. Raises RowError where a row holds no text."""
        found = self._bags.encode(inputs)  # there an empty text is 0 and the first word 1
        return Ragged(found.values + np.int32(1), found.offsets).first(self.limit)

    def collate(self, features: Ragged, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """``input_ids`` and ``attention_mask`` int64 [N, L] of some rows, L the longest of them."""
        ids, mask = padded(features.take(indices), PADDING)
        return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}

    def lengths(self, features: Ragged) -> np.ndarray:
        """int64 [N]: ids per row."""
        return features.lengths

    def save(self, folder: Path) -> dict[str, Any]:
        """Write ``words.txt``; the entry for a manifest."""
        return {**self._bags.save(folder), "kind": self.kind, "limit": self.limit}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> SequenceEncoder:
        """The encoder that `save` wrote."""
        return cls(WordEncoder.load(folder, entry), limit=entry["limit"])
