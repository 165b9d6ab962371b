"""Sentences of given words as sub-word ids: what a transformer that tags words reads.

Teacher and student may cut words into other pieces, so whatever is said of a word is said at its first piece: `places`
tells where that is, and everybody who reads logits of words takes those.
"""

from __future__ import annotations

import json
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
from understudy.ragged import NOWHERE, Ragged

FIELD = "tokens"
_MEMO = 100_000  # words remembered


@dataclass(frozen=True)
class Pieces:
    """Sub-words of N sentences.

    Attributes:
        ids: of every sub-word, special ones included; ``cut`` where a sentence lost words.
        starts: int64, for every word that there was room for the place of its first sub-word.
    """

    ids: Ragged
    starts: Ragged

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def cut(self) -> np.ndarray:
        """bool [N]: sentences whose last words were left out."""
        assert self.ids.cut is not None
        return self.ids.cut


class TokenEncoder:
    """Sub-word ids of the words of a sentence, each word cut by itself; what is beyond the limit is not read.

    A word of which the tokenizer makes nothing (a lone accent, say) is its unknown sub-word.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``; it is copied. One of bytes is made to take each word as standing behind
            a space, as words do.
        limit: the most ids a row may have, special ones included.
        token_types: whether the model wants ``token_type_ids``; they are all 0.
        padding_id: what fills short rows in a batch.
        fields: the column of words.
    """

    kind = "tokens"

    def __init__(
        self,
        tokenizer: Any,
        *,
        limit: int,
        token_types: bool = False,
        padding_id: int = 0,
        fields: Sequence[str] = (FIELD,),
    ) -> None:
        definition = json.loads(tokenizer.to_str())
        _behind_a_space(definition.get("pre_tokenizer"))
        self._tokenizer = type(tokenizer).from_str(json.dumps(definition))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if limit <= self._tokenizer.num_special_tokens_to_add(False):
            raise UsageError(f"a limit of {limit} ids leaves no room for words beside the special ones")
        self.limit, self.token_types, self.padding_id = limit, token_types, int(padding_id)
        self.fields = tuple(fields)
        self.size: int = self._tokenizer.get_vocab_size()
        self._before, self._after, self._unknown = _around(self._tokenizer)
        self._memo: dict[str, list[int]] = {}

    @property
    def fingerprint(self) -> str:
        """Changes with the tokenizer and every setting."""
        return content_hash(self.kind, self._tokenizer.to_str(), repr(sorted(self._settings().items())))

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> Pieces:
        """Sub-words of every row. Raises RowError where a row holds no list of words."""
        (column,) = columns(inputs, self.fields)
        if len(self._memo) > _MEMO:
            self._memo = {}
        room = self.limit - len(self._after)
        values, starts, lengths, counts, cut = [], [], [], [], []
        for row, words in enumerate(column):
            ids, places = list(self._before), []
            for word in sentence(row, self.fields[0], words):
                if len(ids) >= room:
                    break
                places.append(len(ids))
                ids += self._ids_of(word)
            cut.append(len(places) < len(words) or len(ids) > room)
            ids = ids[:room] + self._after
            values += ids
            starts += places
            lengths.append(len(ids))
            counts.append(len(places))
        ids_of_all = Ragged(np.array(values, np.int32), _offsets(lengths), cut=np.array(cut, bool))
        return Pieces(ids_of_all, Ragged(np.array(starts, np.int64), _offsets(counts)))

    def collate(self, features: Pieces, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``, int64 [N, L], L the longest of the rows."""
        ids, mask = padded(features.ids.take(indices), self.padding_id)
        inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        if self.token_types:
            inputs["token_type_ids"] = np.zeros(mask.shape, np.int64)
        return inputs

    def places(self, features: Pieces, indices: Sequence[int] | np.ndarray, width: int | None = None) -> np.ndarray:
        """int64 [N, W]: where each word's logits are, counted over the batch, n * L + l; -1 behind a row's last word; W
        the most words of the rows."""
        length = max(1, int(features.ids.lengths[np.asarray(indices, np.int64)].max(initial=1)))
        some = features.starts.take(indices)
        return some.holding(some.owners * length + some.values).padded(NOWHERE, width)

    def answered(self, features: Pieces) -> np.ndarray:
        """int64 [N]: words of each row that there was room for."""
        return features.starts.lengths

    def lengths(self, features: Pieces) -> np.ndarray:
        """int64 [N]: ids per row."""
        return features.ids.lengths

    def save(self, folder: Path) -> dict[str, Any]:
        """Write ``tokenizer.json``; the entry for a manifest."""
        write_bytes(folder / FILE, self._tokenizer.to_str().encode())
        return {"kind": self.kind, "file": FILE, **self._settings()}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> TokenEncoder:
        """The encoder that `save` wrote."""
        tokenizers = require("tokenizers", package="tokenizers", why="a sub-word encoder")
        path = folder / entry["file"]
        try:
            tokenizer = tokenizers.Tokenizer.from_str(path.read_bytes().decode())
        except Exception as error:  # the package raises bare Exceptions
            raise StoreError(f"cannot read the tokenizer in {path}: {error}") from error
        return cls(tokenizer, **{name: entry[name] for name in ("limit", "token_types", "padding_id", "fields")})

    def _settings(self) -> dict[str, Any]:
        return {
            "limit": self.limit, "token_types": self.token_types, "padding_id": self.padding_id,
            "fields": list(self.fields),
        }  # fmt: skip

    def _ids_of(self, word: str) -> list[int]:
        found = self._memo.get(word)
        if found is None:
            plain = word if word.isascii() else word.encode("utf-8", "replace").decode()  # no lone surrogates
            encoded = self._tokenizer.encode([plain], is_pretokenized=True, add_special_tokens=False)
            found = self._memo[word] = list(encoded.ids) or self._unknown
        return found


def sentence(row: int, column: str, words: Any) -> Sequence[str]:
    """The words of a row as they are.

    Raises:
        RowError: no list, an empty one, or one that holds something else than texts.
    """
    if not isinstance(words, list | tuple):
        raise RowError(row, column, f"wanted a list of words, got a {type(words).__name__}")
    if not words:
        raise RowError(row, column, "a sentence without a word; leave it out")
    for place, word in enumerate(words, start=1):
        if not isinstance(word, str) or not word:
            got = "an empty text" if word == "" else "nothing" if word is None else f"a {type(word).__name__}"
            raise RowError(row, column, f"word {place} is {got}, wanted a text")
    return words


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _behind_a_space(part: Any) -> None:
    """Byte-level pre-tokenizers, alone or in a sequence, told to put a space before what they are given."""
    if isinstance(part, dict):
        if part.get("type") == "ByteLevel":
            part["add_prefix_space"] = True
        for one in part.get("pretokenizers", ()):
            _behind_a_space(one)


def _around(tokenizer: Any) -> tuple[list[int], list[int], list[int]]:
    """Special ids before and behind a sentence, and what stands for a word of which nothing is made."""
    found = tokenizer.encode(["a"], is_pretokenized=True)
    marks = [i for i, special in enumerate(found.special_tokens_mask) if not special]
    first, last = (marks[0], marks[-1] + 1) if marks else (len(found.ids), len(found.ids))
    unknown = getattr(tokenizer.model, "unk_token", None)
    number = tokenizer.token_to_id(unknown) if unknown else getattr(tokenizer.model, "unk_id", None)
    return list(found.ids[:first]), list(found.ids[last:]), [0 if number is None else int(number)]
