"""Which rows make up which step: every row once, in an order that (seed, epoch) decides, shared out evenly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from understudy.data.sampling import epoch_batches, share

SIZES = some.integers(1, 40)


@settings(max_examples=150, deadline=None)
@given(rows=SIZES, size=SIZES, seed=some.integers(0, 2**32), epoch=some.integers(0, 50), bucketed=some.booleans())
def test_an_epoch_is_every_row_once(rows: int, size: int, seed: int, epoch: int, bucketed: bool) -> None:
    lengths = np.random.default_rng(seed).integers(1, 30, rows)
    batches = epoch_batches(lengths, size, seed=seed, epoch=epoch, bucketed=bucketed)
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert len(batches) == -(-rows // size)  # whatever the epoch
    again = epoch_batches(lengths, size, seed=seed, epoch=epoch, bucketed=bucketed)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize("bucketed", [False, True])
def test_seed_and_epoch_decide_the_order(bucketed: bool) -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 200)

    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(np.concatenate(epoch_batches(lengths, 8, seed=seed, epoch=epoch, bucketed=bucketed)).tolist())

    assert len({order(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    order(0, 0)
    assert np.array_equal(np.random.get_state()[1], before)  # type: ignore[index]


def test_buckets_save_most_of_the_padding_and_stay_random() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 3000)

    def padding(bucketed: bool) -> int:
        batches = epoch_batches(lengths, 16, seed=0, epoch=0, bucketed=bucketed)
        return sum(int(lengths[rows].max() * len(rows) - lengths[rows].sum()) for rows in batches)

    assert padding(True) < 0.1 * padding(False)
    batches = epoch_batches(lengths, 16, seed=0, epoch=0)[:-1]
    means = np.array([lengths[rows].mean() for rows in batches])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2  # long batches do not come in a row


def test_one_length_needs_no_buckets() -> None:
    lengths = np.ones(50, dtype=np.int64)
    plain = epoch_batches(lengths, 8, seed=0, epoch=0, bucketed=False)
    assert all(map(np.array_equal, plain, epoch_batches(lengths, 8, seed=0, epoch=0)))


@settings(max_examples=300, deadline=None)
@given(rows=SIZES, world=some.integers(1, 8), micro=some.integers(1, 20))
def test_every_process_gets_as_many_micro_batches_of_the_same_sizes(rows: int, world: int, micro: int) -> None:
    """Also where there are more processes than rows: a wrapped forward is a meeting point of all of them."""
    numbers = np.arange(rows) + 100
    parts = [share(numbers, rank=rank, world=world, micro=micro) for rank in range(world)]
    sizes = [[len(some) for some, _ in mine] for mine in parts]
    assert all(mine == sizes[0] for mine in sizes)
    assert all(1 <= size <= micro for size in sizes[0])
    assert sum(sizes[0]) == -(-rows // world)
    real = [row for mine in parts for some, fillers in mine for row in some[: len(some) - fillers].tolist()]
    assert sorted(real) == numbers.tolist()  # each row weighs something exactly once
    filled = [row for mine in parts for some, fillers in mine for row in some[len(some) - fillers :].tolist()]
    assert set(filled) <= set(numbers.tolist())
    assert len(filled) == -rows % world
