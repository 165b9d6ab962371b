"""The tensors of a lookup student as the runtime wants them, in 32, 8 or 4 bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from understudy.errors import UsageError
from understudy.runtime.static import dequantised

BITS = (4, 8, 32)


def static_tensors(module: Any, *, bits: int = 8) -> dict[str, np.ndarray]:
    """The content of ``static.safetensors``; see `understudy.runtime.static` for what they stand for.

    Every row of the table has its own scale: with one for all, a few long vectors would round the short ones, which are
    most of them, to nothing. The head has 8 bits a row, the tokens' weights are 8-bit codes of their logarithms.

    A head that is one matrix is multiplied into the table where that makes the rows shorter (fewer classes than
    dimensions): what ships is a vector of class scores for every token. Not of pairs, whose head is more than a sum.

    Args:
        module: has ``table.weight`` [V, d], ``weights`` [V] (logarithms), and perhaps ``output`` and ``hidden`` (linear
            layers), and ``texts``, 2 of pairs.
        bits: of the table: 8; 4, two values a byte; or 32, everything exact, which parity is measured against.

    Raises:
        UsageError: another number of bits.
    """
    if bits not in BITS:
        raise UsageError(f"a static table has 4, 8 or 32 bits, got {bits}")
    table, logarithms = _array(module.table.weight), _array(module.weights).reshape(-1)
    layers = {name: getattr(module, name) for name in ("hidden", "output") if hasattr(module, name)}
    tensors = {f"{name}.bias": _array(layer.bias) for name, layer in layers.items()}
    texts = getattr(module, "texts", 1)
    if texts == 2:
        tensors["texts"] = np.array([2], np.uint8)
    elif not layers:  # what is pooled is the answer
        tensors["output.bias"] = np.zeros(table.shape[1], np.float32)
    elif "hidden" not in layers and len(tensors["output.bias"]) < table.shape[1]:
        table = (table.astype(np.float64) @ _array(layers.pop("output").weight).astype(np.float64).T).astype(np.float32)
    heads = {name: _array(layer.weight) for name, layer in layers.items()}
    if bits == 32:
        tensors |= {f"{name}.weight": head for name, head in heads.items()}
        return tensors | {"table": table, "scale": np.ones(len(table), np.float32), "weights": np.exp(logarithms)}
    for name, head in heads.items():
        tensors[f"{name}.weight"], tensors[f"{name}.scale"] = int8_rows(head)
    tensors["weights"], tensors["weights.range"] = _codes(logarithms)
    rows, tensors["scale"] = _quantised(table, bits=bits)
    tensors["table"] = rows if bits == 8 else packed(rows)
    return tensors


def static_values(module: Any, *, bits: int = 8) -> dict[str, np.ndarray]:
    """The module's own parameters, by name, as the runtime reads them back from `static_tensors`.

    Raises:
        UsageError: a head that ships inside the table: then no parameter of the module is what is stored.
    """
    found = dequantised(static_tensors(module, bits=bits))
    if "output.weight" not in found and hasattr(module, "output"):
        raise UsageError("this student ships as a vector of scores for every token: its own table is not stored")
    found["table.weight"], found["weights"] = found.pop("table"), np.log(found["weights"])
    return found


def int8_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An int8 [V, d] and a float32 scale [V] with table ~ int8 * scale; the error is at most half a scale.

    >>> int8_rows(np.array([[1.0, -0.5], [0.0, 0.0]]))[0].tolist()
    [[127, -64], [0, 0]]
    """
    scale = _usable(np.abs(table).max(axis=1, initial=0).astype(np.float32) / 127)
    return np.clip(np.rint(table / scale[:, None]), -127, 127).astype(np.int8), scale


def int4_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An int8 [V, d] in -8..7 and a float32 scale [V], of either sign, with table ~ int8 * scale.

    The sign makes the longest entry of a row -8, so that all sixteen values are of use. The error is at most half a
    scale, but a whole one where the row reaches as far on the other side.

    >>> int4_rows(np.array([[0.5, -0.25], [-2.0, 0.5]]))[0].tolist()
    [[-8, 4], [-8, 2]]
    """
    longest = np.take_along_axis(table, np.abs(table).argmax(axis=1)[:, None], axis=1)[:, 0].astype(np.float32)
    scale = _usable(longest / -8)
    return np.clip(np.rint(table / scale[:, None]), -8, 7).astype(np.int8), scale


def packed(rows: np.ndarray) -> np.ndarray:
    """uint8 [V, ceil(d / 2)] of int8 [V, d] in -8..7: 8 is added, and the first of two values is the lower half.

    >>> packed(np.array([[-8, 7, 0]], np.int8)).tolist()
    [[240, 136]]
    """
    halves = np.full((len(rows), -(-rows.shape[1] // 2) * 2), 8, np.uint8)
    halves[:, : rows.shape[1]] = (rows + 8).astype(np.uint8)
    return halves[:, 0::2] | halves[:, 1::2] << 4


def _usable(scale: np.ndarray) -> np.ndarray:
    """The scales, and 1 for rows so short that nothing can be divided by theirs: they become zeros."""
    return np.where(np.abs(scale) >= np.finfo(np.float32).tiny, scale, 1).astype(np.float32)


def _quantised(table: np.ndarray, *, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 [V, d] and its scales, in float16 where that can carry them; the rows are rounded to what it then gives.

    A row too short for float16 gets its smallest ordinary number as its scale, an error of 3e-5 at most.
    """
    rows, scale = int8_rows(table) if bits == 8 else int4_rows(table)
    size = np.abs(scale[table.any(axis=1)])
    if not 2.0**-8 <= size.max(initial=0) <= 60_000:
        return rows, scale
    halves = np.copysign(np.maximum(np.abs(scale), 2.0**-14), scale).astype(np.float16)
    again = np.rint(table / halves.astype(np.float32)[:, None])
    return np.clip(again, *((-127, 127) if bits == 8 else (-8, 7))).astype(np.int8), halves


def _codes(logarithms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [V] and float32 [low, step] with logarithms ~ low + step * code."""
    low = float(logarithms.min())
    step = max((float(logarithms.max()) - low) / 255, 1e-6)
    return np.rint((logarithms - low) / step).astype(np.uint8), np.array([low, step], np.float32)


def _array(tensor: Any) -> np.ndarray:
    found: np.ndarray = tensor.detach().to("cpu").float().numpy().copy()
    return found
