"""Texts that are said token by token: a decoder taught by a larger one. The student is the same decoder, cut.

Plain texts, every token of which counts, prompts with completions, of which only the completions count, or
conversations, of which what the assistant says counts. A text is its own label. Nobody holds the logits of a batch:
terms make them of hidden states and heads, some positions at a time.

The twin is the same cut student, from the same start, which hears the tokens alone: plain fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.baselines import unigrams
from understudy.data.language import LAYOUT
from understudy.encoding.chat import conversation
from understudy.objectives import hard_tokens, soft_tokens
from understudy.tasks.task import Task
from understudy.tasks.text_classification import show as shown


def show(row: Mapping[str, Any]) -> dict[str, str]:
    """What a report shows of a row: its text, its prompt and what follows, or who says what, shortened."""
    if "messages" in row:
        return shown({"text": " ".join(f"{one['role']}: {one['content']}" for one in conversation(row["messages"]))})
    return shown({"text": row["text"] if "text" in row else f"{row['prompt']} {row['completion']}"})


TASK = Task(
    name="causal-lm",
    layout=LAYOUT,
    metrics=("token_loss", "perplexity", "bits_per_byte", "token_accuracy"),
    primary="token_loss",
    baselines=(unigrams,),
    families=("cut",),
    show=show,
    hard=hard_tokens,
    soft=soft_tokens,
    per="words",
)
