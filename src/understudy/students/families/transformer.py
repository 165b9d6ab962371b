"""A small transformer encoder over words."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.students.families.pairs import in_line
from understudy.students.families.reading import Head, Words, pooled, refuse

HEAD = 32  # least width of an attention head, where there are several


class Transformer(nn.Module):
    """Words with learnt positions through a few layers of attention, maximum and mean of the states, a hidden layer.

    Vaswani et al. 2017, arXiv 1706.03762, with the norms before the sublayers (Xiong et al. 2020, arXiv 2002.04745),
    which needs no long warm-up. It sees order through the positions only, and any word can look at any other, near or
    far, so that it can carry a negation across a sentence. But where a convolution is given what neighbours are, this
    one has to learn it, from more rows than the other families want; and words beyond the last position share it.

    Args:
        rows: V, table rows (``SequenceEncoder.size``).
        classes: K.
        dimensions: D, width of a word vector; projected where it is not ``width``.
        width: H, of every layer; it has as many attention heads of at least 32 units as divide it.
        layers: how many.
        positions: learnt ones (``SequenceEncoder.limit``).
        hidden: width of the head's hidden layer; a layer's own is 4 H.
        dropout: share zeroed in training, after every sublayer and in the head, [0, 1).
        word_dropout: share of a text's words whose vector is zeros in training, [0, 1).
        texts: of a row: 1, or 2 that are read apart and compared in the head (see `pairs`).
    """

    def __init__(
        self,
        rows: int,
        classes: int,
        *,
        dimensions: int = 128,
        width: int = 128,
        layers: int = 2,
        positions: int = 64,
        hidden: int = 128,
        dropout: float = 0.1,
        word_dropout: float = 0.15,
        texts: int = 1,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "rows": rows, "classes": classes, "dimensions": dimensions, "width": width, "layers": layers,
            "positions": positions, "hidden": hidden, "dropout": dropout, "word_dropout": word_dropout,
            "texts": texts,
        }  # fmt: skip
        refuse("Transformer", **self.arguments)
        self.texts = texts
        self.words = Words(rows, dimensions, dropout=word_dropout)
        self.projection = nn.Linear(dimensions, width, bias=False) if dimensions != width else nn.Identity()
        self.positions = nn.Parameter(torch.empty(positions, width))
        nn.init.normal_(self.positions, std=0.02)
        self.layers = nn.ModuleList(Layer(width, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = Head(2 * width, hidden, classes, dropout=dropout, texts=texts)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [N, K] of ids int64 [N, L]; the mask int64 [N, L] is 1 for a text's words, at least one, then 0.

        Of pairs both are [N, 2, L].
        """
        input_ids, attention_mask = in_line(self.texts, input_ids, attention_mask)
        mask = attention_mask.bool()
        place = torch.arange(input_ids.shape[1], device=input_ids.device).clamp(max=len(self.positions) - 1)
        states = self.projection(self.words(input_ids, mask)) + self.positions[place]
        unseen = torch.zeros_like(mask, dtype=states.dtype).masked_fill(~mask, -torch.inf)[:, None, None]
        for layer in self.layers:
            states = layer(states, unseen)
        return self.head(pooled(self.norm(states), mask))


class Layer(nn.Module):
    """states + attention(norm(states)), then states + feed-forward(norm(states)), [N, L, H].

    ``unseen`` [N, 1, 1, L] is added to what attention compares: -inf where there is padding, 0 elsewhere.
    """

    def __init__(self, width: int, *, dropout: float) -> None:
        super().__init__()
        self.heads = max(n for n in range(1, max(1, width // HEAD) + 1) if width % n == 0)
        self.before_attention, self.before_words = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked = nn.Linear(width, 3 * width)  # queries, keys and values in one product
        self.joined = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, unseen: Tensor) -> Tensor:
        asked = self.asked(self.before_attention(states)).unflatten(
            2, (3, self.heads, -1)
        )  # [N, L, 3, heads, H / heads]
        query, key, value = asked.permute(2, 0, 3, 1, 4).unbind()
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=unseen)
        states = states + self.dropout(self.joined(seen.transpose(1, 2).flatten(2)))
        return states + self.dropout(self.narrow(F.relu(self.wide(self.before_words(states)))))
