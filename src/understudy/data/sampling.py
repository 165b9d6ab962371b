"""Which rows make up which optimiser step: pure functions of (seed, epoch), so that a resumed run sees the same."""

from __future__ import annotations

from typing import Any

import numpy as np

Indices = np.ndarray[Any, np.dtype[np.int64]]

POOL = 50  # batches that are sorted by length together: enough to pack well, few enough to stay random


def epoch_batches(lengths: Indices, size: int, *, seed: int, epoch: int, bucketed: bool = True) -> list[Indices]:
    """Every row once, in batches of ``size`` (the last may be smaller), in an order that (seed, epoch) decides.

    Args:
        lengths: [N] cost of each row (tokens); equal lengths make bucketing a no-op.
        size: effective batch, rows of one optimiser step over all processes.
        bucketed: put rows of similar length together, within pools of 50 batches, and shuffle the batches.

    Returns:
        ceil(N / size) arrays of row numbers. The number of batches does not depend on the epoch.

    >>> [len(rows) for rows in epoch_batches(np.ones(10, dtype=np.int64), 4, seed=0, epoch=0)]
    [4, 4, 2]
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    whole = len(order) - len(order) % size
    full, rest = order[:whole], order[whole:]
    if bucketed and len(full) and lengths.min() != lengths.max():
        pools = [full[i : i + POOL * size] for i in range(0, whole, POOL * size)]
        full = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    batches = list(full.reshape(-1, size))
    random.shuffle(batches)
    return [*batches, rest] if len(rest) else batches


def share(rows: Indices, *, rank: int, world: int, micro: int) -> list[tuple[Indices, int]]:
    """This process's part of one step as micro-batches of ``micro`` rows, each with its number of filler rows.

    Every process gets equally many micro-batches of equal size, because a wrapped forward is a meeting point of all
    of them; where rows are missing, rows of the step are repeated at the end and weigh nothing (fillers).

    >>> [(part.tolist(), filler) for part, filler in share(np.arange(5), rank=1, world=2, micro=2)]
    [([1, 3], 0), ([0], 1)]
    """
    if world == 1 and micro >= len(rows):
        return [(rows, 0)]
    each = -(-len(rows) // world)
    mine = rows[rank::world]
    fillers = each - len(mine)
    padded = np.concatenate([mine, rows[:fillers]])
    weightless = np.arange(each) >= len(mine)
    return [(padded[i : i + micro], int(weightless[i : i + micro].sum())) for i in range(0, each, micro)]
