"""A teacher of vectors as a student of less width hears it: along some directions of its space."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from understudy.files import content_hash
from understudy.records import Batch, Targets


class Narrowed:
    """A source of targets whose ``logits`` [N, T] are turned into [N, D]; its other signals stay as they are.

    Args:
        source: `Live` or `Stored`.
        directions: [T, D], as `students.principal_directions` gives.
    """

    def __init__(self, source: Any, directions: np.ndarray[Any, Any]) -> None:
        self.source, self.name = source, source.name
        self._matrix = torch.from_numpy(np.ascontiguousarray(directions, np.float32))

    @property
    def model(self) -> Any:
        """The module that speaks; None where targets are stored."""
        return getattr(self.source, "model", None)

    @property
    def fingerprint(self) -> str:
        """Of the teacher and the directions."""
        return content_hash(self.source.fingerprint, self._matrix.numpy().tobytes())

    @property
    def provides(self) -> frozenset[str]:
        """As the source."""
        provided: frozenset[str] = self.source.provides
        return provided

    def bind(self, needs: Iterable[str]) -> None:
        """See the source."""
        self.source.bind(needs)

    def targets(self, batch: Batch) -> Targets:
        """What the teacher said about the rows of the batch, along the directions."""
        said: Targets = self.source.targets(batch)
        full = f"{self.name}.logits"
        if full not in said:
            return said
        vectors = said[full]
        return Targets({**said.signals, full: vectors @ self._matrix.to(vectors.device)}, said.support)
