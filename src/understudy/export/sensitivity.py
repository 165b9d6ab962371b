"""Which nodes of a graph INT8 hurts most: found by leaving each group of them in fp32 in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from understudy.runtime.graph import GraphModel

Quantise = Callable[[Path, Sequence[str]], object]
MOST_GROUPS = 32  # each costs one quantising and one pass over the rows


@dataclass(frozen=True)
class Group:
    """Nodes that stay in fp32 together.

    Attributes:
        name: after the weights or biases that they touch.
        nodes: their names in the graph.
        error: mean squared difference of the logits from fp32 with these nodes, and only these, kept exact; of logits
            of words, at words that there are.
    """

    name: str
    nodes: tuple[str, ...]
    error: float


def sensitivities(
    exact: Path,
    quantise: Quantise,
    batches: Sequence[Mapping[str, np.ndarray]],
    *,
    kinds: Sequence[str] = ("MatMul", "Gemm"),
    most: int = MOST_GROUPS,
) -> list[Group]:
    """Groups of nodes, the one first that is best kept in fp32.

    Args:
        exact: the fp32 model; of convolutions as `fold` leaves it.
        quantise: (file, names of nodes to keep) writes the INT8 model.
        batches: inputs by name, a few hundred rows that were not trained on.
        kinds: operators that INT8 is for; only those with a constant weight count.
        most: nodes that follow each other go into one group where there would be more groups than this.
    """
    found = candidates(exact, kinds=kinds)
    size = -(-len(found) // most) if found else 1
    groups = [found[start : start + size] for start in range(0, len(found), size)]
    measured = []
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        path = Path(folder) / "model.onnx"
        for group in groups:
            names = [name for name, _ in group]
            quantise(path, names)
            measured.append(Group(_title([title for _, title in group]), tuple(names), _error(path, exact, batches)))
    return sorted(measured, key=lambda group: group.error)


def candidates(path: Path, *, kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Name and title of every node with a constant weight, in the order of the graph."""
    graph = onnx.load(str(path)).graph
    constant = {tensor.name for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in graph.node:
        if node.op_type not in kinds or len(node.input) < 2 or node.input[1] not in constant:
            continue
        near = [*node.input, *(name for after in readers.get(node.output[0], []) for name in after.input)]
        named = [name for name in near if name in constant and name.rpartition(".")[2] in ("weight", "bias")]
        found.append((node.name, named[0].removeprefix("module.").rpartition(".")[0] if named else node.name))
    return found


def _error(path: Path, exact: Path, batches: Sequence[Mapping[str, np.ndarray]]) -> float:
    """Batch by batch and both models side by side: of a whole vocabulary no more is ever held than one batch."""
    rounded, wanted = (GraphModel(one, threads=1) for one in (path, exact))
    total, count = 0.0, 0
    for batch in batches:
        apart = (rounded.run(batch)["logits"] - wanted.run(batch)["logits"]).astype(np.float64)
        there = batch.get("attention_mask")
        if apart.ndim == 3 and there is not None and there.shape == apart.shape[:2]:
            apart = apart[there > 0]
        total, count = total + float((apart**2).sum()), count + apart.size
    return total / max(count, 1)


def _title(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{titles[0]} to {titles[-1]}"
