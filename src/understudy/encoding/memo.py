"""Words met so far, numbered, with all that is to be known of each: its ids, and what makes pairs of it."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import pairwise
from threading import Lock
from zlib import crc32

import numpy as np

from understudy.encoding.splitting import END, uncut

_MIX = 0x9E3779B1  # odd, so that multiplying by it loses nothing modulo 2^32: "a b" and "b a" are different pairs
_BITS = 0xFFFFFFFF


class Uncut(Exception):
    """A word that should have been cut: the texts must be split with care."""


class Memo(dict[str, int]):
    """Word -> its number, given when it is first met; ``END`` has the number ``first``, and no ids.

    Two neighbours a, b are the pair ((h(a) * 0x9E3779B1 + h(b)) mod 2^32) mod ``buckets``, h the CRC-32 of a word.

    Several threads may ask at once. Numbers are never taken back: whoever holds a memo can rely on them.

    Args:
        first: the first number.
        ids_of: word -> its ids.
        buckets: of the pairs; 0 where nobody asks for any.
    """

    def __init__(self, first: int, ids_of: Callable[[str], list[int]], *, buckets: int) -> None:
        super().__init__({END: first})
        self.first, self._ids_of, self._buckets, self._lock = first, ids_of, buckets, Lock()
        # Where only the lower bits of a pair count, only they are kept: small numbers are faster.
        self._bits = buckets - 1 if buckets and buckets & buckets - 1 == 0 else _BITS
        self._ids, self._ends, self._hashes = array("i"), array("q", [0, 0]), array("I", [0])
        self._left, self._right = [0] * (first + 1), [0] * (first + 1)  # by number
        self._arrays = self._read()

    def __missing__(self, word: str) -> int:
        if uncut(word):
            raise Uncut
        ids, hashed = self._ids_of(word), crc32(word.encode("utf-8", "surrogatepass"))
        with self._lock:
            if word not in self:
                self._ids.extend(ids)
                self._ends.append(len(self._ids))
                self._hashes.append(hashed)
                self._left.append(hashed * _MIX & self._bits)
                self._right.append(hashed & self._bits)
                self[word] = self.first + len(self._hashes) - 1  # last: who sees the number finds the rest
            return self[word]

    def pairs(self, numbers: list[int], first: int) -> list[int]:
        """``first`` + the pair of each two neighbours among the words of these numbers."""
        left, right, bits, buckets = self._left, self._right, self._bits, self._buckets
        if bits < buckets:
            return [first + (left[a] + right[b] & bits) for a, b in pairwise(numbers)]
        return [first + (left[a] + right[b] & bits) % buckets for a, b in pairwise(numbers)]

    def all_pairs(self, numbers: np.ndarray) -> np.ndarray:
        """int64 [M]: the pair of each number with the next; the last has none, and something stands there."""
        hashes = self.arrays()[2].take(numbers - self.first)
        mixed = hashes * np.uint32(_MIX)
        mixed[:-1] += hashes[1:]  # modulo 2^32
        mixed %= np.uint32(self._buckets)
        return mixed.astype(np.int64)

    def since(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids int64 of the words ``first + start .. first + end``, where those of each start, and how many."""
        ends = np.array(self._ends[start : end + 1], np.int64)
        return np.array(self._ids[ends[0] : ends[-1]], np.int64), ends[:-1] - ends[0], np.diff(ends)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All ids int32 [M] one after the other, where those of number ``first + i`` start and end int64 [n + 1], and
        the words' hashes uint32 [n]; at least of every word that the caller has a number for."""
        found = self._arrays
        if len(found[2]) < len(self):
            with self._lock:
                found = self._arrays = self._read()
        return found

    def _read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.array(self._ids, np.int32), np.array(self._ends, np.int64), np.array(self._hashes, np.uint32)
