"""An ONNX model behind one function: features in, logits out, on a declared number of threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding import Encoder
from understudy.errors import ArtefactError
from understudy.extras import require
from understudy.passages import NEVER
from understudy.ragged import Ragged, at_places, in_order


class GraphModel:
    """An onnxruntime session on the processor.

    Args:
        path: the model, one file.
        threads: threads inside an operator; operators run one after the other.

    Raises:
        ArtefactError: the file is not a model that this onnxruntime can run.
        UsageError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        runtime = require("onnxruntime", package="onnxruntime", why="running an ONNX model")
        options = runtime.SessionOptions()
        # Left to itself a session takes every core of the host, whatever was declared beside the latency.
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the package raises its own classes, which differ between versions
            raise ArtefactError(f"onnxruntime cannot load {path}: {str(error).splitlines()[0]}") from error
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._outputs = [node.name for node in self._session.get_outputs()]
        if "logits" not in self._outputs:
            raise ArtefactError(f'{path} has no output "logits"; it has {", ".join(self._outputs)}')

    def logits(self, encoder: Encoder, features: Any, *, batch: int) -> Any:
        """float32 [N, K]; of sentences a `Ragged` with a row of K for every word that there was room for; of hidden
        tokens the encoder's own sums, [N, 3].

        Rows of like length go together, so that little is spent on padding.
        """
        found: np.ndarray | None = None
        words: list[tuple[np.ndarray, Ragged]] = []
        for rows, inputs in batches(encoder, features, batch):
            logits = self.run(inputs)["logits"]
            if logits.ndim == 3:
                answering: Any = encoder
                if not hasattr(answering, "reduced"):
                    words.append((rows, at_places(logits, answering.places(features, rows), NEVER)))
                    continue
                logits = answering.reduced(features, rows, logits)
            if found is None:
                found = np.empty((len(features), logits.shape[1]), logits.dtype)
            found[rows] = logits
        if words:
            return in_order(words)
        assert found is not None
        return found

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The model's outputs by name; inputs that it does not read are left aside.

        Raises:
            ArtefactError: an input that it wants is not there, or the model cannot be run on these.
        """
        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            raise ArtefactError(f"the model wants {missing[0]}, which its encoder does not give: {', '.join(inputs)}")
        try:
            said = self._session.run(self._outputs, {name: inputs[name] for name in self._inputs})
        except Exception as error:
            raise ArtefactError(f"onnxruntime could not run the model: {str(error).splitlines()[0]}") from error
        return {name: np.asarray(value) for name, value in zip(self._outputs, said, strict=True)}


def batches(encoder: Encoder, features: Any, batch: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Row numbers and inputs of every batch; rows of like length go together."""
    order = np.argsort(encoder.lengths(features), kind="stable")
    batch = min(batch, getattr(encoder, "most_rows", batch))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        yield rows, encoder.collate(features, rows)
