"""Near duplicates among many texts, by MinHash (Broder 1997) and bands (Leskovec, Rajaraman, Ullman 2014, section 3.4).

MinHash only nominates: a pair counts after its sets have been compared, so nothing is dropped for a chance collision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 128
BANDS = 32  # of 4: a pair of similarity s is nominated with probability 1 - (1 - s^4)^32; 0.99999995 at s = 0.8

_SEED = 20110627


def signature(items: Iterable[str]) -> NDArray[np.uint64]:
    """The least hash of a set under each of 128 functions, [128]; a set without items has the largest number.

    The functions are multiply-add-shift on 64 bits (Dietzfelbinger 1996) of a BLAKE2b hash, so a signature is the
    same on every machine.
    """
    hashes = [
        int.from_bytes(hashlib.blake2b(item.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        for item in items
    ]
    if not hashes:
        return np.full(PERMUTATIONS, np.iinfo(np.uint64).max, np.uint64)
    random = np.random.default_rng(_SEED)
    factors = random.integers(0, 2**63, PERMUTATIONS, np.uint64) * np.uint64(2) + np.uint64(1)
    offsets = random.integers(0, 2**63, PERMUTATIONS, np.uint64)
    values = np.array(hashes, np.uint64)[:, None] * factors + offsets
    return (values >> np.uint64(32)).min(axis=0)


def first_like(sets: Sequence[Iterable[str]], alike: Callable[[int, int], bool]) -> list[int | None]:
    """For each row the earlier kept row that it is like, None where it is kept itself.

    Args:
        sets: what rows are compared by when they are nominated.
        alike: whether two rows, the earlier first, really are like each other.
    """
    kept: dict[bytes, list[int]] = {}
    found: list[int | None] = []
    for row, items in enumerate(sets):
        parts = signature(items).reshape(BANDS, -1)
        keys = [bytes([band]) + part.tobytes() for band, part in enumerate(parts)]
        near = sorted({other for key in keys for other in kept.get(key, ())})
        like = next((other for other in near if alike(other, row)), None)
        found.append(like)
        if like is None:
            for key in keys:
                kept.setdefault(key, []).append(row)
    return found
