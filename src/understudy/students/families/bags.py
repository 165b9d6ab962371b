"""What the families that look vectors up have in common: bags of ids, and leaving some of them out in training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy.errors import UsageError


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
