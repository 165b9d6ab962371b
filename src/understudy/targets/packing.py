"""Heads and tails of a teacher over a large vocabulary as few bytes: numbers of tokens in just enough bits.

    of V = 128,000 tokens, 8 of the head and 16 of the tail     bytes a position
    numbers of tokens, 17 bits each                             51
    log-probabilities, 16 bits each (8 bits: 24)                48
    log of the tail's mass, fp32                                 4
                                                               103 (79)

Half precision is exact to 0.004 nats from -8 to -16 and finer above. In 8 bits a log-probability is one of 256 values,
finer towards 0; `EIGHT_BITS_ERROR` is the most by which it is wrong above `LOWEST`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from understudy.errors import UsageError

Array = npt.NDArray[Any]
LOWEST = -20.0
"""Log-probabilities below it are stored as it where they have 8 bits: two in a thousand million."""
_STEPS = 255
EIGHT_BITS_ERROR = 0.5 * (math.sqrt(-LOWEST) / _STEPS) * 2 * math.sqrt(-LOWEST)
"""Nats: half a step at `LOWEST`, where steps are widest."""


def bits_for(vocabulary: int) -> int:
    """Bits of a number from 0 up to, not including, ``vocabulary``.

    >>> bits_for(128_000), bits_for(2), bits_for(1)
    (17, 1, 1)
    """
    if vocabulary < 1:
        raise UsageError(f"wanted a vocabulary of at least 1 token, got {vocabulary}")
    return max(1, (vocabulary - 1).bit_length())


def pack_ids(ids: npt.ArrayLike, vocabulary: int) -> Array:
    """uint8 [N, ceil(c * bits / 8)] of numbers of tokens [N, c], one after the other, the highest bit first.

    >>> pack_ids([[1, 2, 3, 0]], 4).tolist()
    [[108]]

    Raises:
        UsageError: a number outside the vocabulary.
    """
    numbers, bits = np.asarray(ids, np.int64), bits_for(vocabulary)
    if numbers.ndim != 2:
        raise UsageError(f"wanted numbers of tokens [N, c], got {numbers.shape}")
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < vocabulary:
        raise UsageError(f"wanted numbers of tokens from 0 to {vocabulary - 1}, got {numbers.min()} to {numbers.max()}")
    places = np.arange(bits - 1, -1, -1)
    flat = ((numbers[:, :, None] >> places) & 1).astype(np.uint8)
    return np.packbits(flat.reshape(len(numbers), numbers.shape[1] * bits), axis=1)


def unpack_ids(packed: Array, vocabulary: int, count: int) -> Array:
    """int64 [N, count]: what `pack_ids` was given."""
    bits = bits_for(vocabulary)
    flat = np.unpackbits(packed, axis=1, count=count * bits).reshape(len(packed), count, bits)
    return flat.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1))


def to_eight_bits(log_p: npt.ArrayLike) -> Array:
    """uint8: log-probabilities, at most 0, in steps that are even in the square root of their size.

    >>> from_eight_bits(to_eight_bits([-1.0, -50.0])).round(1).tolist()
    [-1.0, -20.0]
    """
    size = np.sqrt(np.clip(-np.asarray(log_p, np.float64), 0.0, -LOWEST) / -LOWEST)
    return np.rint(size * _STEPS).astype(np.uint8)


def from_eight_bits(stored: Array) -> Array:
    """float32: what `to_eight_bits` kept."""
    return (LOWEST * (stored.astype(np.float64) / _STEPS) ** 2).astype(np.float32)


def bytes_per_position(vocabulary: int, *, k: int, n: int, eight_bits: bool = False) -> int:
    """Bytes that a position takes in a store.

    >>> bytes_per_position(128_000, k=8, n=16), bytes_per_position(128_000, k=8, n=16, eight_bits=True)
    (103, 79)
    """
    return math.ceil((k + n) * bits_for(vocabulary) / 8) + (k + n) * (1 if eight_bits else 2) + 4
