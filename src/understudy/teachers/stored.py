"""A teacher that was asked before: its targets, read from the store and joined to rows by content."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from understudy.errors import UsageError, choices
from understudy.ragged import Ragged
from understudy.records import Batch, Targets
from understudy.targets import Store


class Stored:
    """Stored targets in the place of a live teacher; it gives the same ``name.signal`` tensors.

    Args:
        store: the targets of one teacher, columns in the data's order.
        name: of this source: prefix of its signals.
    """

    def __init__(self, store: Store, *, name: str = "teacher") -> None:
        self.store = store
        self.name = name
        self._signals: frozenset[str] | None = None

    @property
    def fingerprint(self) -> str:
        """Of the teacher, as the store knows it, and of how it read the rows."""
        return self.store.fingerprint

    @property
    def provides(self) -> frozenset[str]:
        """Signals that are stored."""
        return frozenset(self.store.stats()["signals"])

    def bind(self, needs: Iterable[str]) -> None:
        """Resolves what will be asked for, before the first step. Names may carry this source's prefix.

        Raises:
            UsageError: a signal that is not stored, with what is.
        """
        signals = frozenset(need.removeprefix(f"{self.name}.") for need in needs)
        there = self.provides
        for signal in sorted(signals - there):
            raise UsageError(
                f'the targets in {self.store.folder} do not hold "{signal}": {choices(signal, there)}; '
                "label again with that signal, or ask a live teacher (targets: live)"
            )
        self._signals = signals

    def targets(self, batch: Batch) -> Targets:
        """What the teacher said about the rows of the batch, on the device of its labels.

        Raises:
            StoreError: rows without stored targets; they are counted.
            UsageError: a batch that the student wrote.
        """
        refuse_written(batch, self.store)
        device = getattr(batch.labels, "device", torch.device("cpu"))
        said = {}
        for signal, array in self.store.read(batch.keys, signals=self._signals).items():
            if isinstance(array, Ragged):  # logits of words, as many as the batch is wide
                array = _as_wide(array, batch)
            value = torch.from_numpy(array).to(device)
            # Stored halves are read as floats: every divergence is computed in fp32.
            said[f"{self.name}.{signal}"] = value.float() if value.dtype == torch.float16 else value
        known = self.store.support.get(self.name)
        return Targets(said, {} if known is None else {self.name: torch.as_tensor(known, device=device)})


def refuse_written(batch: Batch, store: Store) -> None:
    """Raises UsageError for a batch that the student wrote: nothing is stored of its tokens."""
    if batch.written:
        raise UsageError(
            f"the student wrote this batch, and {store.folder} knows nothing of its tokens: ask a live teacher, or "
            "both (teachers.Mixed)"
        )


def _as_wide(rows: Ragged, batch: Batch) -> Any:
    """[N, W, K] of words, or [N, 2, W] of spans, where what is no word is -inf."""
    if "ends" not in batch.masks:
        return rows.padded(0.0, batch.masks["words"].shape[1])
    width = next(iter(batch.places.values())).shape[2]
    return np.ascontiguousarray(np.moveaxis(rows.padded(-np.inf, width), 2, 1))
