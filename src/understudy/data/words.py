"""Batches whose rows are sentences: the tags of their words, and which word stands where for which model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from understudy.ragged import Ragged

if TYPE_CHECKING:
    from understudy.data.feed import Feed

Array = np.ndarray[Any, Any]
TEACHER = "teacher"  # whom labels do not wait for


@dataclass(frozen=True)
class Words:
    """How many words of each row count, [N].

    Attributes:
        taught: those that all models answer, the teacher too.
        learnt: those that all learners answer.
        most: those that any model answers.
    """

    taught: Array
    learnt: Array
    most: Array

    @classmethod
    def of(cls, encoders: Mapping[str, Any], features: Mapping[str, Any], answered: Array | None) -> Words:
        """From what each model's encoding had room for; ``answered`` of a teacher that is not among them."""
        each = {name: np.asarray(encoder.answered(features[name])) for name, encoder in encoders.items()}
        learnt = np.min([rows for name, rows in each.items() if name != TEACHER or len(each) == 1], axis=0)
        every = [*each.values(), *([] if answered is None else [answered])]
        return cls(np.min(every, axis=0), learnt, np.max(every, axis=0))

    def batch(
        self, feed: Feed, rows: Array, examples: Array, labelled: Array
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Tags int64 [N, W], ``places`` of every model and the masks ``words`` and ``labelled`` [N, W] of some rows.

        Args:
            feed: whose rows they are.
            rows: [N] their numbers.
            examples: [N] weights of the rows.
            labelled: [N] the same, 0 where a row has no tags.
        """
        width = max(1, int(self.most[rows].max()))
        place = np.arange(width)
        nothing = np.zeros(0, np.int64)
        tags = Ragged.of([nothing if one is None else one for one in feed.labels[rows]]).padded(-1, width)
        masks = {
            "words": (place < self.taught[rows, None]) * examples[:, None],
            "labelled": ((place < self.learnt[rows, None]) & (tags >= 0)) * labelled[:, None],
        }
        places = {
            name: torch.from_numpy(encoder.places(feed.features[name], rows, width))  # type: ignore[attr-defined]
            for name, encoder in feed.encoders.items()
        }
        return torch.from_numpy(tags), places, {n: torch.from_numpy(m.astype(np.float32)) for n, m in masks.items()}
