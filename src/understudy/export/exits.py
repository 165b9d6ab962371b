"""A student with exits as one ONNX file per part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from understudy.export.graph import to_onnx
from understudy.export.quantise import quantise_dynamic, quantise_static
from understudy.runtime.graph import GraphModel
from understudy.students import Exits

CARRIED = ("attention_mask",)
"""Inputs that every part reads, where they are given; all others are read by the first."""


def parts_to_onnx(module: Exits, example: Mapping[str, Tensor], folder: Path) -> list[Path]:
    """Exports every part in fp32, each proven against its module on other shapes than the example's.

    Args:
        module: a student with exits.
        example: real rows by input name, as `to_onnx` wants them.
        folder: where ``model.0.onnx``, ``model.1.onnx`` ... are written.

    Raises:
        GateError: a part whose graph differs from its module by more than 1e-3.
    """
    paths, inputs = [], dict(example)
    for number, part in enumerate(module.parts()):
        paths.append(folder / f"model.{number}.onnx")
        to_onnx(part, inputs, paths[-1])
        with torch.no_grad():
            said = part(**inputs)
        inputs = {name: value for name, value in inputs.items() if name in CARRIED}
        if "next_state" in said:
            inputs["state"] = said["next_state"]
    return paths


def quantise_parts(
    parts: Sequence[Path], folder: Path, calibration: Sequence[Mapping[str, np.ndarray]] | None = None
) -> list[Path]:
    """INT8 files of the same names in ``folder``.

    Args:
        parts: fp32 files, in order.
        folder: another one.
        calibration: batches of inputs of part 0, for convolutions (`quantise_static`): every further part is
            calibrated on what the INT8 parts before it give for these rows, all of them, as if none had left. None:
            `quantise_dynamic`.

    Raises:
        UsageError: calibration without rows.
    """
    made, batches = [], [dict(batch) for batch in calibration or ()]
    for number, path in enumerate(parts):
        made.append(folder / path.name)
        if calibration is None:
            quantise_dynamic(path, made[-1])
            continue
        quantise_static(path, made[-1], batches)
        if number < len(parts) - 1:
            part = GraphModel(made[-1], threads=1)
            batches = [{"state": part.run(batch)["next_state"]} for batch in batches]
    return made
