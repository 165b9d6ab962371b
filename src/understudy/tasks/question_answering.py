"""A question and a text in which its answer stands, or does not: what is learnt are the answer's first and last word.

Start and end are two distributions over the words of a text (`understudy.passages`), so teacher and student may cut
words in ways of their own, and read a long text in windows of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from understudy.baselines import nearest_words, opening_words
from understudy.data.layouts import QUESTIONS
from understudy.encoding import PassageEncoder
from understudy.errors import UsageError
from understudy.objectives import hard_labels, soft_labels
from understudy.tasks.task import Task
from understudy.tasks.text_classification import length_limit, show

_MOST, _LEAST = 384, 32  # sub-words of a window


def show_question(row: Mapping[str, Any]) -> dict[str, str]:
    """The question of a row.

    >>> show_question({"question": "who?", "context": "Ann Lee built it."})
    {'text': 'who?'}
    """
    return show({"text": row["question"]})


def passage_encoder(
    tokenizer: Any,
    inputs: Mapping[str, Sequence[str]],
    *,
    positions: int,
    unanswerable: bool,
    token_types: bool = False,
    limit: int | None = None,
    most: int = _MOST,
) -> PassageEncoder:
    """The encoder of a transformer that answers questions: its tokenizer, and windows for nearly all training texts.

    Args:
        tokenizer: a transformers tokenizer with a ``backend_tokenizer`` (``Loaded.tokenizer``).
        inputs: training rows; the limit is chosen from the first 20,000.
        positions: the most ids that the model can read (``Loaded.positions``).
        unanswerable: whether a text may have no answer.
        token_types: whether the model needs ``token_type_ids``.
        limit: a limit of one's own, instead of a chosen one; at most ``positions``.
        most: the most that is chosen.
    """
    settings: dict[str, Any] = {
        "token_types": token_types, "padding_id": tokenizer.pad_token_id, "unanswerable": unanswerable
    }  # fmt: skip
    if limit is None:
        probe = PassageEncoder(tokenizer.backend_tokenizer, limit=1 << 20, **settings)
        some = {name: inputs[name][:20_000] for name in probe.fields}
        limit = length_limit(probe.lengths(probe.encode(some)), positions=positions, most=most, share=0.99)
        limit = max(limit, min(_LEAST, positions))
    elif not 0 < limit <= positions:
        raise UsageError(f"a limit of {limit} ids does not fit a model that reads at most {positions}")
    return PassageEncoder(tokenizer.backend_tokenizer, limit=limit, **settings)


def said_of_windows(encoder: PassageEncoder, inputs: Mapping[str, Sequence[Any]]) -> str:
    """What a reader must know of windows: how long they are, and how many rows need several."""
    features = encoder.encode(inputs)
    several = int((features.windows[1:] - features.windows[:-1] > 1).sum())
    more = f", in windows that share {encoder.overlap}: {several:,} of {len(features):,} training rows have several"
    cut = int(features.cut.sum())
    lost = f"; {cut:,} questions are longer than half of that and lose their end" if cut else ""
    return f"questions and texts are read {encoder.limit} sub-word tokens at a time{more if several else ''}{lost}"


TASK = Task(
    name="question-answering",
    layout=QUESTIONS,
    metrics=("span_f1", "span_em"),
    primary="span_f1",
    baselines=(opening_words, nearest_words),
    families=("cut",),
    show=show_question,
    hard=hard_labels,
    soft=partial(soft_labels, per="ends"),
    per="ends",
)
