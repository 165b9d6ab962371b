"""A model and its encoder with the sub-words that a corpus uses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.encoding import SubwordEncoder
from understudy.errors import UsageError
from understudy.students.cutting.axes import token_table
from understudy.students.cutting.following import moved
from understudy.students.cutting.pieces import Definition, origins_of, pruned, required, vocabulary_of
from understudy.students.cutting.width import carried

CHUNK = 2000  # texts that are encoded at once


def prune_vocabulary(
    model: nn.Module, encoder: SubwordEncoder, texts: Sequence[str], *, most: int | None = None
) -> tuple[nn.Module, SubwordEncoder]:
    """A copy of a model, and its encoder, with only the sub-words that texts use; both are left alone.

    Kept are the special tokens and whatever normaliser and post-processor name, every piece of a single character
    (WordPiece: ``x`` and ``##x``; byte-level BPE: the 256 bytes), and the pieces that the texts use, the most frequent
    first, with what BPE's merges build on the way to them. So every string is still encoded; a text whose pieces are
    all kept is encoded as before, and none of the texts has more unknown pieces than before. The ids are new, in the
    old order; rows of the table, a tied head and the config follow. Where positions are counted from the padding id
    (RoBERTa, MPNet) and that moves, the table of positions begins later, so that every position keeps its row.

    Args:
        model: a transformers text model.
        encoder: what it reads; limit, columns and padding stay.
        texts: the corpus, cut to the encoder's limit.
        most: the most pieces that are kept; None: all that the texts use.

    Returns:
        The student, in the mode of ``model``, and its encoder.

    Raises:
        UsageError: no table of sub-words, a tokenizer of another kind, or a ``most`` that cannot hold what has to be
            kept.
    """
    name, table = type(model).__name__, token_table(model)
    whole: Any = model
    if table is None or not isinstance(getattr(getattr(whole, "config", None), "vocab_size", None), int):
        raise UsageError(f"a vocabulary is pruned in a text model with a table of sub-words, and {name} has none")
    definition = encoder.definition()
    vocabulary = vocabulary_of(definition)
    if max(vocabulary.values()) >= table.num_embeddings:
        raise UsageError(
            f"the encoder has ids up to {max(vocabulary.values())}, and {name} {table.num_embeddings} rows: they do "
            "not belong together"
        )
    asked = {encoder.padding_id, whole.config.pad_token_id} - {None}
    if not texts or not asked <= set(vocabulary.values()):
        wanted = "texts are wanted, there are none" if not texts else f"padding {sorted(asked)} is no token"
        raise UsageError(f"a vocabulary cannot be pruned: {wanted}")
    corpus = _Corpus(encoder, definition, {field: list(texts) for field in encoder.fields})
    changed, old = pruned(definition, corpus.fewer(most, asked))
    ids = {before: after for after, before in enumerate(old)}
    return _with_rows(model, torch.tensor(old), ids), encoder.rewritten(changed, padding_id=ids[encoder.padding_id])


@dataclass(frozen=True)
class _Corpus:
    """An encoder, and what it makes of the texts that decide what is kept."""

    encoder: SubwordEncoder
    definition: Definition
    columns: Mapping[str, list[str]]

    def encoded(self, encoder: SubwordEncoder) -> Iterator[list[np.ndarray[Any, Any]]]:
        """The ids of every row, in chunks."""
        for start in range(0, len(next(iter(self.columns.values()))), CHUNK):
            features = encoder.encode({field: column[start : start + CHUNK] for field, column in self.columns.items()})
            yield [features[i] for i in range(len(features))]

    def fewer(self, most: int | None, ids: set[int]) -> set[str]:
        """The tokens to keep: those of some ids, as many of the corpus as there is room for, no more unknowns."""
        vocabulary, building = vocabulary_of(self.definition), origins_of(self.definition)
        token_of = {i: token for token, i in vocabulary.items()}
        needed = {part for token in required(self.definition) | {token_of[i] for i in ids} for part in building(token)}
        if most is not None and most < len(needed):
            raise UsageError(
                f"a vocabulary of {most:,} would lose special tokens or single characters: this tokenizer needs at "
                f"least {len(needed):,}, of {len(vocabulary):,}"
            )
        counts = np.zeros(max(token_of) + 1, np.int64)
        for rows in self.encoded(self.encoder):
            counts += np.bincount(np.concatenate(rows), minlength=len(counts))
        used = [token_of[int(i)] for i in np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]]
        room = most
        while True:
            kept = set(needed)
            for token in used:
                more = kept | building(token)
                kept = more if room is None or len(more) <= room else kept
            kept = self._repaired(kept, building)
            if most is None or room is None or len(kept) <= most:
                return kept
            room -= len(kept) - most
            if room < len(needed):
                raise UsageError(
                    f"a vocabulary of {most:,} leaves characters of the texts without a piece: at least {len(kept):,} "
                    "are needed"
                )

    def _repaired(self, kept: set[str], building: Callable[[str], set[str]]) -> set[str]:
        """The tokens, with the pieces of every text that would have more unknowns than before."""
        unknown, token_of = _unknown(self.definition), {i: t for t, i in vocabulary_of(self.definition).items()}
        while unknown is not None:
            changed, old = pruned(self.definition, kept)
            trial, place = self.encoder.rewritten(changed, padding_id=0), old.index(unknown)
            missing: set[str] = set()
            for before, after in zip(self.encoded(self.encoder), self.encoded(trial), strict=True):
                for was, now in zip(before, after, strict=True):
                    if (now == place).sum() > (was == unknown).sum():
                        missing |= {part for i in was for part in building(token_of[int(i)])}
            if missing <= kept:
                break
            kept = kept | missing
        return kept


def _unknown(definition: Definition) -> int | None:
    """The id of the unknown piece; None where there is none."""
    model = definition["model"]
    if model["type"] == "Unigram":
        found = model.get("unk_id")
        return None if found is None else int(found)
    return None if model.get("unk_token") is None else vocabulary_of(definition).get(model["unk_token"])


def _with_rows(model: nn.Module, rows: Tensor, ids: dict[int, int]) -> nn.Module:
    """A copy of a model with some rows of its table of sub-words; ``ids``: old -> new."""
    whole: Any = model
    kinds = {
        name: tuple("vocabulary" if axis in axes else "" for axis in range(model.state_dict()[name].ndim))
        for name, axes in moved(model, vocab_size=whole.config.vocab_size + 1).items()
    }
    weights = carried(model.state_dict(), kinds, {"vocabulary": rows})
    config = copy.deepcopy(whole.config)
    config.vocab_size = len(rows)
    for key, value in list(config.to_dict().items()):
        if key.endswith("_token_id") and isinstance(value, int):
            setattr(config, key, ids.get(value))
    lost = _positions_lost(model, ids)
    if lost:
        config.max_position_embeddings -= lost
        name = next(n for n, _ in model.named_parameters() if n.endswith("position_embeddings.weight"))
        weights[name] = weights[name][lost:]
    with torch.random.fork_rng(devices=[]):
        student = type(whole)(config)
    student.to(next(model.parameters()))
    student.load_state_dict(weights)
    found: nn.Module = student.train(model.training)
    return found


def _positions_lost(model: nn.Module, ids: dict[int, int]) -> int:
    """By how many places positions move, where they are counted from the padding id."""
    tables = [m for n, m in model.named_modules() if n.endswith("position_embeddings") and isinstance(m, nn.Embedding)]
    padding = tables[0].padding_idx if len(tables) == 1 else None
    return 0 if padding is None else padding - ids[padding]
