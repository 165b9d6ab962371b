"""One text, one label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from understudy.baselines import majority, tfidf_svm
from understudy.data.layouts import TEXTS
from understudy.encoding import SequenceEncoder, SubwordEncoder, WordEncoder
from understudy.errors import UsageError
from understudy.objectives import hard_labels, soft_labels
from understudy.tasks.task import Task

_SHOWN = 280  # characters of a text in the report
_MOST = 256


def show(row: Mapping[str, Any]) -> dict[str, str]:
    """The text of a row, shortened at a space; of a pair both, with a bar between them.

    >>> show({"text": "where is  my card?"})
    {'text': 'where is my card?'}
    """
    text = " | ".join(" ".join(str(value).split()) for value in row.values())
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 1].rsplit(" ", 1)[0][: _SHOWN - 1] + "…"
    return {"text": text}


def length_limit(lengths: Sequence[int] | np.ndarray, *, positions: int, most: int = _MOST, share: float = 0.99) -> int:
    """How many ids a row may have: enough for ``share`` of the rows, a multiple of 8, at most ``most``, ``positions``.

    >>> length_limit([5, 9, 12, 30], positions=512), length_limit([400], positions=512), length_limit([9], positions=12)
    (32, 256, 12)
    """
    if not len(lengths):
        raise UsageError("a length limit is chosen from the lengths of training rows, got none")
    wanted = int(np.ceil(np.quantile(np.asarray(lengths), share, method="inverted_cdf")))
    return int(min(-(-wanted // 8) * 8, most, positions))


def subword_encoder(
    tokenizer: Any,
    inputs: Mapping[str, Sequence[str]],
    *,
    positions: int,
    token_types: bool = False,
    limit: int | None = None,
    most: int = _MOST,
) -> SubwordEncoder:
    """The encoder of a student cut from a teacher: the teacher's tokenizer, cut to what the training texts need.

    Args:
        tokenizer: a transformers tokenizer with a ``backend_tokenizer`` (``Loaded.tokenizer``).
        inputs: training texts by column, one or a pair; the limit is chosen from the lengths of the first 20,000.
        positions: the most ids that the model can read (``Loaded.positions``).
        token_types: whether the model needs ``token_type_ids`` (``Loaded.encoder.token_types``).
        limit: a limit of one's own, instead of a chosen one; at most ``positions``.
        most: the most that is chosen.
    """
    settings: dict[str, Any] = {
        "fields": tuple(inputs), "token_types": token_types, "padding_id": tokenizer.pad_token_id
    }  # fmt: skip
    if limit is None:
        # One id more than the most is enough to know that a text is too long, and keeps a novel from being encoded.
        probe = SubwordEncoder(tokenizer.backend_tokenizer, limit=most + 1, **settings)
        sample = {name: list(texts[:20_000]) for name, texts in inputs.items()}
        limit = length_limit(probe.lengths(probe.encode(sample)), positions=positions, most=most)
    elif not 0 < limit <= positions:
        raise UsageError(f"a limit of {limit} ids does not fit a model that reads at most {positions}")
    return SubwordEncoder(tokenizer.backend_tokenizer, limit=limit, **settings)


def word_encoder(
    texts: Sequence[str], *, words: int = 30_000, buckets: int = 0, pairs: bool = False, characters: int = 0
) -> WordEncoder:
    """The encoder of a student that looks vectors up: the most frequent training words, and buckets for the rest."""
    return WordEncoder.fit(texts, most=words, buckets=buckets, pairs=pairs, characters=characters)


def sequence_encoder(
    texts: Sequence[str], *, words: int = 30_000, buckets: int = 0, limit: int | None = None, most: int = _MOST
) -> SequenceEncoder:
    """The encoder of a student that reads words in order, cut to what the training texts need.

    Args:
        texts: training texts; the limit is chosen from the lengths of the first 20,000.
        words: the most words in the dictionary.
        buckets: hashed ids for the others.
        limit: a limit of one's own, in words, instead of a chosen one.
        most: the most that is chosen.
    """
    found = word_encoder(texts, words=words, buckets=buckets)
    if limit is None:
        sample = found.encode({"text": list(texts[:20_000])})
        limit = length_limit(found.lengths(sample), positions=most, most=most)
    return SequenceEncoder(found, limit=limit)


TASK = Task(
    name="text-classification",
    layout=TEXTS,
    metrics=("accuracy", "macro_f1"),
    primary="accuracy",
    baselines=(majority, tfidf_svm),
    families=("conv", "cut", "gru", "ngram", "static", "transformer"),
    show=show,
    hard=hard_labels,
    soft=soft_labels,
)
