"""A transformers model that points at the start and the end of an answer, with both as columns of its logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Reader(nn.Module):
    """A model with a head for questions.

    Args:
        model: a transformers model; gives ``start_logits`` and ``end_logits`` [R, L].
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {}
        self.model = model

    @property
    def base_model(self) -> nn.Module:
        """The model inside, without its head."""
        inner: Any = self.model
        found: nn.Module = inner.base_model
        return found

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        owners: Tensor | None = None,
    ) -> Tensor:
        """Logits [R, L, 2] of start and end, of ids and masks [R, L].

        With ``owners``, int64 [R], the rows that windows are of, the first id of every window has the lowest logits of
        those of all windows of its row, start and end apart: a text has no answer where none of its windows has one.

        Source: Devlin et al. 2019, arXiv 1810.04805, section 4.3, on "no answer" at the first id.
        """
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        said = self.model(input_ids=input_ids, attention_mask=attention_mask, **more)
        logits = torch.stack([said.start_logits, said.end_logits], dim=-1)
        if owners is None:
            return logits
        first = logits[:, 0]
        lowest = first.scatter_reduce(0, owners[:, None].expand_as(first), first, "amin", include_self=False)
        return torch.cat([lowest.index_select(0, owners)[:, None], logits[:, 1:]], dim=1)
