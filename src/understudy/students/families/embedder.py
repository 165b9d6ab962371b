"""A transformers encoder whose answer is one vector a text: its last hidden states pooled, at length 1."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import UsageError, choices

POOLINGS = ("mean", "cls")


class Embedder(nn.Module):
    """An encoder, a pooling, and L2 normalisation, as sentence encoders are used.

    Args:
        model: a transformers encoder without a head; gives ``last_hidden_state`` [N, L, D].
        pooling: ``mean`` over a row's tokens, special ones included, or ``cls``: the first.

    Source: Reimers, Gurevych 2019 (Sentence-BERT), arXiv 1908.10084, section 3.
    """

    def __init__(self, model: nn.Module, pooling: str = "mean") -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise UsageError(f'no pooling "{pooling}": {choices(pooling, POOLINGS)}')
        self.arguments: dict[str, Any] = {"pooling": pooling}
        self.pooling, self.model = pooling, model

    @property
    def base_model(self) -> nn.Module:
        """The encoder."""
        return self.model

    @property
    def width(self) -> int:
        """Of the vectors."""
        config: Any = self.model.config
        return int(config.hidden_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Vectors [N, D] of length 1, of ids and masks [N, L]."""
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.model(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state
        if self.pooling == "cls":
            return F.normalize(states[:, 0], dim=1)
        there = attention_mask[:, :, None].to(states.dtype)
        return F.normalize((states * there).sum(1) / torch.clamp(there.sum(1), min=1.0), dim=1)
