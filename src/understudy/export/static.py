"""The tensors of a static student as the runtime wants them."""

from __future__ import annotations

from typing import Any

import numpy as np

from understudy.errors import UsageError


def static_tensors(module: Any, *, bits: int = 8) -> dict[str, np.ndarray]:
    """The content of ``static.safetensors``; see `understudy.runtime.StaticModel` for the formula.

    The table has one scale per row (max |v| / 127): with one scale for all, a few long vectors would round the short
    ones, which are most of them, to nothing.

    Args:
        module: has ``table.weight`` [V, d], ``weights`` [V] (logarithms), ``hidden`` and ``output`` (linear layers).
        bits: 8 for the table that ships, 32 for the exact one that parity is measured against.
    """
    if bits not in (8, 32):
        raise UsageError(f"a static table has 8 or 32 bits, got {bits}")
    table = _array(module.table.weight)
    scale = np.ones(len(table), np.float32)
    if bits == 8:
        table, scale = int8_rows(table)
    return {
        "table": table,
        "scale": scale,
        "weights": np.exp(_array(module.weights)).reshape(-1),
        "hidden.weight": _array(module.hidden.weight),
        "hidden.bias": _array(module.hidden.bias),
        "output.weight": _array(module.output.weight),
        "output.bias": _array(module.output.bias),
    }


def int8_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An int8 [V, d] and a float32 scale [V] with table ~ int8 * scale; the error is at most half a scale.

    >>> int8_rows(np.array([[1.0, -0.5], [0.0, 0.0]]))[0].tolist()
    [[127, -64], [0, 0]]
    """
    most = np.abs(table).max(axis=1, initial=0).astype(np.float32)
    scale = np.where(most > 0, most / 127, 1).astype(np.float32)
    return np.clip(np.rint(table / scale[:, None]), -127, 127).astype(np.int8), scale


def _array(tensor: Any) -> np.ndarray:
    return tensor.detach().to("cpu").float().numpy().copy()
