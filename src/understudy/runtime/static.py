"""The forward of the static family in numpy: look vectors up, pool them, one small hidden layer.

Given the ids of a row, with v_i = scale_i * table_i and w_i the learned weight of token i:

    mean   = sum(w_i v_i) / sum(w_i)            [d]
    most   = elementwise max of the v_i         [d]
    hidden = relu(W_h [mean, most] + b_h)       [h]
    logits = W_o hidden + b_o                   [K]
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from understudy.encoding import Ragged
from understudy.errors import ArtefactError

TENSORS = ("table", "scale", "weights", "hidden.weight", "hidden.bias", "output.weight", "output.bias")
_BLOCK = 1 << 18  # numbers gathered at a time: one megabyte, which stays in the cache


class StaticModel:
    """Pooled vectors and a small head.

    Args:
        tensors: ``table`` [V, d] int8 (or float32), ``scale`` [V] float32 (ones where the table is float32),
            ``weights`` [V] float32 > 0, ``hidden.weight`` [h, 2d], ``hidden.bias`` [h], ``output.weight`` [K, h],
            ``output.bias`` [K].

    Raises:
        ArtefactError: a tensor is missing or has a shape that does not fit the others.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        missing = [name for name in TENSORS if name not in tensors]
        if missing:
            raise ArtefactError(
                f"a static model needs the tensor {missing[0]}; there are: {', '.join(sorted(tensors))}"
            )
        self.table, self.scale, self.weights = (tensors[name] for name in TENSORS[:3])
        (rows, width), (hidden, labels) = self.table.shape, tensors["output.weight"].shape[::-1]
        wanted = {
            "scale": (rows,), "weights": (rows,), "hidden.weight": (hidden, 2 * width), "hidden.bias": (hidden,),
            "output.weight": (labels, hidden), "output.bias": (labels,),
        }  # fmt: skip
        for name, shape in wanted.items():
            if tensors[name].shape != shape:
                raise ArtefactError(f"the tensor {name} has shape {tensors[name].shape}, wanted {shape}")
        # Copies: a head read from a mapped file is touched in every call, and transposed it multiplies faster.
        self._hidden, self._hidden_bias = np.ascontiguousarray(tensors["hidden.weight"].T), tensors["hidden.bias"] + 0
        self._output, self._output_bias = np.ascontiguousarray(tensors["output.weight"].T), tensors["output.bias"] + 0
        self.width, self.labels = width, labels

    def logits(self, features: Ragged) -> np.ndarray:
        """float32 [N, K]. Every row has at least one id (the encoder sees to it)."""
        pooled = np.empty((len(features), 2 * self.width), np.float32)
        if len(features) <= 4:
            for row in range(len(features)):
                self._pool_one(features[row], pooled[row])
        else:
            self._pool(features, pooled)
        hidden = pooled @ self._hidden
        hidden += self._hidden_bias
        np.maximum(hidden, 0, out=hidden)
        return hidden @ self._output + self._output_bias

    def _pool_one(self, ids: np.ndarray, out: np.ndarray) -> None:
        if len(ids) * self.width > _BLOCK:
            self._pool_equal(ids[None], out[None])
            return
        vectors = self.table.take(ids, axis=0) * self.scale.take(ids)[:, None]
        weights = self.weights.take(ids)
        np.divide(weights @ vectors, weights.sum(), out=out[: self.width])
        vectors.max(axis=0, out=out[self.width :])

    def _pool(self, features: Ragged, out: np.ndarray) -> None:
        """Rows of one length at a time: dense blocks are 3 to 15 times faster here than ``np.add.reduceat``."""
        lengths = features.lengths
        order = np.argsort(lengths, kind="stable")
        cuts = np.flatnonzero(np.diff(lengths[order])) + 1
        for same in np.split(order, cuts):
            length = int(lengths[same[0]])
            step = max(1, _BLOCK // (length * self.width))
            for start in range(0, len(same), step):
                rows = same[start : start + step]
                pooled = np.empty((len(rows), 2 * self.width), np.float32)
                self._pool_equal(features.values[features.offsets[rows][:, None] + np.arange(length)], pooled)
                out[rows] = pooled

    def _pool_equal(self, ids: np.ndarray, out: np.ndarray) -> None:
        """Pool rows of one length, ids [n, L], in pieces of L so that one endless row needs no endless memory."""
        step = max(1, _BLOCK // (self.width * len(ids)))
        total: np.ndarray | float = 0.0
        out[:, : self.width], out[:, self.width :] = 0, -np.inf
        for start in range(0, ids.shape[1], step):
            piece = ids[:, start : start + step]
            vectors = self.table.take(piece, axis=0).astype(np.float32)
            vectors *= self.scale.take(piece)[..., None]
            weights = self.weights.take(piece)
            out[:, : self.width] += (weights[:, None] @ vectors)[:, 0]
            np.maximum(out[:, self.width :], vectors.max(axis=1), out=out[:, self.width :])
            total = total + weights.sum(axis=1, keepdims=True)
        out[:, : self.width] /= total
