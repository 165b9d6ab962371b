"""The n-gram student: fastText's classifier. A mean of hashed vectors, then one matrix; no dictionary, no hidden layer.

What it cannot represent. It adds up evidence: every word, pair of neighbouring words and character n-gram moves the
logits by an amount of its own, whatever else is in the text. So it sees no order beyond pairs; "not ... good" with
anything in between is "not" and "good"; and no two features mean more, or less, together than apart (the static family
has a maximum and a hidden layer for that). What shares a bucket shares a vector: the fewer buckets, the more unrelated
words speak with one voice. Longer texts are not surer, for it is a mean.

What it is good at: nothing has to be looked up but rows of a table. With fewer classes than dimensions the matrix is
multiplied into the table when it is exported, and a text's logits are a sum of a few numbers per word. Of pairs it
cannot be: what the texts share is no sum over their words.

Source: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification", arXiv 1607.01759; the learned weight of
every row is ours, and is that of the static family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.students.families.bags import filled, mean_of, thinned
from understudy.students.families.pairs import compared, width

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Ngram(nn.Module):
    """Classifies a bag of ids: the weighted mean of their vectors, then one linear layer.

    For the bag B of a row, with table vectors v_i and weights w_i = exp(``weights``[i])::

        logits = output(sum_{i in B} w_i v_i / sum_{i in B} w_i)                             [K]

    Of a pair the head reads the means u and v of both texts as [u, v, |u - v|, u * v] (see `pairs`). An id that occurs
    twice counts twice. With fewer dimensions than classes the head is of low rank.

    Args:
        rows: V, table rows (``WordEncoder.size``).
        dimensions: d.
        classes: K.
        word_dropout: share of the ids that is left out of their bags in training, [0, 1); a bag is never emptied.
        texts: of a row: 1, or 2 that are pooled apart and compared in the head.
    """

    def __init__(self, rows: int, dimensions: int, classes: int, *, word_dropout: float = 0.15, texts: int = 1) -> None:
        super().__init__()
        if min(rows, dimensions, classes) < 1:
            raise UsageError(
                f"Ngram wants at least 1 of everything, got rows={rows}, dimensions={dimensions}, classes={classes}"
            )
        if not 0.0 <= word_dropout < 1.0:
            raise UsageError(f"word_dropout is a share in [0, 1), got {word_dropout}")
        self.arguments: dict[str, Any] = {
            "rows": rows,
            "dimensions": dimensions,
            "classes": classes,
            "word_dropout": word_dropout,
            "texts": texts,
        }
        self.texts = texts
        self.word_dropout = word_dropout
        self.table = nn.Embedding(rows, dimensions)
        self.weights = nn.Parameter(torch.zeros(rows))
        self.output = nn.Linear(width(dimensions, texts), classes)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """Logits [N, K] of the bags ``ids[offsets[i]:offsets[i + 1]]``.

        Args:
            ids: int64 [M], in [0, V).
            offsets: int64 [N + 1], from 0 to M, strictly increasing; of pairs [2 N + 1], both texts of a row in turn.

        Raises:
            UsageError: an empty bag; the encoder gives a text without features the id 0. Or half a pair.
        """
        filled(offsets, self.texts)
        if self.training and self.word_dropout > 0.0:
            ids, offsets = thinned(ids, offsets, self.word_dropout)
        return self.output(compared(mean_of(self.table.weight, self.weights, ids, offsets), self.texts))

    @torch.no_grad()
    def initialise(
        self, vectors: NDArray[np.float32], *, rows: NDArray[np.int64], counts: NDArray[np.int64], other: float = -2.0
    ) -> None:
        """Starts the rows of words from vectors, and every other row from zero.

        Words that share a row start from the mean of their vectors, weighed by how often they occur.

        Args:
            vectors: fp32 [W, d], as `static_vectors` gives.
            rows: [W], the row of each word.
            counts: [W] occurrences of the words in the training text.
            other: log w of every row without a word, as in `Static.initialise`.

        Raises:
            UsageError: the vectors do not fit the table, or rows and counts do not fit the vectors.
        """
        size, dimensions = self.table.weight.shape
        if vectors.ndim != 2 or vectors.shape[1] != dimensions:
            raise UsageError(f"a table of {size} rows x {dimensions} cannot take vectors {tuple(vectors.shape)}")
        if not rows.shape == counts.shape == vectors.shape[:1] or (
            len(rows) and not 0 <= rows.min() <= rows.max() < size
        ):
            raise UsageError(f"{len(vectors)} vectors want as many counts, and rows in [0, {size})")
        where = torch.as_tensor(rows, dtype=torch.int64, device=self.weights.device)
        share = torch.as_tensor(counts).to(self.weights).clamp(min=1)
        total = torch.zeros_like(self.weights).index_add_(0, where, share)
        self.table.weight.zero_()
        self.table.weight.index_add_(0, where, torch.as_tensor(vectors).to(share) * (share / total[where])[:, None])
        self.weights.fill_(other)
        self.weights[where] = 0.0
