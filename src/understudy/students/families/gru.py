"""A bidirectional GRU over word vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from understudy.students.families.pairs import in_line
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
        dimensions: D, width of a word vector.
        width: H, units of each direction.
        hidden: width of the head's hidden layer.
        dropout: share of the entries of the pooled states and of the hidden layer that is zeroed in training, [0, 1).
        word_dropout: share of a text's words whose vector is zeros in training, [0, 1).
        texts: of a row: 1, or 2 that are read apart and compared in the head (see `pairs`).
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
        texts: int = 1,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "rows": rows, "classes": classes, "dimensions": dimensions, "width": width, "hidden": hidden,
            "dropout": dropout, "word_dropout": word_dropout, "texts": texts,
        }  # fmt: skip
        refuse("Gru", **self.arguments)
        self.texts = texts
        self.words = Words(rows, dimensions, dropout=word_dropout)
        self.rightward = nn.GRU(dimensions, width)
        self.leftward = nn.GRU(dimensions, width)
        self.head = Head(4 * width, hidden, classes, dropout=dropout, texts=texts)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [N, K] of ids int64 [N, L]; the mask int64 [N, L] is 1 for a text's words, at least one, then 0.

        Of pairs both are [N, 2, L].
        """
        input_ids, attention_mask = in_line(self.texts, input_ids, attention_mask)
        lengths = attention_mask.sum(1)
        mask = torch.arange(input_ids.shape[1], device=input_ids.device) < lengths[:, None]
        vectors = self.words(input_ids, mask).transpose(0, 1)  # [L, N, D]
        read = both_ways_exported if torch.compiler.is_exporting() else both_ways
        return self.head(pooled(read(self.rightward, self.leftward, vectors, lengths).transpose(0, 1), mask))


def both_ways(
    rightward: nn.GRU, leftward: nn.GRU, vectors: Tensor, lengths: Tensor, *, in_order: bool = False
) -> Tensor:
    """States [L, N, 2 H] of both directions; padding lies behind a row's words in each.

    What is read from right to left is turned within its length, and its states stay turned unless they are wanted
    ``in_order``: maximum and mean do not ask for it.
    """
    place = torch.arange(len(vectors), device=vectors.device)[:, None]
    turned = torch.where(place < lengths, lengths - 1 - place, place)[:, :, None]
    back = leftward(vectors.gather(0, turned.expand_as(vectors)))[0]
    if in_order:
        back = back.gather(0, turned.expand_as(back))
    return torch.cat([rightward(vectors)[0], back], dim=2)


def both_ways_exported(
    rightward: nn.GRU, leftward: nn.GRU, vectors: Tensor, lengths: Tensor, *, in_order: bool = False
) -> Tensor:
    """The same as ONNX's own operator, which knows lengths, and whose states are in order in any case.

    PyTorch 2.13 exports no second GRU in a process.
    """
    from torch.onnx.ops import symbolic

    parts: tuple[Any, ...] = (rightward, leftward)
    weights = torch.stack([_update_first(part.weight_ih_l0) for part in parts])
    states = torch.stack([_update_first(part.weight_hh_l0) for part in parts])
    biases = [torch.cat([_update_first(part.bias_ih_l0), _update_first(part.bias_hh_l0)]) for part in parts]
    width = rightward.hidden_size
    said = symbolic(
        "GRU",
        (vectors, weights, states, torch.stack(biases), lengths.int()),
        {"hidden_size": width, "direction": "bidirectional", "linear_before_reset": 1},
        dtype=vectors.dtype,
        shape=(vectors.shape[0], 2, vectors.shape[1], width),
    )  # [L, 2, N, H]
    return said.transpose(1, 2).flatten(2)


def _update_first(gates: Tensor) -> Tensor:
    """PyTorch stacks reset, update and new; ONNX update, reset and hidden."""
    width = len(gates) // 3
    return torch.cat([gates[width : 2 * width], gates[:width], gates[2 * width :]])
