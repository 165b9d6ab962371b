"""From text to logits where vectors are looked up: each word's ids are pooled once, then remembered.

Pooling a pool is pooling: sums of sums, maxima of maxima. So a word that was met before is one vector, however many
n-grams it has, and only the pairs of words are looked up one by one. Where rows are pairs of texts, each text is pooled
as if it were alone; the head knows which two belong together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from understudy.encoding import PairEncoder, WordEncoder
from understudy.encoding.memo import Memo
from understudy.encoding.words import EMPTY
from understudy.runtime.pooling import Table, pooled
from understudy.runtime.static import StaticModel

_LONG = 20_000  # letters from which one text is split like many
_FEW = 8  # texts up to which each is asked alone: there is too little to be done at once


class Lookup:
    """An encoder and a model that look words up together; several threads may ask at once.

    It remembers words, up to 50,000 (4 (2 d + 1) bytes each), then starts anew.
    """

    def __init__(self, encoder: WordEncoder | PairEncoder, model: StaticModel) -> None:
        words = encoder.inner if isinstance(encoder, PairEncoder) else encoder
        assert isinstance(words, WordEncoder)
        self.encoder, self.model, self._words = encoder, model, words
        self._lock = Lock()
        self._known: tuple[Memo | None, int, Table] = (None, 0, model.table)

    def logits(self, inputs: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """float32 [N, K] of raw columns. Raises RowError where a row holds no text."""
        texts = self.encoder.texts(inputs)
        if 0 < len(texts) <= _FEW and sum(map(len, texts)) <= _LONG:
            return self.model.head(*map(np.stack, zip(*map(self._alone, texts), strict=True)))
        return self._many(texts)

    def one(self, text: str) -> np.ndarray:
        """float32 [K] of a row of one text: as `logits`, with less on the way."""
        if len(text) > _LONG:
            return self._many([text])[0]
        return self.model.head(*self._alone(text))

    def _alone(self, text: str) -> list[np.ndarray]:
        """What a text that is not long gives the head: sums [d + 1] and, where they are wanted, maxima [d]."""
        memo, ids = self._words.speak(text)
        sums, most = self._table(memo)
        total = np.add.reduce(sums.take(ids, 0), 0) if ids else sums[EMPTY]
        if total[-1] == 0:
            ids, total = [], sums[EMPTY]
        if most is None:
            return [total]
        return [total, np.maximum.reduce(most.take(ids, 0), 0) if ids else most[EMPTY]]

    def _many(self, texts: Sequence[str]) -> np.ndarray:
        found = []
        for spoken in self._words.spoken(texts, together=self.model.texts):
            table = self._table(spoken.memo)
            ids = [spoken.words] if spoken.pairs is None else [spoken.words, spoken.pairs]
            sums, most = pooled(table, ids, spoken.starts, spoken.lengths)
            nothing = sums[:, -1] == 0
            if nothing.any():
                sums[nothing] = table.sums[EMPTY]
                if most is not None and table.most is not None:
                    most[nothing] = table.most[EMPTY]
            found.append(self.model.head(sums, most))
        return np.concatenate(found) if found else np.zeros((0, self.model.labels), np.float32)

    def _table(self, memo: Memo) -> Table:
        """The model's table, and under the number of each word that the memo knows what its ids give."""
        known, count, table = self._known
        if known is memo and count == len(memo):
            return table
        with self._lock:
            known, count, table = self._known
            if known is not memo:
                count, table = 1, self.model.table
            now = len(memo)
            if count < now:
                table = _grown(table, memo.first + now)
                self._learn(memo, count, now, table)
            self._known = (memo, now, table)
            return table

    def _learn(self, memo: Memo, start: int, end: int, table: Table) -> None:
        """Fills the rows of the words ``start .. end`` of a memo."""
        ids, starts, lengths = memo.since(start, end)
        sums, most = pooled(self.model.table, [ids], starts, lengths)
        rows = slice(memo.first + start, memo.first + end)
        table.sums[rows] = sums
        if table.most is not None:
            table.most[rows] = most


def _grown(table: Table, rows: int) -> Table:
    """The table with room for so many rows at least; a copy where there is too little."""
    if rows <= len(table.sums):
        return table
    more = max(rows, len(table.sums) * 5 // 4 + 1024)

    def wider(old: np.ndarray) -> np.ndarray:
        new = np.empty((more, old.shape[1]), old.dtype)
        new[: len(old)] = old
        return new

    return Table(wider(table.sums), None if table.most is None else wider(table.most))
