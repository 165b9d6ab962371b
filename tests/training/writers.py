"""A decoder that writes, its rows, and what lets it write: the same in every process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.decoders import decoder, tokenizer_of
from understudy.data import Examples
from understudy.data.corpus import own
from understudy.data.feed import Feed
from understudy.encoding import CausalEncoder
from understudy.students import CausalLM
from understudy.training import Rollouts

TEXTS = [f"the {a} {b} the {c}" for a in ("cat", "dog", "old man") for b in ("sees", "has") for c in ("sea", "boat é")]


def encoder_of(tokenizer: Any, *fields: str) -> CausalEncoder:
    return CausalEncoder(tokenizer.backend_tokenizer, limit=40, start=[0], end_id=0, fields=fields or ("text",))


def feed_of(encoder: CausalEncoder, inputs: dict[str, list[str]]) -> Feed:
    rows = Examples.of(inputs, own(len(next(iter(inputs.values())))))
    return Feed(rows, {"student": encoder, "teacher": encoder})


def student_of(tokenizer: Any, *, kind: str = "gpt2", seed: int = 0, layers: int = 1) -> CausalLM:
    return CausalLM(decoder(kind, len(tokenizer), layers=layers, seed=seed, width=16))


def writer() -> tuple[Callable[[int], CausalLM], Feed, Rollouts]:
    """Seed -> decoder, rows, and half of the batches."""
    tokenizer = tokenizer_of(TEXTS)
    encoder = encoder_of(tokenizer)
    rollouts = Rollouts(encoder, 0.5, longest=5, seed=2)
    return lambda seed: student_of(tokenizer, seed=seed), feed_of(encoder, {"text": TEXTS}), rollouts
