"""Views: augmentation as a pure function of (seed, epoch, content key), so that it can be replayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from understudy.files import content_hash


def shift(
    pixels: np.ndarray[Any, Any], keys: Sequence[str], *, most: int, seed: int, epoch: int
) -> np.ndarray[Any, Any]:
    """Images moved by up to ``most`` pixels in both directions, the gap filled with the image's own edge.

    Args:
        pixels: uint8 [N, C, H, W].
        keys: [N] content keys; the move of an image depends on (seed, epoch, key) and on nothing else.

    Returns:
        uint8 [N, C, H, W].
    """
    height, width = pixels.shape[2:]
    padded = np.pad(pixels, ((0, 0), (0, 0), (most, most), (most, most)), mode="edge")
    moved = np.empty_like(pixels)
    for i, key in enumerate(keys):
        draw = int(content_hash(str(seed), str(epoch), key)[:12], 16)
        top, left = draw % (2 * most + 1), draw // (2 * most + 1) % (2 * most + 1)
        moved[i] = padded[i, :, top : top + height, left : left + width]
    return moved
