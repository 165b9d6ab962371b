"""Rows of two texts for the small families: each text encoded alone, both kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding.features import Pairs, text_columns
from understudy.encoding.sequences import SequenceEncoder
from understudy.encoding.words import WordEncoder
from understudy.errors import ArtefactError, UsageError
from understudy.files import content_hash

FIELDS = ("sentence1", "sentence2")


class PairEncoder:
    """Both texts of a row, each with the ids that another encoder gives it.

    >>> both = PairEncoder(WordEncoder(["my", "card"]))
    >>> found = both.encode({"sentence1": ["my card"], "sentence2": ["card"]})
    >>> both.collate(found, [0])["ids"].tolist(), both.collate(found, [0])["offsets"].tolist()
    ([1, 2, 2], [0, 2, 3])

    Args:
        inner: of one column, whatever it is called there.
        fields: the two columns.
    """

    kind = "pair"

    def __init__(self, inner: WordEncoder | SequenceEncoder, *, fields: Sequence[str] = FIELDS) -> None:
        if len(set(fields)) != 2 or len(fields) != 2:
            raise UsageError(f"a pair is of two columns, got {', '.join(fields) or 'none'}")
        if len(inner.fields) != 1:
            raise UsageError(f"a pair wants an encoder of one column for each text, got {', '.join(inner.fields)}")
        self.inner, self.fields, self.size = inner, tuple(fields), inner.size

    @property
    def fingerprint(self) -> str:
        """Changes with the columns, and with what encodes a text."""
        return content_hash(self.kind, *self.fields, self.inner.fingerprint)

    def texts(self, inputs: Mapping[str, Sequence[Any]]) -> list[str]:
        """2 N texts of N rows, those of one row side by side. Raises RowError where a row holds none."""
        return list(chain.from_iterable(zip(*text_columns(inputs, self.fields), strict=True)))

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> Pairs:
        """Ids of both texts of every row. Raises RowError where a row holds no text."""
        return Pairs(self.inner.encode({self.inner.fields[0]: self.texts(inputs)}))

    def collate(self, features: Pairs, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Of bags ``ids`` int64 [M] and ``offsets`` int64 [2 N + 1], those of row i being bags 2 i and 2 i + 1.

        Of sequences ``input_ids`` and ``attention_mask`` int64 [N, 2, L], L the longest text of them.
        """
        first = 2 * np.asarray(indices, dtype=np.int64)
        found = self.inner.collate(features.texts, np.stack([first, first + 1], axis=1).ravel())
        if isinstance(self.inner, WordEncoder):
            return found
        return {name: array.reshape(-1, 2, array.shape[1]) for name, array in found.items()}

    def lengths(self, features: Pairs) -> np.ndarray:
        """int64 [N]: ids of both texts."""
        found: np.ndarray = self.inner.lengths(features.texts).reshape(-1, 2).sum(axis=1)
        return found

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the words, where there are any; the entry for a manifest."""
        inner = self.inner.save(folder)
        return {"kind": self.kind, "file": inner["file"], "fields": list(self.fields), "inner": inner}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> PairEncoder:
        """The encoder that `save` wrote."""
        inner = entry["inner"]
        kinds: dict[str, Any] = {one.kind: one for one in (WordEncoder, SequenceEncoder)}
        if inner["kind"] not in kinds:
            raise ArtefactError(f'{folder}: no encoder reads a pair of "{inner["kind"]}"; export the artefact again')
        return cls(kinds[inner["kind"]].load(folder, inner), fields=entry["fields"])
