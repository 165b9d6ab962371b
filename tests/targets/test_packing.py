"""Numbers of tokens in just enough bits, and log-probabilities in eight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import UsageError
from understudy.targets.packing import (
    EIGHT_BITS_ERROR,
    LOWEST,
    bits_for,
    bytes_per_position,
    from_eight_bits,
    pack_ids,
    to_eight_bits,
    unpack_ids,
)


@given(st.integers(1, 300_000), st.integers(0, 20), st.integers(0, 5), st.integers(0, 99))
def test_what_is_packed_comes_back_in_the_bytes_that_were_said(
    vocabulary: int, count: int, rows: int, seed: int
) -> None:
    ids = np.random.default_rng(seed).integers(0, vocabulary, (rows, count))
    packed = pack_ids(ids, vocabulary)
    assert packed.shape == (rows, -(-count * bits_for(vocabulary) // 8))
    assert np.array_equal(unpack_ids(packed, vocabulary, count), ids)


@pytest.mark.parametrize("vocabulary", [2, 3, 4, 255, 256, 257, 2**17, 2**17 + 1])
def test_the_last_token_of_every_vocabulary_fits(vocabulary: int) -> None:
    ids = np.array([[0, vocabulary - 1, vocabulary // 2]])
    assert np.array_equal(unpack_ids(pack_ids(ids, vocabulary), vocabulary, 3), ids)
    with pytest.raises(UsageError, match=f"from 0 to {vocabulary - 1}, got 0 to {vocabulary}"):
        pack_ids([[0, vocabulary]], vocabulary)


def test_eight_bits_are_as_wrong_as_is_said_and_finer_towards_nothing() -> None:
    log_p = np.linspace(LOWEST, 0, 20_001)
    wrong = np.abs(from_eight_bits(to_eight_bits(log_p)) - log_p)
    assert wrong.max() <= EIGHT_BITS_ERROR + 1e-6
    assert 0.07 < EIGHT_BITS_ERROR < 0.08
    assert wrong[log_p > -1].max() < 0.02
    kept = from_eight_bits(np.arange(256, dtype=np.uint8))
    assert np.array_equal(to_eight_bits(kept), np.arange(256))


def test_bytes_that_were_aimed_at() -> None:
    assert bytes_per_position(128_000, k=8, n=16) <= 104
    assert bytes_per_position(128_000, k=8, n=16, eight_bits=True) <= 80
    with pytest.raises(UsageError, match="at least 1 token"):
        bits_for(0)
    with pytest.raises(UsageError, match=r"\[N, c\]"):
        pack_ids([1, 2], 4)
