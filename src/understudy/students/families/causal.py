"""A decoder that says logits, or hidden states and head, where something is to be said, and nowhere else."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from understudy.students.families.masked import MaskedLM

_MORE = ("final_logit_softcapping", "logit_scale", "logits_scaling", "logits_scale")  # a head that is no mere matrix


class Spoken(Mapping[str, Tensor]):
    """What a decoder says at some places; ``logits`` are multiplied out when somebody asks for them, and not before.

    Attributes:
        states: [N, P, H]; where the head has a bias, [N, P, H + 1], the last of them 1.
        head: [V, H], or [V, H + 1] with the bias.
        logits: [N, P, V].
    """

    def __init__(self, states: Tensor, layer: nn.Linear) -> None:
        self._states, self._layer = states, layer

    @cached_property
    def states(self) -> Tensor:
        if self._layer.bias is None:
            return self._states
        return torch.cat([self._states, torch.ones_like(self._states[..., :1])], dim=-1)

    @cached_property
    def head(self) -> Tensor:
        if self._layer.bias is None:
            return self._layer.weight
        return torch.cat([self._layer.weight, self._layer.bias[:, None]], dim=1)

    @cached_property
    def logits(self) -> Tensor:
        said: Tensor = self._layer(self._states)
        return said

    def __getitem__(self, name: str) -> Tensor:
        if name not in ("states", "head", "logits"):
            raise KeyError(name)
        found: Tensor = getattr(self, name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(("states", "head", "logits"))

    def __len__(self) -> int:
        return 3


class CausalLM(MaskedLM):
    """A transformers decoder with a language-model head, asked only where something is to be said.

    It announces ``states`` and ``head``, of which terms make logits a few positions at a time. Where its head is more
    than a matrix (scaled or capped logits) it has logits alone.

    Args:
        model: a transformers ``...ForCausalLM``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        whole: Any = model
        given = inspect.signature(model.forward).parameters
        plain = not any(getattr(whole.config, name, None) not in (None, 1, 1.0) for name in _MORE)
        self.linear = plain and isinstance(whole.get_output_embeddings(), nn.Linear) and "logits_to_keep" in given
        self.provides = ("states", "head") if self.linear else ()

    @property
    def base_model(self) -> Any:
        """What the head reads: of most classes the model less its head, of OPT a part of that."""
        whole: Any = self.model
        return whole.get_decoder()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, places: Tensor, token_type_ids: Tensor | None = None
    ) -> Any:
        """`Spoken` of ``places`` int64 [N, P], or where the head is no mere matrix the model's output there."""
        if not self.linear:
            return super().forward(input_ids, attention_mask, places)
        kept: list[Tensor] = []
        hook = self.base_model.register_forward_hook(lambda module, given, output: kept.append(output[0]))
        nowhere = torch.zeros(0, dtype=torch.int64, device=input_ids.device)
        try:
            self.model(input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=nowhere, use_cache=False)
        finally:
            hook.remove()
        where = torch.clamp(places, 0, kept[0].shape[1] - 1)[:, :, None].expand(-1, -1, kept[0].shape[-1])
        whole: Any = self.model
        return Spoken(kept[0].gather(1, where), whole.get_output_embeddings())
