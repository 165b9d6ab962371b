"""Words met so far, numbered, with all the ids of each."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from threading import Lock
from zlib import crc32

import numpy as np

from understudy.encoding.splitting import END, uncut


class Uncut(Exception):
    """A word that should have been cut: the texts must be split with care."""


class Memo(dict[str, int]):
    """Word -> its number, given when it is first met; ``END`` has the number ``first``, and no ids.

    Several threads may ask at once. Numbers are never taken back: whoever holds a memo can rely on them.

    Args:
        first: the first number.
        ids_of: word -> its ids.
    """

    def __init__(self, first: int, ids_of: Callable[[str], list[int]]) -> None:
        super().__init__({END: first})
        self.first, self._ids_of, self._lock = first, ids_of, Lock()
        self._ids, self._ends, self._hashes = array("i"), array("q", [0, 0]), array("I", [0])
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
                self[word] = self.first + len(self._hashes) - 1  # last: who sees the number finds the rest
            return self[word]

    def hashes_of(self, numbers: Iterable[int]) -> list[int]:
        """CRC-32 of the UTF-8 bytes of the words of these numbers."""
        hashes, first = self._hashes, self.first
        return [hashes[number - first] for number in numbers]

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
