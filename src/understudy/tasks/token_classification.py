"""A sentence of words, a tag for each: names, dates, slots of a command. What counts are whole entities.

Tags are O, B-TYPE and I-TYPE (`understudy.tags`). Whatever a model reads of a word, its answer is one row of logits for
the word, so teacher and student may cut words in ways of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from understudy.baselines import commonest_tags, linear_tags
from understudy.data.layouts import WORDS
from understudy.encoding import AffixEncoder, TokenEncoder
from understudy.encoding.tokens import FIELD
from understudy.errors import UsageError
from understudy.objectives import hard_labels, soft_labels
from understudy.tasks.task import Task
from understudy.tasks.text_classification import length_limit, show

_MOST = 256


def show_words(row: Mapping[str, Any]) -> dict[str, str]:
    """The words of a row with blanks between, shortened at one.

    >>> show_words({"tokens": ["fly", "to", "Rome"]})
    {'text': 'fly to Rome'}
    """
    return show({"text": " ".join(row[FIELD])})


def token_encoder(
    tokenizer: Any,
    inputs: Mapping[str, Sequence[Sequence[str]]],
    *,
    positions: int,
    token_types: bool = False,
    limit: int | None = None,
    most: int = _MOST,
) -> TokenEncoder:
    """The encoder of a transformer that tags words: its tokenizer, with room for the longest training sentence.

    Args:
        tokenizer: a transformers tokenizer with a ``backend_tokenizer`` (``Loaded.tokenizer``).
        inputs: training rows; the limit is chosen from the first 20,000.
        positions: the most ids that the model can read (``Loaded.positions``).
        token_types: whether the model needs ``token_type_ids``.
        limit: a limit of one's own, instead of a chosen one; at most ``positions``.
        most: the most that is chosen.
    """
    settings: dict[str, Any] = {"token_types": token_types, "padding_id": tokenizer.pad_token_id}
    if limit is None:
        probe = TokenEncoder(tokenizer.backend_tokenizer, limit=most + 1, **settings)
        lengths = probe.lengths(probe.encode({FIELD: inputs[FIELD][:20_000]}))
        limit = length_limit(lengths, positions=positions, most=most, share=1.0)
    elif not 0 < limit <= positions:
        raise UsageError(f"a limit of {limit} ids does not fit a model that reads at most {positions}")
    return TokenEncoder(tokenizer.backend_tokenizer, limit=limit, **settings)


def affix_encoder(
    sentences: Sequence[Sequence[str]],
    *,
    words: int = 30_000,
    buckets: int = 8192,
    limit: int | None = None,
    most: int = _MOST,
) -> AffixEncoder:
    """The encoder of a small network that tags words, with room for the longest training sentence.

    Args:
        sentences: training rows.
        words: the most words in the dictionary.
        buckets: hashed ids for unknown words and for the parts of all.
        limit: a limit of one's own, in words, instead of a chosen one.
        most: the most that is chosen.
    """
    if limit is None:
        limit = length_limit([len(one) for one in sentences], positions=most, most=most, share=1.0)
    return AffixEncoder.fit(sentences, most=words, buckets=buckets, limit=limit)


def said_of_limit(encoder: TokenEncoder | AffixEncoder, inputs: Mapping[str, Sequence[Any]], unit: str) -> str:
    """What a reader must know of a limit: what it is, and how many rows lose words to it."""
    features: Any = encoder.encode(inputs)
    cut = int(features.cut.sum())
    lost = f"; {cut:,} of {len(features):,} training rows are longer, and the words behind that are O" if cut else ""
    return f"sentences are read up to {encoder.limit} {unit}{lost}"


TASK = Task(
    name="token-classification",
    layout=WORDS,
    metrics=("entity_f1", "entity_precision", "entity_recall", "tag_accuracy"),
    primary="entity_f1",
    baselines=(commonest_tags, linear_tags),
    families=("conv", "cut", "gru"),
    show=show_words,
    hard=hard_labels,
    soft=partial(soft_labels, per="words"),
    per="words",
)
