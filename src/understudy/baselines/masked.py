"""What hidden tokens, and next ones, are held against: how often each occurs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from understudy.baselines.fitted import Array, Baseline, Inputs, finished
from understudy.data import Splits
from understudy.encoding import CausalEncoder, MaskedEncoder

_ROWS = 4096  # at once


def unigrams(splits: Splits, encoder: MaskedEncoder | CausalEncoder) -> Baseline:
    """The share that each sub-word has of the training corpus, whatever stands around; one that is not there counts 1.

    Its numbers of a row are those of every model: `encoding.masked.weighed`.

    Args:
        splits: texts.
        encoder: what is asked of them.
    """
    start = time.perf_counter()
    asking: Any = encoder
    counts = asking.counts(encoder.encode(splits.train.inputs)) + 1.0
    if isinstance(encoder, MaskedEncoder):
        counts[list(encoder.special_ids)] = 0.0
    loss = -np.log(np.maximum(counts, 1e-12) / counts.sum())
    best = int(counts.argmax())

    def predict(inputs: Inputs) -> Array:
        features = encoder.encode(inputs)
        found = []
        for first in range(0, len(features), _ROWS):
            some = range(first, min(first + _ROWS, len(features)))
            said = asking.masked(features, some)[1]
            there = said >= 0
            each = np.where(there, loss[np.maximum(said, 0)], 0.0)
            sums = np.stack([there.sum(1), each.sum(1), (said == best).sum(1)], axis=1)
            found.append(asking.joined(features, some, sums) if isinstance(encoder, CausalEncoder) else sums)
        return np.concatenate(found) if found else np.zeros((0, 3))

    seen = int((counts > 1).sum())
    return finished("unigrams", splits, predict, start, size=4 * seen, parameters=seen)
