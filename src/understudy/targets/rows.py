"""All shards of a store as one table: key -> row -> signals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from understudy.targets.check import Arrays, same_layout
from understudy.targets.shards import Shard


class Rows:
    """Grows by whole shards. Signals are held as one array each up to ``in_memory`` bytes, else read from the files."""

    def __init__(self, *, in_memory: int) -> None:
        self.shards: list[Shard] = []
        self._in_memory = in_memory
        self._place: dict[bytes, int] = {}
        self._ends: list[int] = []
        self._held: Arrays | None = None

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

    def gather(self, keys: Sequence[bytes], signals: Iterable[str] | None = None) -> Arrays:
        """Signal -> array [N, ...] in the order of the keys. Raises KeyError, and where there is no shard always."""
        if not self.shards:
            raise KeyError("no shard")
        rows = np.array(list(map(self._place.__getitem__, keys)), np.int64)
        wanted = self.shards[0].signals if signals is None else signals
        if self._held is None and self._bytes() <= self._in_memory:
            names = self.shards[0].signals
            self._held = {name: np.concatenate([shard.signals[name] for shard in self.shards]) for name in names}
        if self._held is not None:
            return {name: self._held[name][rows] for name in wanted}
        return self._from_files(rows, wanted)

    def _bytes(self) -> int:
        return sum(array.nbytes for shard in self.shards for array in shard.signals.values())

    def _from_files(self, rows: NDArray[np.int64], wanted: Iterable[str]) -> Arrays:
        where = np.searchsorted(self._ends, rows, side="right")
        first = {name: self.shards[0].signals[name] for name in wanted}
        result = {name: np.empty((len(rows), *array.shape[1:]), array.dtype) for name, array in first.items()}
        for i in np.unique(where).tolist():
            inside, shard = where == i, self.shards[i]
            local = rows[inside] - (self._ends[i] - len(shard.keys))
            for name, array in result.items():
                array[inside] = shard.signals[name][local]
        return result
