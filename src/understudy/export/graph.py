"""PyTorch -> one ONNX file in fp32, with any batch size and any length."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from understudy.errors import GateError, UsageError, choices
from understudy.export.fusing import fuse_gelu
from understudy.files import write_bytes

AXES = {
    "input_ids": {0: "N", -1: "L"},
    "part_ids": {0: "N", 1: "L"},
    "attention_mask": {0: "N", -1: "L"},
    "token_type_ids": {0: "N", -1: "L"},
    "places": {0: "N", -1: "P"},
    "owners": {0: "N"},
    "pixels": {0: "N"},
    "features": {0: "N"},
    "state": {0: "N", 1: "L"},
    "next_state": {0: "N", 1: "L"},
}
"""Dimensions that vary: of ids the last is their length, whether a row is one text or two. A state goes from one part
of a model with exits to the next: [N, L, D], or [N, C, H, W] of which only N varies."""
OUTPUTS = ("logits", "next_state")
_SHAPES = ({"N": 1, "L": 5, "P": 2}, {"N": 3, "L": 17, "P": 5}, {"N": 5, "L": 2, "P": 1})
_TOLERANCE = 1e-3


def to_onnx(module: nn.Module, example: Mapping[str, Tensor], path: Path | str, *, opset: int = 18) -> None:
    """Export a classifier, and prove on other shapes than the example's that the file says what the module says.

    Args:
        module: ``module(**example)`` gives logits [N, K], of words [N, L, K], at places [N, P, K], or something with
            ``logits``.
            A part of a model with exits (a mapping with ``next_state``) has both as outputs.
        example: real rows by input name: ``input_ids``, ``attention_mask``, ``token_type_ids`` int64 [N, L], or
            [N, 2, L] of pairs, ``places`` int64 [N, P], ``owners`` int64 [N] of windows, ``part_ids`` int64 [N, L, P],
            ``pixels`` uint8 [N, C, H, W], or the ``state`` of the part before, float32.
        path: the file; its output is ``logits`` float32 [N, K], and ``next_state`` where there is one.
        opset: the ONNX operator set.

    Raises:
        UsageError: an input that has no place in an ONNX artefact.
        GateError: the exported graph differs from the module by more than 1e-3 on some shape.
    """
    unknown = [name for name in example if name not in AXES]
    if unknown or not example:
        raise UsageError(f'cannot export the input "{"".join(unknown[:1])}": {choices("".join(unknown[:1]), AXES)}')
    training = module.training
    module.eval()
    try:
        with _eager(module), torch.no_grad():
            graph = _export(module, _at_least_two(example), opset)
            write_bytes(path, graph.SerializeToString())
            _prove(module, example, Path(path))
    except GateError:
        Path(path).unlink(missing_ok=True)
        raise
    finally:
        module.train(training)


def clean(graph: onnx.ModelProto) -> None:
    """Strip what must not ship or confuses the quantiser: traces with local paths, and recorded shapes.

    The quantiser retypes weights and then trips over the ``value_info`` that still calls them float.
    """
    graph.ClearField("metadata_props")
    graph.ClearField("doc_string")
    graph.graph.ClearField("value_info")
    graph.graph.ClearField("doc_string")
    graph.graph.ClearField("metadata_props")
    for thing in (*graph.graph.node, *graph.graph.initializer, *graph.graph.input, *graph.graph.output):
        thing.ClearField("metadata_props")
        thing.ClearField("doc_string")
    for function in graph.functions:
        for part in (function, *function.node):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")


class _Plain(nn.Module):
    """Positional inputs in, tensors out: the form that every exporter understands."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.names = module, names

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        said: Any = self.module(**dict(zip(self.names, values, strict=True)))
        if isinstance(said, Tensor):
            return (said.float(),)
        said = said if isinstance(said, Mapping) else {"logits": said.logits}
        return tuple(said[name].float() for name in OUTPUTS if name in said)


def _axes(name: str, value: Tensor) -> dict[int, str]:
    return {place % value.ndim: axis for place, axis in AXES[name].items() if axis == "N" or value.ndim < 4}


def _export(module: nn.Module, example: Mapping[str, Tensor], opset: int) -> onnx.ModelProto:
    names = tuple(example)
    axes = {name: _axes(name, value) for name, value in example.items()}
    shapes = tuple(dict.fromkeys(axes[name], torch.export.Dim.DYNAMIC) for name in names)
    # A fresh wrapper is in training mode, whatever it wraps; the exporter would put that mode back.
    plain = _Plain(module, names).eval()
    outputs = dict(zip(OUTPUTS, plain(*example.values()), strict=False))
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder, _quiet():
        draft = Path(folder) / "model.onnx"
        torch.onnx.export(
            plain,
            tuple(example.values()),
            str(draft),
            input_names=list(names),
            output_names=list(outputs),
            opset_version=opset,
            dynamo=True,
            dynamic_shapes=(shapes,),
            external_data=False,
            verbose=False,
        )
        graph = onnx.load(str(draft))
    clean(graph)
    fuse_gelu(graph)
    axes |= {name: _axes(name, value) for name, value in outputs.items() if name == "next_state"}
    for node in (*graph.graph.input, *graph.graph.output):
        for place, axis in axes.get(node.name, {0: "N"}).items():
            node.type.tensor_type.shape.dim[place].dim_param = axis
    return graph


def _prove(module: nn.Module, example: Mapping[str, Tensor], path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    plain = _Plain(module, tuple(example)).eval()
    for shape in _SHAPES:
        rows = {name: _resized(value, _axes(name, value), shape) for name, value in example.items()}
        said = dict(zip(OUTPUTS, (value.cpu().numpy() for value in plain(*rows.values())), strict=False))
        answers = session.run(list(said), {name: value.cpu().numpy() for name, value in rows.items()})
        for (name, wanted), got in zip(said.items(), answers, strict=True):
            error = float(np.abs(wanted - got).max()) if wanted.shape == got.shape else float("inf")
            if not error <= _TOLERANCE * max(1.0, float(np.abs(wanted).max())):
                sizes = ", ".join(f"{name} {list(value.shape)}" for name, value in rows.items())
                raise GateError(f"the exported graph differs from the module by {error:.3g} ({name}) on {sizes}")


def _at_least_two(example: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The example with at least two rows and columns: the exporter takes a size of 1 for a constant."""
    axes = {name: _axes(name, value) for name, value in example.items()}
    sizes = {axis: max(2, example[name].shape[place]) for name in example for place, axis in axes[name].items()}
    return {name: _resized(value, axes[name], sizes) for name, value in example.items()}


def _resized(value: Tensor, axes: Mapping[int, str], sizes: Mapping[str, int]) -> Tensor:
    """The same rows, repeated or cut to other sizes."""
    for place, axis in axes.items():
        value = value.index_select(place, torch.arange(sizes[axis], device=value.device) % value.shape[place])
    return value.contiguous()


@contextmanager
def _eager(module: nn.Module) -> Iterator[None]:
    """Plain attention while exporting: a quarter fewer nodes, and no guard against rows without any key."""
    host: Any = next((part for part in module.modules() if hasattr(part, "set_attn_implementation")), None)
    implementation = getattr(getattr(host, "config", None), "_attn_implementation", None)
    if host is None or implementation is None:
        yield
        return
    host.set_attn_implementation("eager")
    try:
        yield
    finally:
        host.set_attn_implementation(implementation)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports on optional packages and on its own progress; none of it is news to the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
