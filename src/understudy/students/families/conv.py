"""Convolutions over word vectors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.students.families.pairs import in_line
from understudy.students.families.reading import Head, Words, refuse

WINDOWS = (2, 3, 4)


class Conv(nn.Module):
    """Filters over every two, three and four neighbouring words, the largest answer of each, one hidden layer.

    Kim 2014, arXiv 1408.5882. It sees order inside a window: "not good" and "good, not" differ, and a filter can stand
    for a phrase that was never seen in these words. Nothing reaches across more than four words, so a negation further
    off is not seen. Where in the text a phrase stood, and how often, is lost.

    Args:
        rows: V, table rows (``SequenceEncoder.size``).
        classes: K.
        dimensions: D, width of a word vector.
        width: filters of each window size.
        hidden: width of the head's hidden layer.
        dropout: share of the entries of the pooled answers and of the hidden layer that is zeroed in training, [0, 1).
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
        refuse("Conv", **self.arguments)
        self.texts = texts
        self.words = Words(rows, dimensions, dropout=word_dropout)
        self.filters = nn.ModuleList(nn.Linear(size * dimensions, width) for size in WINDOWS)
        self.head = Head(len(WINDOWS) * width, hidden, classes, dropout=dropout, texts=texts)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [N, K] of ids int64 [N, L]; the mask int64 [N, L] is 1 for a text's words, at least one, then 0.

        Of pairs both are [N, 2, L].

        A window begins at a word, and behind a text's last word there are zeros, however long the batch is. Windows are
        laid out side by side and meet their filters in one matrix product, which onnxruntime runs in INT8 without
        calibration rows.
        """
        input_ids, attention_mask = in_line(self.texts, input_ids, attention_mask)
        mask = attention_mask.bool()
        length = input_ids.shape[1]
        vectors = F.pad(self.words(input_ids, mask), (0, 0, 0, WINDOWS[-1] - 1))
        found = []
        for size, filters in zip(WINDOWS, self.filters, strict=True):
            windows = torch.cat([vectors[:, i : i + length] for i in range(size)], dim=2)  # [N, L, size * D]
            found.append(torch.where(mask[:, :, None], F.relu(filters(windows)), 0.0).amax(1))
        return self.head(torch.cat(found, dim=1))
