"""Sub-word ids from a ``tokenizers`` tokenizer, as transformers wants them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding.features import padded, text_columns
from understudy.errors import StoreError, UsageError
from understudy.extras import require
from understudy.files import content_hash, write_bytes
from understudy.ragged import Ragged

FILE = "tokenizer.json"
_PADDING = ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<|endoftext|>")


class SubwordEncoder:
    """Sub-word ids of one text column, or of a pair of them, cut to a limit and without padding.

    Args:
        tokenizer: a ``tokenizers.Tokenizer`` (``transformers_tokenizer.backend_tokenizer``); it is copied.
        limit: the most ids a row may have, special ones included.
        fields: one column, or two that are encoded as a pair.
        token_types: whether the model wants ``token_type_ids``.
        padding_id: what fills short rows in a batch; looked up in the tokenizer unless given.
    """

    kind = "subwords"

    def __init__(
        self,
        tokenizer: Any,
        *,
        limit: int,
        fields: Sequence[str] = ("text",),
        token_types: bool = True,
        padding_id: int | None = None,
    ) -> None:
        if len(fields) not in (1, 2):
            raise UsageError(f"a tokenizer reads one column or a pair of columns, got {len(fields)}: {list(fields)}")
        self._tokenizer = type(tokenizer).from_str(tokenizer.to_str())
        if padding_id is None:
            known = [self._tokenizer.token_to_id(token) for token in _PADDING]
            padding_id = (self._tokenizer.padding or {}).get("pad_id", next((i for i in known if i is not None), 0))
        self._tokenizer.no_padding()
        if limit <= self._tokenizer.num_special_tokens_to_add(len(fields) == 2):
            raise UsageError(f"a limit of {limit} ids leaves no room for text beside the special ones")
        self._tokenizer.enable_truncation(limit)
        self.limit, self.fields, self.token_types, self.padding_id = limit, tuple(fields), token_types, int(padding_id)
        self.size: int = self._tokenizer.get_vocab_size()

    @property
    def fingerprint(self) -> str:
        """Changes with the tokenizer and every setting."""
        return content_hash(self._tokenizer.to_str(), repr(sorted(self._settings().items())))

    @property
    def tokenizer(self) -> Any:
        """Its own ``tokenizers.Tokenizer``: for reading."""
        return self._tokenizer

    def encode(self, inputs: Mapping[str, Sequence[Any]], *, parallel: bool = False) -> Ragged:
        """Ids of every row. Raises RowError where a row holds no text.

        ``parallel`` lets the tokenizer use every core; without it, a declared number of threads stays true.
        """
        rows = self._rows(inputs)
        tokenizer = self._tokenizer
        if parallel:
            found = tokenizer.encode_batch_fast(rows)
        elif len(self.fields) == 1:
            found = map(tokenizer.encode, rows)
        else:
            found = (tokenizer.encode(*row) for row in rows)
        values, types, lengths, cut = [], [], [], []
        for encoding in found:
            ids = encoding.ids
            values.append(np.array(ids, np.int32))
            lengths.append(len(ids))
            cut.append(len(ids) >= self.limit and bool(encoding.overflowing))
            if len(self.fields) == 2:
                types.append(np.array(encoding.type_ids, np.int8))
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        flat = np.concatenate(values) if values else np.zeros(0, np.int32)
        return Ragged(flat, offsets, np.concatenate(types) if types else None, np.array(cut, bool))

    def collate(self, features: Ragged, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``, int64 [N, L], L the longest of the rows."""
        some = features.take(indices)
        # At least one column: a tokenizer without special ids makes empty rows of empty texts.
        ids, mask = padded(some, self.padding_id)
        inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        if self.token_types:
            inputs["token_type_ids"] = np.zeros(mask.shape, np.int64)
            if some.types is not None:
                inputs["token_type_ids"][mask] = some.types
        return inputs

    def lengths(self, features: Ragged) -> np.ndarray:
        """int64 [N]: ids per row."""
        return features.lengths

    def definition(self) -> dict[str, Any]:
        """The content of its tokenizer.json, a copy."""
        found: dict[str, Any] = json.loads(self._tokenizer.to_str())
        return found

    def rewritten(self, definition: Mapping[str, Any], *, padding_id: int) -> SubwordEncoder:
        """The same limit, columns and token types around another tokenizer.json.

        Raises:
            UsageError: a tokenizer.json that cannot be read.
        """
        try:
            tokenizer = type(self._tokenizer).from_str(json.dumps(definition))
        except Exception as error:  # the package raises bare Exceptions
            raise UsageError(f"the rewritten tokenizer cannot be read: {error}") from error
        return SubwordEncoder(tokenizer, **{**self._settings(), "padding_id": padding_id})

    def save(self, folder: Path) -> dict[str, Any]:
        """Write ``tokenizer.json``; the entry for a manifest."""
        write_bytes(folder / FILE, self._tokenizer.to_str().encode())
        return {"kind": self.kind, "file": FILE, **self._settings()}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> SubwordEncoder:
        """The encoder that `save` wrote."""
        tokenizers = require("tokenizers", package="tokenizers", why="a sub-word encoder")
        path = folder / entry["file"]
        try:
            tokenizer = tokenizers.Tokenizer.from_str(path.read_bytes().decode())
        except Exception as error:  # the package raises bare Exceptions
            raise StoreError(f"cannot read the tokenizer in {path}: {error}") from error
        return cls(tokenizer, **{name: entry[name] for name in ("limit", "fields", "token_types", "padding_id")})

    def _settings(self) -> dict[str, Any]:
        return {
            "limit": self.limit, "fields": list(self.fields), "token_types": self.token_types,
            "padding_id": self.padding_id,
        }  # fmt: skip

    def _rows(self, inputs: Mapping[str, Sequence[Any]]) -> list[Any]:
        texts = [list(map(_sayable, column)) for column in text_columns(inputs, self.fields)]
        return texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))


def _sayable(value: str) -> str:
    """The text, with lone surrogates (which the tokenizer cannot take) replaced."""
    if value.isascii():
        return value
    try:
        value.encode()
        return value
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode()
