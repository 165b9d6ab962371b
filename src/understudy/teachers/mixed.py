"""Stored samples where the text is the data's, and a live teacher where the student wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from torch import Tensor

from understudy.encoding import CausalEncoder
from understudy.objectives.sampled import Sampled, draw
from understudy.records import Batch, Targets
from understudy.teachers.live import Live
from understudy.teachers.sampled import SIGNALS, StoredTokens, generator_of, settled_by

_PARTS = tuple(one.name for one in fields(Sampled))


class Mixed:
    """A mix of stored targets and live rollouts (`training.Rollouts`), for `objectives.sampled_tokens`.

    Of a written batch the live teacher says what would be stored of it: head and tail drawn anew in every step, a
    function of (the store's seed, step, content key). Its logits exist for one row at a time.

    Args:
        stored: samples of the data's texts.
        live: the same teacher.
        encoder: of both.
    """

    def __init__(self, stored: StoredTokens, live: Live, encoder: CausalEncoder) -> None:
        self.stored, self.live, self.name = stored, live, stored.name
        self.model, self._size, self._seed = live.model, encoder.size, int(stored.store.identity["seed"])
        self._tiled = {"states", "head"} <= live.provides
        live.bind({"states", "head"} if self._tiled else {"logits"})

    @property
    def fingerprint(self) -> str:
        """Of what is stored, and of who is asked."""
        return f"{self.stored.fingerprint} {self.live.fingerprint}"

    @property
    def provides(self) -> frozenset[str]:
        """Signals that can be bound."""
        return self.stored.provides

    def bind(self, needs: Iterable[str]) -> None:
        """As `StoredTokens.bind`. Raises UsageError."""
        self.stored.bind(needs)

    def targets(self, batch: Batch) -> Targets:
        """As `StoredTokens.targets`; of a written batch, asked now."""
        if not batch.written:
            return self.stored.targets(batch)
        said = self.live.targets(batch)
        counts = (batch.labels >= 0).sum(1).tolist()
        rows = [self._drawn(said, row, count, f"{batch.step} {batch.keys[row]}") for row, count in enumerate(counts)]
        parts = [_padded([getattr(one, name) for one in rows], batch.labels.shape[1]) for name in _PARTS]
        signals = zip(SIGNALS, (*parts, *settled_by(self.stored)), strict=True)
        return Targets({f"{self.name}.{name}": value for name, value in signals})

    def _drawn(self, said: Targets, row: int, count: int, name: str) -> Sampled:
        if self._tiled:
            states, head = (said[f"{self.live.name}.{signal}"] for signal in ("states", "head"))
            logits = (states[row, :count] @ head[: self._size].T).float()
        else:
            logits = said[f"{self.live.name}.logits"][row, :count, : self._size]
        generator = generator_of(self._seed, name, logits.device)
        store = self.stored
        return draw(logits, k=store.k, n=store.n, temperature=store.temperature, generator=generator)


def _padded(rows: list[Tensor], width: int) -> Tensor:
    found = rows[0].new_zeros((len(rows), width, *rows[0].shape[1:]))
    for row, values in enumerate(rows):
        found[row, : len(values)] = values
    return found
