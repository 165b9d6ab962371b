"""Sub-word ids of texts of which some are hidden: what a masked language model reads, and what it has to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding.features import text_columns
from understudy.encoding.subwords import FILE, SubwordEncoder
from understudy.errors import UsageError
from understudy.files import content_hash
from understudy.ragged import Ragged

SHARE, BY_MASK, BY_ANOTHER = 0.15, 0.8, 0.1
"""Of a text's tokens those that are to be said; of these those that the mask hides, and that another replaces."""
FIXED = "fixed"
NOWHERE = -1
_BLOCK = 128  # places whose logits are looked at together
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Maskable:
    """Texts as sub-words, before any is hidden.

    Attributes:
        ids: of every sub-word, special ones included.
        keys: content keys of the rows (`data.content_key`), which decide what is hidden.
    """

    ids: Ragged
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def cut(self) -> Array | None:
        """bool [N]: texts that lost their ends."""
        return self.ids.cut


class MaskedEncoder:
    """Sub-word ids of one text column, 15 % of them hidden, as BERT hides them.

    What is hidden is a function of (seed, content key, epoch) and of nothing else: a training that goes on hides what
    it would have hidden. Without an epoch it is a function of (seed, content key): validation and test are always
    asked the same. Special tokens, unknown ones among them, are never hidden; of any other text at least one token is.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``; it is copied.
        limit: the most ids a row may have, special ones included.
        mask_id: what hides a token.
        special_ids: that are neither hidden nor put in the place of another, ``mask_id`` among them.
        seed: of what is hidden.
        token_types: whether the model wants ``token_type_ids``; they are all 0.
        padding_id: what fills short rows in a batch.
        fields: the column.

    Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1; new masks in every epoch: Liu et al. 2019, arXiv
    1907.11692, section 4.1.
    """

    kind = "masked"
    most_rows = 32
    """Rows whose logits over the whole vocabulary are held at once."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        limit: int,
        mask_id: int,
        special_ids: Sequence[int],
        seed: int = 0,
        token_types: bool = False,
        padding_id: int = 0,
        fields: Sequence[str] = ("text",),
    ) -> None:
        if len(fields) != 1:
            raise UsageError(f"a masked language model reads one column, got {list(fields)}")
        self._inner = SubwordEncoder(
            tokenizer, limit=limit, fields=fields, token_types=token_types, padding_id=padding_id
        )
        self.limit, self.token_types, self.padding_id = limit, token_types, self._inner.padding_id
        self.fields, self.size = self._inner.fields, self._inner.size
        self.mask_id, self.seed = int(mask_id), int(seed)
        self.special_ids = tuple(sorted({int(one) for one in special_ids} | {self.mask_id}))
        self._others = np.setdiff1d(np.arange(self.size), self.special_ids).astype(np.int32)

    @property
    def fingerprint(self) -> str:
        """Changes with the tokenizer and every setting, the seed among them."""
        return content_hash(self.kind, self._inner.fingerprint, repr(sorted(self._settings().items())))

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> Maskable:
        """Ids and keys of every row. Raises RowError where a row holds no text."""
        (texts,) = text_columns(inputs, self.fields)
        name = self.fields[0].encode()
        keys = tuple(content_hash(name, b"str", text.encode("utf-8", "surrogatepass")) for text in texts)
        return Maskable(self._inner.encode(inputs), keys)

    def masked(
        self, features: Maskable, indices: Sequence[int] | Array, *, epoch: int | None = None
    ) -> tuple[dict[str, Array], Array]:
        """The inputs of a model, and what it is to say.

        Args:
            features: of all rows.
            indices: [N] the rows that are wanted.
            epoch: of a training; None: what is always hidden of these rows.

        Returns:
            ``input_ids``, ``attention_mask``, perhaps ``token_type_ids`` int64 [N, L], ``places`` int64 [N, P], where
            something is to be said, 0 behind a row's last; and the ids that were there, int64 [N, P], -1 behind it.
        """
        rows = np.asarray(indices, np.int64)
        inputs = self._inner.collate(features.ids, rows)
        found = [self._hidden(features, int(row), epoch) for row in rows]
        width = max(1, max((len(places) for places, _ in found), default=1))
        places, said = np.zeros((len(rows), width), np.int64), np.full((len(rows), width), NOWHERE, np.int64)
        for i, (where, seen) in enumerate(found):
            places[i, : len(where)] = where
            said[i, : len(where)] = inputs["input_ids"][i, where]
            inputs["input_ids"][i, where] = seen
        return {**inputs, "places": places}, said

    def collate(self, features: Maskable, indices: Sequence[int] | Array) -> dict[str, Array]:
        """The inputs of `masked`, with what is always hidden of these rows."""
        return self.masked(features, indices)[0]

    def asked(self, features: Maskable, indices: Sequence[int] | Array) -> tuple[dict[str, Array], list[Array]]:
        """The rows as they are, ``places`` being those of the masks that their texts bring; and these places by row."""
        inputs = self._inner.collate(features.ids, indices)
        found = [np.flatnonzero(features.ids[int(row)] == self.mask_id) for row in indices]
        places = Ragged.of(found, like=np.zeros(0, np.int64)).padded(0).astype(np.int64)
        return {**inputs, "places": places}, found

    def reduced(self, features: Maskable, indices: Sequence[int] | Array, logits: Array) -> Array:
        """What is kept of logits [N, P, V] of rows as `collate` gives them: `weighed` of each, float32 [N, 3]."""
        return weighed(logits, self.masked(features, indices)[1])

    def token(self, number: int) -> str:
        """A sub-word as it is written, ``##`` before the rest of a word where the tokenizer puts it there."""
        return str(self._inner.tokenizer.id_to_token(number))

    def lengths(self, features: Maskable) -> Array:
        """int64 [N]: ids per row."""
        return features.ids.lengths

    def counts(self, features: Maskable) -> Array:
        """int64 [V]: how often each sub-word that can be hidden occurs."""
        values = features.ids.values
        return np.bincount(values[self._plain(values)], minlength=self.size).astype(np.int64)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write ``tokenizer.json``; the entry for a manifest."""
        self._inner.save(folder)
        return {"kind": self.kind, "file": FILE, **self._settings()}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> MaskedEncoder:
        """The encoder that `save` wrote."""
        inner = SubwordEncoder.load(folder, entry)
        names = ("limit", "mask_id", "special_ids", "seed", "token_types", "padding_id", "fields")
        return cls(inner.tokenizer, **{name: entry[name] for name in names})

    def with_limit(self, limit: int) -> MaskedEncoder:
        """The same with room for so many ids."""
        return MaskedEncoder(self._inner.tokenizer, **{**self._settings(), "limit": limit})

    def _settings(self) -> dict[str, Any]:
        return {
            "limit": self.limit, "mask_id": self.mask_id, "special_ids": list(self.special_ids), "seed": self.seed,
            "token_types": self.token_types, "padding_id": self.padding_id, "fields": list(self.fields),
        }  # fmt: skip

    def _plain(self, ids: Array) -> Array:
        return ~np.isin(ids, self.special_ids)

    def _hidden(self, features: Maskable, row: int, epoch: int | None) -> tuple[Array, Array]:
        """Where something is to be said of a row, rising, and what stands there instead."""
        ids = features.ids[row]
        there = np.flatnonzero(self._plain(ids))
        when = FIXED if epoch is None else str(epoch)
        draw = np.random.default_rng(int(content_hash(str(self.seed), when, features.keys[row]), 16)).random
        count = min(len(there), max(1, round(SHARE * len(there))))
        places = np.sort(there[np.argsort(draw(len(there)), kind="stable")[:count]])
        how, another = draw(count), self._others[(draw(count) * len(self._others)).astype(np.int64)]
        kept = np.where(how < BY_MASK + BY_ANOTHER, another, ids[places])
        return places, np.where(how < BY_MASK, self.mask_id, kept)


def weighed(logits: Array, said: Array) -> Array:
    """float32 [N, 3]: of each row how many tokens were to be said, their negative log-likelihood in nats, and how many
    of them are the likeliest.

    >>> weighed(np.zeros((1, 2, 4), np.float32), np.array([[0, -1]])).tolist()
    [[1.0, 1.3862943649291992, 1.0]]

    Args:
        logits: [N, P, V].
        said: int64 [N, P], the right ones, -1 behind a row's last.
    """
    owners, place = np.nonzero(said >= 0)
    found = np.zeros((len(said), 3), np.float64)
    for start in range(0, len(owners), _BLOCK):
        own, where = owners[start : start + _BLOCK], place[start : start + _BLOCK]
        some, right = logits[own, where].astype(np.float32), said[own, where]
        top = some.max(axis=1)
        likely = some[np.arange(len(some)), right]
        loss = np.log(np.exp(some - top[:, None]).sum(axis=1, dtype=np.float64)) + (top - likely)
        np.add.at(found, own, np.stack([np.ones(len(some)), loss, some.argmax(axis=1) == right], axis=1))
    return found.astype(np.float32)
