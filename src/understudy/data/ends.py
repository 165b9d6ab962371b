"""Batches whose rows are questions: both ends of each answer, and which word of a text stands where for which model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from understudy.passages import ends_of

if TYPE_CHECKING:
    from understudy.data.feed import Feed

Array = np.ndarray[Any, Any]


class Ends:
    """Where answers begin and end. Every model answers every word of a text, whatever windows it reads.

    Args:
        labels: objects [N], `passages.Gold` or None.
        encoders: of every model.
        features: of every row, by the name of the model.
    """

    def __init__(self, labels: Array, encoders: Mapping[str, Any], features: Mapping[str, Any]) -> None:
        self.targets, self.encoders, self.features = ends_of(labels), encoders, features
        first = next(iter(encoders))
        self.most = np.asarray(encoders[first].answered(features[first]))

    def batch(
        self, feed: Feed, rows: Array, examples: Array, labelled: Array
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Words int64 [N, 2], ``places`` [N, 2, W] of every model and the masks ``ends`` and ``labelled`` [N, 2].

        Args:
            feed: whose rows they are.
            rows: [N] their numbers.
            examples: [N] weights of the rows.
            labelled: [N] the same, 0 where a row has no answer.
        """
        width = int(self.most[rows].max())
        places = {
            name: torch.from_numpy(encoder.places(self.features[name], rows, width))
            for name, encoder in self.encoders.items()
        }
        masks = {"ends": examples, "labelled": labelled}
        both = {name: torch.from_numpy(np.repeat(mask[:, None], 2, axis=1)) for name, mask in masks.items()}
        return torch.from_numpy(self.targets[rows]), places, both
