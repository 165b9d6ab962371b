"""fp32 ONNX -> INT8 ONNX: dynamic for transformers, static with calibration rows for convolutions.

Dynamic INT8 makes convolutions several times slower, because every activation is measured anew; they need calibration.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from understudy.errors import UsageError, choices
from understudy.export.graph import clean
from understudy.export.static import int8_rows
from understudy.files import write_bytes

RANGES = {"minmax": "MinMax", "percentile": "Percentile"}
_TYPE = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # behind an operator that onnx cannot infer the shapes of


def quantise_dynamic(
    path_in: Path | str,
    path_out: Path | str,
    *,
    keep: Collection[str] = (),
    table_rows: int = 1000,
    reduce_range: bool = False,
) -> None:
    """INT8 weights for matrix products (activations are quantised as they come), embedding tables and recurrent layers.

    onnxruntime has no INT8 form of a GRU: its weights are stored as int8 rows and become floats when the model is
    loaded, so that the file is smaller and the speed the same.

    Args:
        path_in: the fp32 model.
        path_out: the INT8 model, one file.
        keep: names of nodes that stay in fp32 (`export.sensitivity` finds those worth it).
        table_rows: a Gather from a table with more rows than this gets int8 rows, each with its own scale; position
            and segment tables stay as they are.
        reduce_range: 7 bits, for processors without VNNI, whose 8-bit products may overflow.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _workshop(path_in) as (source, target):
        _turn(source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            # a Gemm is taken apart before its name is looked up
            nodes_to_exclude=[*keep, *(f"{name}_MatMul" for name in keep)],
            extra_options=_TYPE,
        )
        graph = onnx.load(str(target))
    _quantise_tables(graph.graph, table_rows)
    _store_recurrent(graph.graph)
    clean(graph)
    write_bytes(path_out, graph.SerializeToString())


def quantise_static(
    path_in: Path | str,
    path_out: Path | str,
    calibration: Iterable[Mapping[str, np.ndarray]],
    *,
    keep: Collection[str] = (),
    ranges: str = "minmax",
) -> None:
    """INT8 weights and activations for Conv, Gemm and MatMul, in the QDQ form; weights per channel.

    The logits themselves are not rounded: 8 bits of them would cost more than all other roundings together.

    Args:
        path_in: the fp32 model.
        path_out: the INT8 model, one file.
        calibration: batches of inputs by name, from training or validation rows (never from the test split): the range
            of every activation is the range that it has on these.
        keep: names of nodes, as `fold` leaves them, that stay in fp32.
        ranges: ``minmax`` (everything that was seen) or ``percentile`` (all but the most extreme 0.001 %).

    Raises:
        UsageError: there is no calibration batch, or no such way to choose a range.
    """
    if ranges not in RANGES:
        raise UsageError(f'no way to choose ranges "{ranges}": {choices(ranges, RANGES)}')
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    batches = [dict(batch) for batch in calibration]
    if not batches:
        raise UsageError("static INT8 needs calibration rows, got none; give a few hundred rows of the training split")
    with _workshop(path_in) as (source, target):
        folded = source.with_name("folded.onnx")
        _fold(source, folded)
        quantize_static(
            folded,
            target,
            _Rows(batches),
            quant_format=QuantFormat.QDQ,
            # The last two only pass INT8 on, which spares a conversion to float and back between convolutions.
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "Relu", "MaxPool"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, RANGES[ranges]),
            nodes_to_exclude=list(keep),
            extra_options=_TYPE,
        )
        graph = onnx.load(str(target))
    _exact_logits(graph.graph)
    clean(graph)
    write_bytes(path_out, graph.SerializeToString())


def fold(path_in: Path | str, path_out: Path | str) -> None:
    """The fp32 model as `quantise_static` sees it: batch normalisation inside its convolution, constants worked out."""
    with _workshop(path_in) as (source, target):
        _fold(source, target)
        write_bytes(path_out, target.read_bytes())


def _fold(source: Path, target: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Otherwise a convolution's weights are rounded before batch normalisation scales them.
    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)


def _exact_logits(graph: onnx.GraphProto) -> None:
    """Takes the rounding of the logits out: [producer] -> Q -> DQ -> logits becomes [producer] -> logits."""
    made = {name: node for node in graph.node for name in node.output}
    back = made.get("logits")
    there = made.get(back.input[0]) if back is not None and back.op_type == "DequantizeLinear" else None
    if back is None or there is None or there.op_type != "QuantizeLinear":
        return
    source = made[there.input[0]]
    readers = [node for node in graph.node if there.input[0] in node.input or there.output[0] in node.input]
    if len(readers) != 2:  # somebody else reads it too
        return
    source.output[list(source.output).index(there.input[0])] = "logits"
    graph.node.remove(there)
    graph.node.remove(back)
    _drop_unused(graph)


class _Rows:
    """Calibration batches in the form that the quantiser asks for them; it also wants to go back to the start."""

    def __init__(self, batches: list[dict[str, np.ndarray]]) -> None:
        self._batches = batches
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)

    def rewind(self) -> None:
        self._left = iter(self._batches)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter(self._batches)


def _turn(source: Path) -> None:
    """Weights that a node transposes as they are: a head that is tied to its table. The quantiser sees no weight there.

    Written anew only where there are any.
    """
    graph = onnx.load(str(source))
    weights = {tensor.name: tensor for tensor in graph.graph.initializer if len(tensor.dims) == 2}
    turned = [node for node in graph.graph.node if node.op_type == "Transpose" and node.input[0] in weights]
    for node in turned:
        values = np.ascontiguousarray(numpy_helper.to_array(weights[node.input[0]]).T)
        graph.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.graph.node.remove(node)
    if turned:
        _drop_unused(graph.graph)
        source.write_bytes(graph.SerializeToString())


def _quantise_tables(graph: onnx.GraphProto, table_rows: int) -> None:
    """Gather(float [V, d]) -> Mul(Cast(Gather(int8 [V, d])), Gather(scale [V, 1])).

    The quantiser of onnxruntime has one scale for a whole table, even with ``per_channel``.
    """
    tables = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2 and tensor.dims[0] > table_rows
    }
    nodes: list[onnx.NodeProto] = []
    rewritten: set[str] = set()
    for node in graph.node:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if node.op_type != "Gather" or node.input[0] not in tables or axis != 0:
            nodes.append(node)
            continue
        table, ids = node.input
        rewritten.add(table)
        out = node.output[0]
        nodes += [
            helper.make_node("Gather", [f"{table}.int8", ids], [f"{out}.int8"], name=f"{out}.rows", axis=0),
            helper.make_node("Cast", [f"{out}.int8"], [f"{out}.float"], name=f"{out}.cast", to=onnx.TensorProto.FLOAT),
            helper.make_node("Gather", [f"{table}.scale", ids], [f"{out}.scale"], name=f"{out}.scales", axis=0),
            helper.make_node("Mul", [f"{out}.float", f"{out}.scale"], [out], name=f"{out}.scaled"),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    _to_rows(graph, [tables[name] for name in sorted(rewritten)])


def _store_recurrent(graph: onnx.GraphProto) -> None:
    """Weights [rows, d] of GRU, LSTM and RNN nodes, behind whatever reorders them -> Mul(Cast(int8 rows), scales).

    The session folds constants, these among them, when it is made. (It would not fold a DequantizeLinear.)
    """
    made_by = {name: node for node in graph.node for name in node.output}
    matrices = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2
    }
    left = [name for node in graph.node if node.op_type in ("GRU", "LSTM", "RNN") for name in node.input[1:3]]
    found: dict[str, onnx.TensorProto] = {}
    while left:
        name = left.pop()
        if name in matrices:
            found[name] = matrices[name]
        elif name in made_by:
            left.extend(made_by[name].input)
    nodes = []
    for name in sorted(found):
        nodes += [
            helper.make_node("Cast", [f"{name}.int8"], [f"{name}.float"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [name]),
        ]
    nodes += list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    _to_rows(graph, [found[name] for name in sorted(found)])


def _to_rows(graph: onnx.GraphProto, matrices: list[onnx.TensorProto]) -> None:
    """Adds ``NAME.int8`` [V, d] and ``NAME.scale`` [V, 1] for float initialisers [V, d]; drops those no longer read."""
    for matrix in matrices:
        rows, scale = int8_rows(numpy_helper.to_array(matrix))
        graph.initializer.append(numpy_helper.from_array(rows, f"{matrix.name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scale[:, None], f"{matrix.name}.scale"))
    _drop_unused(graph)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Initialisers that nobody reads any more, or that a node makes now."""
    made = {name for node in graph.node for name in node.output}
    used = {name for node in graph.node for name in node.input} | {node.name for node in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used and tensor.name not in made]
    del graph.initializer[:]
    graph.initializer.extend(kept)


@contextmanager
def _workshop(path_in: Path | str) -> Iterator[tuple[Path, Path]]:
    """Source and target in a temporary folder: the quantiser leaves files beside its input, more so when it fails."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it logs advice to the root logger
    try:
        with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
            source = Path(folder) / "in.onnx"
            source.write_bytes(Path(path_in).read_bytes())
            yield source, Path(folder) / "out.onnx"
    finally:
        root.setLevel(level)
