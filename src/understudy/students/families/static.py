"""The static student: a table of vectors, learned token weights, two poolings and a small head. No attention.

Where a step's time goes (fp32, one thread of a two-core AVX-512 machine with others at work, bags of 10-60 ids, batch
32 / 128, 151 classes; milliseconds, best of four):

    rows x dimensions     table    forward + backward    clipping    fused AdamW
     20,000 x 256         20 MB          7 / 17              2             5
     30,000 x 256         31 MB         10 / 33              4             8
     40,000 x 128         20 MB          9 / 14              3             5
     40,000 x 256         41 MB          9 / 49              6            11
    100,000 x  64         26 MB          4 /  8              3             5
    100,000 x 256        102 MB         54 / 71             10            20

The gradient of the table is dense, so the whole table is swept once per step whatever the batch holds. Above 32 MB the
allocator also returns the gradient's pages to the system after every step and faults them in again, most of the 54 ms.
So keep rows * dimensions below 8 million (fewer hash buckets, or fewer dimensions) where training time matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.students.families.bags import filled, start, thinned
from understudy.students.families.pairs import compared, width

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Static(nn.Module):
    """Classifies a bag of ids: weighted mean and maximum of their vectors, then one hidden layer.

    For the bag B of a row, with table vectors v_i and weights w_i = exp(``weights``[i])::

        x      = concat(sum_{i in B} w_i v_i / sum_{i in B} w_i,  max_{i in B} v_i)          [2d]
        logits = output(dropout(relu(hidden(dropout(x)))))                                   [K]

    Of a pair x is that of both texts, side by side, with how they differ and what they share (see `pairs`): [8d]. An id
    that occurs twice counts twice. ``table``, ``weights``, ``hidden`` and ``output`` are what the exporter reads.

    Args:
        rows: V, table rows (``WordEncoder.size``).
        dimensions: d.
        classes: K.
        hidden: width of the hidden layer.
        dropout: share of the entries of x and of the hidden layer that is zeroed in training, [0, 1).
        word_dropout: share of the ids that is left out of their bags in training, [0, 1); a bag is never emptied.
        texts: of a row: 1, or 2 that are pooled apart and compared in the head.
    """

    def __init__(
        self,
        rows: int,
        dimensions: int,
        classes: int,
        *,
        hidden: int = 256,
        dropout: float = 0.2,
        word_dropout: float = 0.15,
        texts: int = 1,
    ) -> None:
        super().__init__()
        if min(rows, dimensions, classes, hidden) < 1:
            raise UsageError(
                f"Static wants at least 1 of everything, got rows={rows}, dimensions={dimensions}, "
                f"classes={classes}, hidden={hidden}"
            )
        if not (0.0 <= dropout < 1.0 and 0.0 <= word_dropout < 1.0):
            raise UsageError(f"dropout is a share in [0, 1), got dropout={dropout}, word_dropout={word_dropout}")
        self.arguments: dict[str, Any] = {
            "rows": rows,
            "dimensions": dimensions,
            "classes": classes,
            "hidden": hidden,
            "dropout": dropout,
            "word_dropout": word_dropout,
            "texts": texts,
        }
        self.texts = texts
        self.word_dropout = word_dropout
        self.table = nn.Embedding(rows, dimensions)
        self.weights = nn.Parameter(torch.zeros(rows))
        self.hidden = nn.Linear(width(2 * dimensions, texts), hidden)
        self.output = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)
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
        x = compared(self.pooled(ids, offsets), self.texts)
        return self.output(self.dropout(F.relu(self.hidden(self.dropout(x)))))

    def pooled(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """The two poolings of every bag, [N, 2d].

        Bags are laid out as [N, L], L the longest, a short one filled up with its own first id: that changes no
        maximum, and its share of the mean is 0. (``torch.segment_reduce`` needs no filling, but in torch 2.13 the
        negative gradients of its maximum are not shared out where an id occurs twice in a bag.)
        """
        lengths = offsets.diff()
        place = torch.arange(int(lengths.max()), device=ids.device)
        padding = place >= lengths[:, None]
        bags = ids[torch.where(padding, 0, place) + offsets[:-1, None]]
        vectors = self.table(bags)
        shares = self.weights[bags].masked_fill(padding, -torch.inf).softmax(dim=1)  # w_i / sum w
        mean = torch.bmm(shares[:, None], vectors)[:, 0]
        return torch.cat([mean, vectors.max(dim=1).values], dim=1)

    @torch.no_grad()
    def initialise(
        self,
        vectors: NDArray[np.float32],
        *,
        first: int = 1,
        counts: NDArray[np.int64] | None = None,
        smoothing: float = 1e-3,
        other: float = -2.0,
    ) -> None:
        """Starts the rows ``first .. first + W`` from ``vectors`` and every other row from zero.

        With ``counts`` the words also start from the smooth inverse frequency of Arora et al. 2017,
        log w = log(a / (a + p)), p = count / all counts, a = ``smoothing``. The other rows (hashed pairs and n-grams,
        five to a word) start from log w = ``other``: at 0 their zeros drown the words in the mean, and clinc150's
        validation accuracy in scope was .935 where -2 gave .939.

        Args:
            vectors: fp32 [W, d], as `static_vectors` gives.
            first: row of the first word.
            counts: [W] occurrences of the words in the training text.
            smoothing: a > 0.
            other: log w of every row without a vector.

        Raises:
            UsageError: the vectors do not fit the table, or the counts do not fit the vectors.
        """
        start(self.table.weight, self.weights, vectors, first=first, counts=counts, smoothing=smoothing, other=other)
