"""From a trained student to a folder that ships: ONNX, INT8, parity, the artefact."""

from __future__ import annotations

from understudy.export.artefact import write_artefact
from understudy.export.exits import parts_to_onnx, quantise_parts
from understudy.export.graph import to_onnx
from understudy.export.parity import parity, vector_parity
from understudy.export.quantise import fold, quantise_dynamic, quantise_static
from understudy.export.sensitivity import Group, sensitivities
from understudy.export.single import single_file
from understudy.export.static import static_tensors, static_values

__all__ = [
    "Group",
    "fold",
    "parity",
    "parts_to_onnx",
    "quantise_dynamic",
    "quantise_parts",
    "quantise_static",
    "sensitivities",
    "single_file",
    "static_tensors",
    "static_values",
    "to_onnx",
    "vector_parity",
    "write_artefact",
]
