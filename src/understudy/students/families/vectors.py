"""Where a static student's table starts: the teacher's own output for each word, reduced by principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from understudy.errors import UsageError

LONGEST = 32
"""Tokens of one word that the teacher reads; what is longer is not a word."""


def static_vectors(
    model: nn.Module,
    tokenizer: Any,
    words: Sequence[str],
    *,
    dimensions: int = 256,
    batch_size: int = 256,
) -> NDArray[np.float32]:
    """What the teacher says of each word alone, fp32 [W, dimensions]: `word_outputs`, then `principal_components`.

    A word without tokens of its own (a control character) gets zeros.

    Args:
        model: a transformers model with or without a head.
        tokenizer: its fast tokenizer (transformers or ``tokenizers.Tokenizer``).
        words: W words.
        dimensions: width of the vectors; beyond what the teacher and W carry they are filled with zeros.
        batch_size: words per forward.

    Raises:
        UsageError: no words, or a tokenizer that is not a fast one.
    """
    if dimensions < 1:
        raise UsageError(f"static_vectors wants at least 1 dimension, got {dimensions}")
    vectors, spoken = word_outputs(model, tokenizer, words, batch_size=batch_size)
    reduced = np.zeros((len(words), dimensions), dtype=np.float32)
    if spoken.any():
        reduced[spoken] = principal_components(vectors[spoken], dimensions)
    return reduced


def word_outputs(
    model: nn.Module, tokenizer: Any, words: Sequence[str], *, batch_size: int = 256
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What the teacher says of each word alone, fp64 [W, D], and bool [W]: which words have tokens of their own.

    The mean of the last hidden state over the word's own tokens (the special ones around it are read, and not counted).
    Eval mode, no gradient; the model's mode is put back.

    Raises:
        UsageError: no words, or a tokenizer that is not a fast one.
    """
    if not words:
        raise UsageError("word_outputs wants words, got none")
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "encode_batch"):
        raise UsageError(f"a fast tokenizer is wanted (one with a tokenizer.json), got {type(tokenizer).__name__}")
    encoded = [_tokens(encoding) for encoding in backend.encode_batch(list(words))]
    # Words of one length share a batch: no padding is read at all where lengths are as few as here.
    order = sorted(range(len(words)), key=lambda i: len(encoded[i][0]))
    encoder = getattr(model, "base_model", model)
    device = next(encoder.parameters()).device
    rows: list[Tensor | None] = [None] * len(words)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                for i, vector in zip(batch, _means(encoder, [encoded[i] for i in batch], device), strict=True):
                    rows[i] = vector
    finally:
        model.train(training)
    vectors = torch.stack([row for row in rows if row is not None]).double().numpy()
    return vectors, np.array([any(own) for _, own in encoded])


def principal_components(vectors: NDArray[np.float64], dimensions: int) -> NDArray[np.float32]:
    """The rows, centred, on their ``dimensions`` directions of largest variance, fp32 [W, dimensions].

    Directions are the right singular vectors of the centred matrix (through its covariance, in fp64); the largest entry
    of each, by size, is made positive, so that the result does not depend on the solver's signs. Missing ones are
    zeros.
    """
    centred = vectors - vectors.mean(axis=0)
    directions = principal_directions(centred, dimensions)
    reduced = np.zeros((len(vectors), dimensions), dtype=np.float32)
    reduced[:, : directions.shape[1]] = centred @ directions
    return reduced


def principal_directions(vectors: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    """The ``dimensions`` directions along which the rows are longest, [D, d], d at most D; nothing is centred.

    Of all that are d wide, ``vectors @ directions`` has the products that are nearest to those of the vectors, in
    squares (Eckart, Young 1936): what an embedding of less width should say.
    """
    _, directions = np.linalg.eigh(vectors.T @ vectors)  # ascending
    directions = directions[:, ::-1][:, :dimensions]
    largest = np.abs(directions).argmax(axis=0)
    signed: NDArray[np.float64] = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    return signed


def _tokens(encoding: Any) -> tuple[list[int], list[int]]:
    """Ids of one word, and 1 where a token is the word's own, without the padding that a shared tokenizer may add."""
    real = [
        (token, 1 - special)
        for token, special, mask in zip(
            encoding.ids, encoding.special_tokens_mask, encoding.attention_mask, strict=True
        )
        if mask
    ][:LONGEST]
    return [token for token, _ in real] or [0], [own for _, own in real] or [0]


def _means(encoder: nn.Module, batch: list[tuple[list[int], list[int]]], device: torch.device) -> Tensor:
    """Mean of the last hidden state over each word's own tokens, fp32 [B, D] on the CPU."""
    length = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([tokens + [0] * (length - len(tokens)) for tokens, _ in batch], device=device)
    mask = torch.tensor([[1] * len(tokens) + [0] * (length - len(tokens)) for tokens, _ in batch], device=device)
    own = torch.tensor([flags + [0] * (length - len(flags)) for _, flags in batch], device=device)[:, :, None]
    hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    return (torch.where(own > 0, hidden, 0.0).sum(1) / own.sum(1).clamp(min=1)).cpu()
