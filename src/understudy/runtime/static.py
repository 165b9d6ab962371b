"""The forward of the lookup families in numpy: look vectors up, pool them, a small head.

Given the ids of a text, with v_i the vector and w_i > 0 the learned weight of token i:

    mean   = sum(w_i v_i) / sum(w_i)            [d]
    most   = elementwise max of the v_i         [d]    where there is a hidden layer
    x      = [mean, most]                       [2 d]  where there is a hidden layer; the mean itself, [d], otherwise
    hidden = relu(W_h x + b_h)                  [h]    where there is one; x itself otherwise
    logits = W_o hidden + b_o                   [K]    W_o may be left out: then d = K

Where rows are pairs, with u and v the x of both texts, what is read in its place is [u, v, |u - v|, u * v]; then W_o is
always there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from understudy.encoding import Pairs, Ragged
from understudy.errors import ArtefactError
from understudy.runtime.pooling import Table, pooled

_NEEDED = ("table", "scale", "weights", "output.bias")
_TINY = np.finfo(np.float32).tiny


class StaticModel:
    """Pooled vectors and a small head. It needs 4 (2 d + 1) bytes of memory for each row of the table.

    Args:
        tensors: as `export.static_tensors` writes them; see `dequantised`.

    Attributes:
        table: `Table` of V rows and one of nothing: pooling it changes nothing.
        texts: of a row, 1 or 2.
        labels: K.

    Raises:
        ArtefactError: a tensor is missing or has a shape that does not fit the others.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        found = dequantised(tensors)
        self.texts = _texts(tensors)
        vectors, weights = found["table"], found["weights"]
        self._hidden = _layer(found, "hidden")
        self._output = _layer(found, "output")
        self.labels = len(found["output.bias"])
        self._bias = found["output.bias"]
        rows, width = vectors.shape
        sums = np.zeros((rows + 1, width + 1), np.float32)
        np.multiply(vectors, weights[:, None], out=sums[:rows, :width])
        sums[:rows, width] = weights
        most = None
        if self._hidden is not None:
            most = np.full((rows + 1, width), -np.inf, np.float32)
            most[:rows] = vectors
        self.table = Table(sums, most)

    def logits(self, features: Ragged | Pairs) -> np.ndarray:
        """float32 [N, K]. Every text has at least one id (the encoder sees to it)."""
        texts = features.texts if isinstance(features, Pairs) else features
        ids = texts.values.astype(np.int64)
        return self.head(*pooled(self.table, [ids], texts.offsets[:-1], texts.lengths))

    def head(self, sums: np.ndarray, most: np.ndarray | None = None) -> np.ndarray:
        """float32 [..., K] of what was pooled: sums [..., d + 1], the weights last, and most [..., d].

        Of pairs [N, K] of [2 N, d + 1] and [2 N, d], both texts of a row in turn.
        """
        found = sums[..., :-1] / sums[..., -1:]
        if most is not None:
            found = np.concatenate((found, most), axis=-1)
        if self.texts == 2:
            u, v = found[0::2], found[1::2]
            found = np.concatenate((u, v, np.abs(u - v), u * v), axis=-1)
        if self._hidden is not None:
            matrix, bias = self._hidden
            found = found @ matrix
            found += bias
            np.maximum(found, 0, out=found)
        if self._output is not None:
            found = found @ self._output[0]
        found += self._bias
        return found


def dequantised(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the tensors of an artefact stand for, all float32.

    * ``table``: int8 [V, d]; uint8 [V, ceil(d / 2)], two values a byte, the first in the lower half, 0..15 standing for
      -8..7; or float32. Times ``scale`` [V].
    * ``weights`` [V]: float32, or uint8 codes of exp(low + step * code), ``weights.range`` being [low, step].
    * ``hidden.weight`` [h, 2 d], ``output.weight`` [K, h or d]: float32, or int8 times ``hidden.scale`` [h],
      ``output.scale`` [K].
    * ``hidden.bias`` [h], ``output.bias`` [K]: float32.

    Where ``texts``, uint8 [1], is 2, the first layer behind the table has four times as many inputs.

    Raises:
        ArtefactError: a tensor is missing, not finite, or has a shape that does not fit the others.
    """
    texts, hidden = _texts(tensors), "hidden.bias" in tensors or "hidden.weight" in tensors
    needed = _NEEDED + ("output.weight",) * (hidden or texts == 2) + ("hidden.weight",) * hidden
    if missing := [name for name in needed if name not in tensors]:
        raise ArtefactError(f"a static model needs the tensor {missing[0]}; there are: {', '.join(sorted(tensors))}")
    found: dict[str, np.ndarray] = {}
    inputs = len(tensors["output.bias"])  # of the layer above, from the last one down to the table
    if "output.weight" in tensors:
        inputs = _layer_of(tensors, "output", found, outputs=None)
    found["output.bias"] = _wanted("output.bias", tensors["output.bias"], tensors["output.bias"].shape[:1])
    if hidden:
        inputs = _layer_of(tensors, "hidden", found, outputs=inputs)
    if (parts := (2 if hidden else 1) * (4 if texts == 2 else 1)) > 1:
        first, inputs = "hidden.weight" if hidden else "output.weight", inputs // parts
        _wanted(first, found[first], (len(found[first]), parts * inputs))
    table = _rows({**tensors, "table": _unpacked(tensors["table"], inputs)}, "table", "scale")
    found["table"] = _wanted("table", table, (len(table), inputs))
    weights = tensors["weights"]
    if weights.dtype == np.uint8:
        low, step = _wanted("weights.range", tensors.get("weights.range"), (2,)).tolist()
        weights = np.exp(np.float32(low) + np.float32(step) * weights.astype(np.float32))
    found["weights"] = np.maximum(_wanted("weights", weights, (len(table),)), _TINY)
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise ArtefactError(f"the tensor {name} holds a number that is not finite; export the artefact again")
    return found


def _texts(tensors: Mapping[str, np.ndarray]) -> int:
    """How many texts a row has."""
    found = tensors.get("texts", np.ones(1, np.uint8)).tolist()
    if found not in ([1], [2]):
        raise ArtefactError(f"the tensor texts holds {found}, wanted [1] or [2]; export the artefact again")
    return int(found[0])


def _layer_of(
    tensors: Mapping[str, np.ndarray], name: str, found: dict[str, np.ndarray], *, outputs: int | None
) -> int:
    """Puts matrix and bias of a layer into ``found``; how wide its inputs are."""
    matrix = _rows(tensors, f"{name}.weight", f"{name}.scale")
    found[f"{name}.weight"] = _wanted(f"{name}.weight", matrix, (outputs or len(matrix), matrix.shape[1]))
    found[f"{name}.bias"] = _wanted(f"{name}.bias", tensors.get(f"{name}.bias"), (len(matrix),))
    return matrix.shape[1]


def _rows(tensors: Mapping[str, np.ndarray], name: str, scale: str) -> np.ndarray:
    """float32 [n, m]: int8 rows times their scales, or the rows as they are."""
    rows = tensors[name]
    if rows.ndim != 2:
        raise ArtefactError(f"the tensor {name} has shape {rows.shape}, wanted two dimensions")
    found: np.ndarray = rows.astype(np.float32)
    if scale in tensors or rows.dtype == np.int8:
        with np.errstate(over="ignore"):  # what is not finite is said of everything at once
            found *= _wanted(scale, tensors.get(scale), (len(rows),))[:, None]
    return found


def _unpacked(table: np.ndarray, width: int) -> np.ndarray:
    """int8 [V, d] of two values a byte; any other table as it is."""
    if table.dtype != np.uint8 or table.ndim != 2:
        return table
    _wanted("table", table, (len(table), -(-width // 2)))
    values = np.empty((len(table), 2 * table.shape[1]), np.int8)
    values[:, 0::2], values[:, 1::2] = table & 15, table >> 4
    values -= 8
    return values[:, :width]


def _wanted(name: str, array: np.ndarray | None, shape: Sequence[int]) -> np.ndarray:
    """The array in float32. Raises ArtefactError for another shape, or none."""
    if array is None:
        raise ArtefactError(f"a static model needs the tensor {name}, which is not there")
    if array.shape != tuple(shape):
        raise ArtefactError(f"the tensor {name} has shape {array.shape}, wanted {tuple(shape)}")
    return array.astype(np.float32, copy=False)


def _layer(found: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Matrix and bias, transposed once: it multiplies faster so."""
    if f"{name}.weight" not in found:
        return None
    return np.ascontiguousarray(found[f"{name}.weight"].T), found[f"{name}.bias"]
