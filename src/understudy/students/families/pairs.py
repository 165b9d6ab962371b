"""Rows of two texts: each goes through the same network alone, then what was made of them is compared.

What it cannot represent. Words of the two texts are never compared one by one: a head sees each text only as one vector
of a fixed size, pooled before anybody asked what the other text says. So it can tell what both are about, and in which
direction of that space they differ; not which name, number or word of one is missing from the other, once a text has
more of them than fit into a vector. A student that is cut from a teacher reads both texts at once, and can.

Source: Conneau et al. 2017, "Supervised Learning of Universal Sentence Representations from Natural Language Inference
Data", arXiv 1705.02364.
"""

from __future__ import annotations

import torch
from torch import Tensor

from understudy.errors import UsageError


def compared(pooled: Tensor, texts: int) -> Tensor:
    """What a head reads: of pairs [N, 4 D] of [2 N, D], of rows with one text what is given.

    With u and v what rows 2 i and 2 i + 1 say: [u, v, |u - v|, u * v].

    >>> compared(torch.tensor([[1.0, 2.0], [3.0, -1.0]]), 2).tolist()
    [[1.0, 2.0, 3.0, -1.0, 2.0, 3.0, 3.0, -2.0]]
    """
    if texts == 1:
        return pooled
    u, v = pooled.unflatten(0, (-1, 2)).unbind(1)
    return torch.cat([u, v, (u - v).abs(), u * v], dim=1)


def width(dimensions: int, texts: int) -> int:
    """How wide `compared` is.

    Raises:
        UsageError: rows of neither one text nor two.
    """
    if texts not in (1, 2):
        raise UsageError(f"a row is one text or a pair of them, got texts={texts}")
    return dimensions if texts == 1 else 4 * dimensions


def in_line(texts: int, *values: Tensor) -> tuple[Tensor, ...]:
    """The texts of a row one after the other, [2 N, L] of [N, 2, L]; of rows with one text what is given."""
    return values if texts == 1 else tuple(value.flatten(0, 1) for value in values)
