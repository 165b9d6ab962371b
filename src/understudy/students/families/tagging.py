"""Small networks that say a tag of every word: windows that grow layer by layer, or a GRU from each side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.students.families.gru import both_ways, both_ways_exported
from understudy.students.families.reading import Head, refuse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Parts(nn.Module):
    """The ids of a word -> its vector: those of the word, its beginning, its ends and its shape, side by side.

    Args:
        rows: V, table rows (``AffixEncoder.size``).
        dimensions: D, width of each.
        parts: ids of a word.
        dropout: share of the words whose own vector is zeros in training, [0, 1), so that the rest must do.
    """

    def __init__(self, rows: int, dimensions: int, parts: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout, self.width = dropout, parts * dimensions
        self.table = nn.Embedding(rows, dimensions)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[N, L, parts * D] of ids int64 [N, L, parts] and a mask bool [N, L]; zeros at padding."""
        vectors = self.table(ids)
        if self.training and self.dropout > 0.0:
            kept = torch.rand(ids.shape[:2], device=ids.device) >= self.dropout
            vectors = torch.cat([torch.where(kept[:, :, None, None], vectors[:, :, :1], 0.0), vectors[:, :, 1:]], dim=2)
        return torch.where(mask[:, :, None], vectors.flatten(2), 0.0)

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


class TagConv(nn.Module):
    """Layers that see a word and its neighbour on either side, each added to what was there; one hidden layer.

    As Collobert et al. 2011 (arXiv 1103.0398, window approach), several layers deep: after d layers a word knows d
    words to each side, and what is farther off is not seen.

    Args:
        rows: V, table rows (``AffixEncoder.size``).
        classes: K.
        parts: ids of a word.
        dimensions: D, width of the vector of each.
        width: of the layers.
        hidden: width of the head's hidden layer.
        layers: d.
        dropout: share of the entries of every layer's answer that is zeroed in training, [0, 1).
        word_dropout: share of the words of which only beginning, ends and shape are seen in training, [0, 1).
    """

    def __init__(
        self,
        rows: int,
        classes: int,
        *,
        parts: int = 5,
        dimensions: int = 64,
        width: int = 128,
        hidden: int = 128,
        layers: int = 3,
        dropout: float = 0.1,
        word_dropout: float = 0.15,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "rows": rows, "classes": classes, "parts": parts, "dimensions": dimensions, "width": width,
            "hidden": hidden, "layers": layers, "dropout": dropout, "word_dropout": word_dropout,
        }  # fmt: skip
        refuse("TagConv", **self.arguments)
        self.words = Parts(rows, dimensions, parts, dropout=word_dropout)
        self.entry = nn.Linear(self.words.width, width)
        self.windows = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.head = Head(width, hidden, classes, dropout=dropout)

    def forward(self, part_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [N, L, K] of ids int64 [N, L, parts]; the mask int64 [N, L] is 1 for a row's words, then 0.

        Before a row's first word and behind its last one there are zeros, however long the batch is.
        """
        mask = attention_mask.bool()
        there = mask[:, :, None]
        states = torch.where(there, F.relu(self.entry(self.dropout(self.words(part_ids, mask)))), 0.0)
        length = part_ids.shape[1]
        for window, norm in zip(self.windows, self.norms, strict=True):
            wide = F.pad(states, (0, 0, 1, 1))
            seen = torch.cat([wide[:, i : i + length] for i in range(3)], dim=2)
            states = torch.where(there, norm(states + self.dropout(F.relu(window(seen)))), 0.0)
        said: Tensor = self.head(states)
        return said


class TagGru(nn.Module):
    """One GRU from left to right and one from right to left; of each word both states, and one hidden layer.

    Args:
        rows: V, table rows (``AffixEncoder.size``).
        classes: K.
        parts: ids of a word.
        dimensions: D, width of the vector of each.
        width: H, units of each direction.
        hidden: width of the head's hidden layer.
        dropout: share of the entries of vectors, states and hidden layer that is zeroed in training, [0, 1).
        word_dropout: share of the words of which only beginning, ends and shape are seen in training, [0, 1).
    """

    def __init__(
        self,
        rows: int,
        classes: int,
        *,
        parts: int = 5,
        dimensions: int = 64,
        width: int = 128,
        hidden: int = 128,
        dropout: float = 0.1,
        word_dropout: float = 0.15,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "rows": rows, "classes": classes, "parts": parts, "dimensions": dimensions, "width": width,
            "hidden": hidden, "dropout": dropout, "word_dropout": word_dropout,
        }  # fmt: skip
        refuse("TagGru", **self.arguments)
        self.words = Parts(rows, dimensions, parts, dropout=word_dropout)
        self.rightward = nn.GRU(self.words.width, width)
        self.leftward = nn.GRU(self.words.width, width)
        self.dropout = nn.Dropout(dropout)
        self.head = Head(2 * width, hidden, classes, dropout=dropout)

    def forward(self, part_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [N, L, K] of ids int64 [N, L, parts]; the mask int64 [N, L] is 1 for a row's words, then 0."""
        lengths = attention_mask.sum(1)
        mask = torch.arange(part_ids.shape[1], device=part_ids.device) < lengths[:, None]
        vectors = self.dropout(self.words(part_ids, mask)).transpose(0, 1)  # [L, N, E]
        read = both_ways_exported if torch.compiler.is_exporting() else both_ways
        states = read(self.rightward, self.leftward, vectors, lengths, in_order=True)
        said: Tensor = self.head(torch.where(mask[:, :, None], states.transpose(0, 1), 0.0))
        return said
