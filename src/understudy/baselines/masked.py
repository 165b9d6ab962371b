"""What hidden tokens are held against: how often each occurs."""

from __future__ import annotations

import time

import numpy as np

from understudy.baselines.fitted import Array, Baseline, Inputs, finished
from understudy.data import Splits
from understudy.encoding import MaskedEncoder

_ROWS = 4096  # at once


def unigrams(splits: Splits, encoder: MaskedEncoder) -> Baseline:
    """The share that each sub-word has of the training corpus, whatever stands around; one that is not there counts 1.

    Its numbers of a row are those of every model: `encoding.masked.weighed`.

    Args:
        splits: texts.
        encoder: what is hidden of them.
    """
    start = time.perf_counter()
    counts = encoder.counts(encoder.encode(splits.train.inputs)) + 1.0
    counts[list(encoder.special_ids)] = 0.0
    loss = -np.log(np.maximum(counts, 1e-12) / counts.sum())
    best = int(counts.argmax())

    def predict(inputs: Inputs) -> Array:
        features = encoder.encode(inputs)
        found = []
        for first in range(0, len(features), _ROWS):
            said = encoder.masked(features, range(first, min(first + _ROWS, len(features))))[1]
            there = said >= 0
            each = np.where(there, loss[np.maximum(said, 0)], 0.0)
            found.append(np.stack([there.sum(1), each.sum(1), (said == best).sum(1)], axis=1))
        return np.concatenate(found) if found else np.zeros((0, 3))

    seen = int((counts > 1).sum())
    return finished("unigrams", splits, predict, start, size=4 * seen, parameters=seen)
