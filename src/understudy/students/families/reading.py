"""What the families that read words in order have in common: the words' vectors, the pooling and the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.students.families.pairs import compared, width

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Words(nn.Module):
    """Ids -> vectors, zeros at padding; in training some words are zeros too.

    Args:
        rows: V, table rows (``SequenceEncoder.size``).
        dimensions: D.
        dropout: share of a row's words whose vector is zeros in training, [0, 1); one word of a row always stays.
    """

    def __init__(self, rows: int, dimensions: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.table = nn.Embedding(rows, dimensions)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[N, L, D] of ids int64 [N, L] and a mask bool [N, L]."""
        seen = mask
        if self.training and self.dropout > 0.0:
            draws = torch.rand(ids.shape, device=ids.device).masked_fill(~mask, -1.0)
            seen = mask & ((draws >= self.dropout) | (draws == draws.amax(1, keepdim=True)))
        # Zeros by selection, not by a product: whatever padding points at reaches neither value nor gradient.
        return torch.where(seen[:, :, None], self.table(ids), 0.0)

    @torch.no_grad()
    def initialise(self, vectors: NDArray[np.float32], *, first: int) -> None:
        """Puts ``vectors`` fp32 [W, D] into the rows from ``first`` on; the others keep what was drawn.

        Raises:
            UsageError: the vectors do not fit the table.
        """
        rows, dimensions = self.table.weight.shape
        if vectors.ndim != 2 or vectors.shape[1] != dimensions or first < 0 or first + len(vectors) > rows:
            raise UsageError(
                f"a table of {rows} rows x {dimensions} cannot take vectors {tuple(vectors.shape)} from row {first} on"
            )
        self.table.weight[first : first + len(vectors)] = torch.as_tensor(vectors).to(self.table.weight)


def pooled(states: Tensor, mask: Tensor) -> Tensor:
    """Maximum and mean of states [N, L, D] over the positions of a mask bool [N, L], [N, 2 D]."""
    there = mask[:, :, None]
    most = states.masked_fill(~there, -torch.inf).amax(1)
    mean = torch.where(there, states, 0.0).sum(1) / mask.sum(1, keepdim=True)
    return torch.cat([most, mean], dim=1)


class Head(nn.Module):
    """output(dropout(relu(hidden(dropout(x))))), [N, D] -> [N, K]; of pairs [2 N, D] -> [N, K] (see `pairs`)."""

    def __init__(self, dimensions: int, hidden: int, classes: int, *, dropout: float, texts: int = 1) -> None:
        super().__init__()
        self.texts = texts
        self.hidden = nn.Linear(width(dimensions, texts), hidden)
        self.output = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.output(self.dropout(F.relu(self.hidden(self.dropout(compared(x, self.texts))))))
        return said


def refuse(family: str, *, dropout: float, word_dropout: float, **sizes: int) -> None:
    """Raises UsageError for a size below 1 or a share outside [0, 1)."""
    if min(sizes.values()) < 1:
        said = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise UsageError(f"{family} wants at least 1 of everything, got {said}")
    if not (0.0 <= dropout < 1.0 and 0.0 <= word_dropout < 1.0):
        raise UsageError(f"dropout is a share in [0, 1), got dropout={dropout}, word_dropout={word_dropout}")
