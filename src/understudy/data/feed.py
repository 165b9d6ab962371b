"""A feed: rows encoded once for every model that will look at them, handed out as batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from understudy.data.examples import Examples
from understudy.encoding import Encoder
from understudy.records import Batch

View = Callable[..., Any]


class Feed:
    """Examples with each model's own encoding of them.

    Args:
        examples: the rows; label -1 marks a row without one, which counts in soft terms and not in hard ones.
        encoders: model name -> encoder (``{"student": ..., "teacher": ...}``); each encodes all rows once, here.
        class_weights: [K] weight of a labelled row by its class, default 1.
        view: ``view(features, keys, epoch=...)`` on the student's pixels, a pure function (see ``data.views``).
    """

    def __init__(
        self,
        examples: Examples,
        encoders: Mapping[str, Encoder],
        *,
        class_weights: np.ndarray[Any, Any] | None = None,
        view: View | None = None,
    ) -> None:
        self.examples = examples
        self.encoders = dict(encoders)
        self.features = {name: encoder.encode(examples.inputs) for name, encoder in encoders.items()}
        self.view = view
        labels = np.array(examples.labels, dtype=np.int64)
        known = labels >= 0
        weights = known.astype(np.float32)
        if class_weights is not None:
            weights[known] = np.asarray(class_weights, dtype=np.float32)[labels[known]]
        self.labels = torch.from_numpy(labels)
        self.label_weights = torch.from_numpy(weights)
        first = next(iter(encoders))
        self.lengths = np.asarray(encoders[first].lengths(self.features[first]), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, rows: np.ndarray[Any, Any], *, fillers: int = 0, epoch: int = 0) -> Batch:
        """The rows as one batch; the last ``fillers`` of them weigh nothing in any term."""
        keys = tuple(self.examples.keys[i] for i in rows)
        inputs = {name: self._encoded(name, rows, keys, epoch) for name in self.features}
        chosen = torch.from_numpy(rows)
        examples = torch.ones(len(rows))
        labelled = self.label_weights[chosen]
        if fillers:
            examples[-fillers:] = 0
            labelled = labelled * examples
        masks = {"examples": examples, "labelled": labelled}
        attention = next(iter(inputs.values())).get("attention_mask")
        if attention is not None:
            masks["tokens"] = attention * examples[:, None]
        return Batch(keys=keys, inputs=inputs, labels=self.labels[chosen], masks=masks, epoch=epoch)

    def _encoded(self, name: str, rows: np.ndarray[Any, Any], keys: tuple[str, ...], epoch: int) -> dict[str, Any]:
        arrays = self.encoders[name].collate(self.features[name], rows)
        if self.view is not None and "pixels" in arrays:
            arrays = {**arrays, "pixels": self.view(arrays["pixels"], keys, epoch=epoch)}
        return {key: torch.from_numpy(array) for key, array in arrays.items()}
