"""A bidirectional GRU over word vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from understudy.students.families.reading import Head, Words, pooled, refuse


class Gru(nn.Module):
    """One GRU from left to right, one from right to left, maximum and mean of their states, one hidden layer.

    Cho et al. 2014, arXiv 1406.1078. It sees order: a state carries what came before it, so "not" reaches the word
    that it negates, some words on, and each way. What lies far back fades: nothing here looks straight at a distant
    word, as attention does, and the pooling does not know where in the text a state was. Its steps follow one another,
    so that a long text takes long however many rows are in a batch.

    Args:
        rows: V, table rows (``SequenceEncoder.size``).
        classes: K.
        dimensions: width of a word vector.
        width: units of each direction.
        hidden: width of the head's hidden layer.
        dropout: share of the entries of the pooled states and of the hidden layer that is zeroed in training, [0, 1).
        word_dropout: share of a row's words whose vector is zeros in training, [0, 1).
    """

    def __init__(
        self,
        rows: int,
        classes: int,
        *,
        dimensions: int = 64,
        width: int = 128,
        hidden: int = 128,
        dropout: float = 0.1,
        word_dropout: float = 0.15,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "rows": rows, "classes": classes, "dimensions": dimensions, "width": width, "hidden": hidden,
            "dropout": dropout, "word_dropout": word_dropout,
        }  # fmt: skip
        refuse("Gru", **self.arguments)
        self.words = Words(rows, dimensions, dropout=word_dropout)
        self.rightward = nn.GRU(dimensions, width, batch_first=True)
        self.leftward = nn.GRU(dimensions, width, batch_first=True)
        self.head = Head(4 * width, hidden, classes, dropout=dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [N, K] of ids int64 [N, L]; the mask int64 [N, L] is 1 for a row's words, at least one, then 0.

        Padding lies behind what is read, in either direction, and is left out of the pooling. Two passes and two
        gathers are what PyTorch exports with any N and L; a packed sequence is not.
        """
        mask = attention_mask.bool()
        vectors = self.words(input_ids, mask)
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = mask.sum(1, keepdim=True) - 1
        turned = torch.where(place <= last, last - place, place)[:, :, None]
        ahead, _ = self.rightward(vectors)
        back, _ = self.leftward(vectors.gather(1, turned.expand(-1, -1, vectors.shape[2])))
        # maximum and mean do not ask for the order: the states of the way back may stay turned
        return self.head(pooled(torch.cat([ahead, back], dim=2), mask))
