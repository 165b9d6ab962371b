"""The bag student: a text's vector is the weighted mean of its words' vectors, and there is nothing behind it.

What it is for: embeddings (Model2Vec, which has the idea of distilling an encoder's words into a table). It sees no
order beyond pairs of words, and a word has one meaning. A head was tried and is not here: with the cosine to the
teacher's vectors as the objective, a linear layer behind the mean reached the same or less, a hidden layer much less
(docs/students.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.students.families.bags import filled, mean_of, start, thinned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Bag(nn.Module):
    """Embeds a bag of ids: ``sum_{i in B} w_i v_i / sum_{i in B} w_i``, w_i = exp(``weights``[i]).

    An id that occurs twice counts twice.

    Args:
        rows: V, table rows (``WordEncoder.size``).
        dimensions: d, of the embedding too.
        word_dropout: share of the ids that is left out of their bags in training, [0, 1); a bag is never emptied.
    """

    def __init__(self, rows: int, dimensions: int, *, word_dropout: float = 0.0) -> None:
        super().__init__()
        if min(rows, dimensions) < 1:
            raise UsageError(f"Bag wants at least 1 of everything, got rows={rows}, dimensions={dimensions}")
        if not 0.0 <= word_dropout < 1.0:
            raise UsageError(f"word_dropout is a share in [0, 1), got {word_dropout}")
        self.arguments: dict[str, Any] = {"rows": rows, "dimensions": dimensions, "word_dropout": word_dropout}
        self.word_dropout = word_dropout
        self.table = nn.Embedding(rows, dimensions)
        self.weights = nn.Parameter(torch.zeros(rows))
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """Vectors [N, d] of the bags ``ids[offsets[i]:offsets[i + 1]]``.

        Args:
            ids: int64 [M], in [0, V).
            offsets: int64 [N + 1], from 0 to M, strictly increasing.

        Raises:
            UsageError: an empty bag; the encoder gives a row without features the id 0.
        """
        filled(offsets, 1)
        if self.training and self.word_dropout > 0.0:
            ids, offsets = thinned(ids, offsets, self.word_dropout)
        return mean_of(self.table.weight, self.weights, ids, offsets)

    def initialise(
        self,
        vectors: NDArray[np.float32],
        *,
        first: int = 1,
        counts: NDArray[np.int64] | None = None,
        smoothing: float = 1e-3,
        other: float = -2.0,
    ) -> None:
        """See `Static.initialise`."""
        start(self.table.weight, self.weights, vectors, first=first, counts=counts, smoothing=smoothing, other=other)
