"""All shards of a store as one table: key -> row -> signals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from understudy.targets.check import same_layout
from understudy.targets.shards import Shard
from understudy.targets.signals import Signal, Signals, joined, numbers, taken


class Rows:
    """Grows by whole shards. Signals are held as one array each up to ``in_memory`` bytes, else read from the files."""

    def __init__(self, *, in_memory: int) -> None:
        self.shards: list[Shard] = []
        self._in_memory = in_memory
        self._place: dict[bytes, int] = {}
        self._ends: list[int] = []
        self._held: Signals | None = None

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, key: bytes) -> bool:
        return key in self._place

    def add(self, shard: Shard) -> None:
        """Raises StoreError where the shard's signals are not those of the others."""
        if self.shards:
            same_layout(self.shards[0].layout, shard.signals, shard.path.parent)
        start = self._ends[-1] if self._ends else 0
        for i, key in enumerate(shard.keys):
            self._place.setdefault(key, start + i)
        self.shards.append(shard)
        self._ends.append(start + len(shard.keys))
        self._held = None

    def gather(self, keys: Sequence[bytes], signals: Iterable[str] | None = None) -> Signals:
        """Signal -> array [N, ...], or a `Ragged` of N rows, in the order of the keys.

        Raises KeyError, and where there is no shard always.
        """
        if not self.shards:
            raise KeyError("no shard")
        rows = np.array(list(map(self._place.__getitem__, keys)), np.int64)
        wanted = self.shards[0].signals if signals is None else signals
        if self._held is None and self._bytes() <= self._in_memory:
            names = self.shards[0].signals
            self._held = {name: joined([shard.signals[name] for shard in self.shards]) for name in names}
        if self._held is not None:
            return {name: taken(self._held[name], rows) for name in wanted}
        return self._from_files(rows, wanted)

    def _bytes(self) -> int:
        return sum(numbers(signal).nbytes for shard in self.shards for signal in shard.signals.values())

    def _from_files(self, rows: NDArray[np.int64], wanted: Iterable[str]) -> Signals:
        where = np.searchsorted(self._ends, rows, side="right")
        parts: dict[str, list[Signal]] = {name: [] for name in wanted}
        inside = [np.flatnonzero(where == i) for i in np.unique(where)]
        for mine in inside:
            i = int(where[mine[0]])
            local = rows[mine] - (self._ends[i] - len(self.shards[i].keys))
            for name, found in parts.items():
                found.append(taken(self.shards[i].signals[name], local))
        if not inside:
            return {name: taken(self.shards[0].signals[name], rows) for name in parts}
        back = np.argsort(np.concatenate(inside), kind="stable")
        return {name: taken(joined(found), back) for name, found in parts.items()}
