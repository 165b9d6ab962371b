"""A model in parts with a head at the end of each: easy rows leave early, the others go on.

With z the logits of exit k and t_k its temperature, a row leaves there with the answer z / t_k where

    max softmax(z / t_k) >= threshold_k

The last part answers whoever is left.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding import Encoder
from understudy.errors import ArtefactError
from understudy.runtime.graph import GraphModel, batches


class ExitsModel:
    """Consecutive ONNX models; every one but the first goes on from the state that the one before gives.

    Args:
        folder: of the artefact.
        exits: the manifest's ``exits``, in order: ``file``, ``threshold`` (None: nobody leaves there), ``temperature``.
        threads: of each model.

    Raises:
        ArtefactError: entries that cannot be used, or a file that is not a model.
    """

    def __init__(self, folder: Path, exits: Sequence[Mapping[str, Any]], *, threads: int) -> None:
        try:
            files = [str(one["file"]) for one in exits]
            self._temperatures = [float(one["temperature"]) for one in exits]
            self._thresholds = [float("inf") if one["threshold"] is None else float(one["threshold"]) for one in exits]
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"{folder}: its exits cannot be read ({error!r}); export the artefact again") from error
        if not files or min(self._temperatures) <= 0:
            raise ArtefactError(f"{folder}: exits need a part and temperatures above 0; export the artefact again")
        self._parts = [GraphModel(folder / name, threads=threads) for name in files]

    def logits(self, encoder: Encoder, features: Any, *, batch: int) -> np.ndarray:
        """float32 [N, K]: logits of the exit that answered, divided by its temperature."""
        return self.answers(encoder, features, batch=batch)[0]

    def answers(self, encoder: Encoder, features: Any, *, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """`logits`, and int64 [N]: which exit answered, counted from 0."""
        logits: np.ndarray | None = None
        exits = np.zeros(len(features), np.int64)
        for rows, inputs in batches(encoder, features, batch):
            left, inputs = rows, dict(inputs)
            for number, part in enumerate(self._parts):
                said = part.run(inputs)
                scaled = said["logits"] / np.float32(self._temperatures[number])
                if logits is None:
                    logits = np.empty((len(features), scaled.shape[1]), np.float32)
                last = number == len(self._parts) - 1
                leaves = np.full(len(left), True) if last else confidence(scaled) >= self._thresholds[number]
                logits[left[leaves]], exits[left[leaves]] = scaled[leaves], number
                if leaves.all():
                    break
                left = left[~leaves]
                inputs = {name: value[~leaves] for name, value in {**inputs, "state": said["next_state"]}.items()}
        assert logits is not None
        return logits, exits

    def every(self, encoder: Encoder, features: Any, *, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """What every exit says of every row, as if none left, and how long each part took.

        Returns:
            float32 [E, N, K] logits as they come (not divided), and float64 [E] seconds.
        """
        found: np.ndarray | None = None
        seconds = np.zeros(len(self._parts))
        for rows, inputs in batches(encoder, features, batch):
            inputs = dict(inputs)
            for number, part in enumerate(self._parts):
                began = time.perf_counter()
                said = part.run(inputs)
                seconds[number] += time.perf_counter() - began
                if found is None:
                    found = np.empty((len(self._parts), len(features), said["logits"].shape[1]), np.float32)
                found[number, rows] = said["logits"]
                if "next_state" in said:
                    inputs["state"] = said["next_state"]
        assert found is not None
        return found, seconds


def confidence(logits: np.ndarray) -> np.ndarray:
    """float64 [N]: the largest probability of each row; NaN where a logit is not finite.

    >>> confidence(np.array([[0.0, 0.0], [np.log(3.0), 0.0]])).round(2).tolist()
    [0.5, 0.75]
    """
    scores = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        best: np.ndarray = 1.0 / np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)
    return best
