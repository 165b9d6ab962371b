"""An ONNX model behind one function: features in, logits out, on a declared number of threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding import Encoder
from understudy.errors import ArtefactError
from understudy.extras import require


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

    def logits(self, encoder: Encoder, features: Any, *, batch: int) -> np.ndarray:
        """float32 [N, K]; rows of like length go together, so that little is spent on padding."""
        order = np.argsort(encoder.lengths(features), kind="stable")
        found = [self._run(encoder.collate(features, order[i : i + batch])) for i in range(0, len(order), batch)]
        logits = np.concatenate(found)
        back = np.empty_like(logits)
        back[order] = logits
        return back

    def _run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            raise ArtefactError(f"the model wants {missing[0]}, which its encoder does not give: {', '.join(inputs)}")
        try:
            return np.asarray(self._session.run(["logits"], {name: inputs[name] for name in self._inputs})[0])
        except Exception as error:
            raise ArtefactError(f"onnxruntime could not run the model: {str(error).splitlines()[0]}") from error
