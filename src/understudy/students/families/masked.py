"""A masked language model that says logits where something is hidden, and nowhere else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class MaskedLM(nn.Module):
    """A transformers model with a masked language-model head, whose head is given the hidden places alone.

    At 15 % of the positions its head costs 15 %; of a small encoder with a vocabulary of 30,000 that is half of all.
    Hidden states and attention are those of all positions. It is written as the model inside, which any program opens
    (`students.save`).

    Args:
        model: a transformers ``...ForMaskedLM``: an encoder (its ``base_model``) and a head on its last hidden states.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {}
        self.model = model

    @property
    def base_model(self) -> Any:
        """The encoder."""
        return self.model.base_model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, places: Tensor, token_type_ids: Tensor | None = None
    ) -> Any:
        """The output of the model, its ``logits`` [N, P, V] being those of ``places`` int64 [N, P]."""
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}

        def gather(module: nn.Module, given: Any, output: Any) -> Any:
            states = output.last_hidden_state
            where = torch.clamp(places, 0, states.shape[1] - 1)[:, :, None].expand(-1, -1, states.shape[-1])
            return type(output)(**{**output, "last_hidden_state": states.gather(1, where)})

        hook = self.base_model.register_forward_hook(gather)
        try:
            return self.model(input_ids=input_ids, attention_mask=attention_mask, **more)
        finally:
            hook.remove()
