"""What a masked language model says in the place of a word: the ``fill`` of `text_views.masked_words`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.data.text_views import Fill
from understudy.encoding import SubwordEncoder
from understudy.errors import UsageError

LIMIT = 256
"""Tokens of a text that the model reads; a hole beyond them is not filled."""
_BEGINS = ("Ġ", "▁")  # what marks the beginning of a word in byte-level BPE and in SentencePiece


def masked_language_model(model: nn.Module, tokenizer: Any, *, k: int = 10, tokens: int = 4096) -> Fill:
    """A ``fill`` that asks a masked language model for the ``k`` likeliest whole words in each hole.

    All holes of a text are open at once. Only tokens that are words by themselves are answered: letters and digits,
    no continuation, no punctuation, nothing special. Texts of one length share a batch, and the vocabulary is scored at
    the holes only. Eval mode, no gradient; the model's mode is put back. The answer is a function of the text, but for
    words whose scores are equal to the last bit, where the shape of a batch may decide.

    Args:
        model: a transformers model with a masked language model's head (``AutoModelForMaskedLM``).
        tokenizer: its fast tokenizer.
        k: words for each hole, at least 1; TinyBERT takes 15.
        tokens: of a batch, padding included.

    Raises:
        UsageError: a tokenizer without a mask token, one that is not fast, or impossible numbers.

    Source: X. Jiao et al., TinyBERT, arXiv 1909.10351, algorithm 1.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or getattr(tokenizer, "mask_token", None) is None:
        raise UsageError(f"a fast tokenizer with a mask token is wanted, got {type(tokenizer).__name__}")
    words = _whole_words(tokenizer)
    if k < 1 or tokens < 1 or not any(words):
        raise UsageError(f"k and tokens are at least 1 and some tokens are words; got k={k} and tokens={tokens}")
    limit = min(LIMIT, int(tokenizer.model_max_length))
    encoder = SubwordEncoder(backend, limit=limit, token_types=False, padding_id=tokenizer.pad_token_id or 0)
    return partial(_fill, model, encoder, tokenizer.mask_token, tokenizer.mask_token_id, words, k, tokens)


def _fill(
    model: nn.Module,
    encoder: SubwordEncoder,
    mask: str,
    mask_id: int,
    words: Sequence[str],
    k: int,
    tokens: int,
    asked: Sequence[tuple[str, ...]],
) -> list[list[list[str]]]:
    # A text that happens to name the mask token must not open a hole of its own.
    rows = encoder.encode({"text": [mask.join(piece.replace(mask, " ") for piece in pieces) for pieces in asked]})
    allowed = torch.tensor([bool(word) for word in words])
    answers: list[list[list[str]]] = [[[] for _ in pieces[1:]] for pieces in asked]
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in _batches(rows.lengths, tokens):
                inputs = {name: torch.from_numpy(array) for name, array in encoder.collate(rows, batch).items()}
                where = inputs["input_ids"] == mask_id
                if not where.any():
                    continue
                scores = _scores(model, {name: array.to(device) for name, array in inputs.items()}, where.to(device))
                best = _best(scores.float().cpu(), allowed, k)
                for row, hole, ids in zip(where.nonzero()[:, 0].tolist(), _ranks(where), best.tolist(), strict=True):
                    answers[int(batch[row])][hole] = [words[i] for i in ids]
    finally:
        model.train(training)
    return answers


def _batches(lengths: np.ndarray[Any, Any], tokens: int) -> Iterator[np.ndarray[Any, Any]]:
    """Rows of similar length, the shortest first, as many as make ``tokens`` when padded, at least one."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= tokens:
            end += 1
        yield order[start:end]
        start = end


def _scores(model: nn.Module, inputs: dict[str, Tensor], where: Tensor) -> Tensor:
    """Logits at some positions, [M, V]."""
    with _only(model, where):
        logits: Tensor = model(**inputs).logits
    return logits if logits.dim() == 2 else logits[where]


@contextmanager
def _only(model: Any, where: Tensor) -> Iterator[None]:
    """The output layer is given some positions only: for a short text it costs as much as all the other layers."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(
        lambda _, given: (given[0][where], *given[1:]) if given[0].shape[:-1] == where.shape else None
    )
    try:
        yield
    finally:
        handle.remove()


def _best(scores: Tensor, allowed: Tensor, k: int) -> Tensor:
    """Ids of the likeliest words, [M, k]; an output wider than the vocabulary has no words there."""
    wide = torch.zeros(scores.shape[1], dtype=torch.bool)
    wide[: len(allowed)] = allowed[: scores.shape[1]]
    return scores.masked_fill(~wide, -torch.inf).topk(min(k, int(wide.sum()))).indices


def _ranks(where: Tensor) -> list[int]:
    """0, 1, ... for the holes of each row."""
    return [int(rank) for row in where for rank in range(int(row.sum()))]


def _whole_words(tokenizer: Any) -> list[str]:
    """What each token reads as where it is a word by itself, else nothing, by id."""
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
    marks = [mark for mark in _BEGINS if any(token.startswith(mark) for token in tokens)]
    special = set(tokenizer.all_special_ids)
    words = []
    for i, token in enumerate(tokens):
        begins = token.startswith(marks[0]) if marks else not token.startswith("##")
        word = tokenizer.convert_tokens_to_string([token]).strip() if begins and i not in special else ""
        words.append(word if word.isalnum() else "")
    return words
