"""What the families that look vectors up have in common: bags of ids, their means, and leaving some out in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def filled(offsets: Tensor, texts: int) -> None:
    """Raises UsageError for an empty bag (the encoder gives a text without features the id 0), or half a row."""
    lengths = offsets.diff()
    if len(lengths) % texts:
        raise UsageError(f"rows of {texts} texts have a bag for each, got {len(lengths)} bags")
    if bool((lengths < 1).any()):
        row = int((lengths < 1).nonzero()[0]) // texts
        raise UsageError(f"row {row} is an empty bag: give it the encoder's id for no features (0)")


def thinned(ids: Tensor, offsets: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The bags with a random ``share`` of their ids left out. The id with the largest draw of its bag always stays."""
    draws = torch.rand(ids.shape, device=ids.device)
    lengths = offsets.diff()
    largest = torch.segment_reduce(draws, "max", offsets=offsets).repeat_interleave(lengths)
    keep = (draws >= share) | (draws == largest)
    kept = F.pad(keep.cumsum(0), (1, 0))
    return ids[keep], kept[offsets]


def mean_of(table: Tensor, logarithms: Tensor, ids: Tensor, offsets: Tensor) -> Tensor:
    """The weighted mean of the vectors of each bag, [N, d]; weights [V] as logarithms."""
    mine = logarithms[ids]
    weights = (mine - mine.detach().max()).exp()  # a factor that the quotient does not see
    sums = F.embedding_bag(ids, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)
    lengths = offsets.diff()
    rows = torch.arange(len(lengths), device=ids.device).repeat_interleave(lengths)
    totals = weights.new_zeros(len(lengths)).index_add(0, rows, weights)
    return sums / totals[:, None]


@torch.no_grad()
def start(
    table: Tensor,
    weights: Tensor,
    vectors: NDArray[np.float32],
    *,
    first: int,
    counts: NDArray[np.int64] | None,
    smoothing: float,
    other: float,
) -> None:
    """Gives a table [V, d] and its weights [V] the start that `Static.initialise` describes."""
    rows, dimensions = table.shape
    if vectors.ndim != 2 or vectors.shape[1] != dimensions or first < 0 or first + len(vectors) > rows:
        raise UsageError(
            f"a table of {rows} rows x {dimensions} cannot take vectors {tuple(vectors.shape)} from row {first} on"
        )
    if counts is not None and counts.shape != vectors.shape[:1]:
        raise UsageError(f"{len(vectors)} vectors want as many counts, got {tuple(counts.shape)}")
    words = slice(first, first + len(vectors))
    table.zero_()
    table[words] = torch.as_tensor(vectors).to(table)
    weights.fill_(other)
    weights[words] = 0.0
    if counts is not None:
        share = torch.as_tensor(counts, dtype=torch.float64) / max(int(counts.sum()), 1)
        weights[words] = torch.log(smoothing / (smoothing + share)).to(weights)
