"""Asking a model about many rows: sorted by length, padded to the longest of each batch, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.encoding import Encoder
from understudy.errors import TeacherError
from understudy.passages import NEVER
from understudy.ragged import Ragged, at_places, in_order
from understudy.students import Student

Inputs = Mapping[str, Sequence[Any]]
Logits = Any
"""float32 [N, K], or a `Ragged` with a row of K for every word of N sentences."""
Scorer = Callable[[Sequence[int]], dict[str, Logits]]


def score_rows(
    model: nn.Module,
    encoder: Encoder,
    inputs: Inputs,
    *,
    batch_size: int = 64,
    order: Sequence[int] | None = None,
) -> Logits:
    """Logits of every row, in the rows' own order whatever the batches were.

    The model runs in eval mode without gradients, and is left in the mode that it had.

    Args:
        model: called with the encoder's inputs; gives a tensor [N, K] or an output with ``.logits``. From logits
            [N, L, K] those of each word are taken, where the encoder says it stands.
        encoder: raw columns -> the model's inputs.
        inputs: raw column -> values.
        batch_size: rows per forward.
        order: columns to return, in this order; all where None.

    Returns:
        float32 [N, K]; of sentences a `Ragged` [M, K] with a row of K for every word that there was room for; of
        hidden tokens what the encoder keeps of them, [N, 3].

    Raises:
        TeacherError: a logit that is not finite, with its row.
    """
    found = _score(model, encoder, inputs, batch_size, order)
    bad = bad_rows(found)
    if len(bad):
        raise TeacherError(
            f"{type(model).__name__} gives logits that are not finite for {len(bad)} of {len(found)} rows, "
            f"first for row {bad[0] + 1}"
        )
    return found


def bad_rows(logits: Logits) -> np.ndarray:
    """int64: rows in which a logit is not finite."""
    if isinstance(logits, Ragged):
        return np.unique(logits.owners[~np.isfinite(logits.values).all(1)])
    return np.flatnonzero(~np.isfinite(logits).all(1))


def _score(model: nn.Module, encoder: Encoder, inputs: Inputs, batch_size: int, order: Sequence[int] | None) -> Logits:
    features = encoder.encode(inputs)
    lengths = np.asarray(encoder.lengths(features))
    if not len(lengths):
        return np.zeros((0, len(order) if order is not None else 0), np.float32)
    rows = np.argsort(lengths, kind="stable")
    batch_size = min(batch_size, getattr(encoder, "most_rows", batch_size))
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    found: np.ndarray | None = None
    words: list[tuple[np.ndarray, Ragged]] = []
    with asked(model):
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            arrays = encoder.collate(features, some)
            batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
            logits = logits_of(call(model, batch)).cpu().numpy()
            if logits.ndim == 3:
                answering: Any = encoder
                if not hasattr(answering, "reduced"):
                    words.append((some, at_places(logits, answering.places(features, some), NEVER)))
                    continue
                logits = answering.reduced(features, some, logits)
            if found is None:
                found = np.empty((len(rows), logits.shape[1]), np.float32)
            found[some] = logits
    if words:
        ragged = in_order(words)
        return ragged if order is None else ragged.holding(np.ascontiguousarray(ragged.values[:, list(order)]))
    assert found is not None
    return found if order is None else np.ascontiguousarray(found[:, list(order)])


def scorer(
    model: nn.Module,
    encoder: Encoder,
    inputs: Inputs,
    *,
    batch_size: int = 64,
    order: Sequence[int] | None = None,
) -> Scorer:
    """A function ``score(rows) -> {"logits": float32 [n, K]}`` for the target store; it encodes what is asked for.

    It does not refuse logits that are not finite: the store does, and keeps the good rows beside them.
    """

    def score(rows: Sequence[int]) -> dict[str, Logits]:
        some = {name: [values[row] for row in rows] for name, values in inputs.items() if name in encoder.fields}
        return {"logits": _score(model, encoder, some, batch_size, order)}

    return score


@contextmanager
def asked(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients; every module gets back the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # Not inference_mode: its tensors cannot take part in a loss that needs a gradient for the student.
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def call(model: nn.Module, inputs: Mapping[str, Tensor], **more: Any) -> Any:
    """One forward. A plain module with one input is called by position, so that nobody has to rename an argument."""
    if isinstance(model, Student):
        model = model.module
    if len(inputs) == 1 and not more and not hasattr(model, "config"):
        return model(*inputs.values())
    return model(**inputs, **more)


def logits_of(output: Any) -> Tensor:
    """The logits [N, K] or [N, L, K] of a model's output, fp32: a tensor, an output with ``.logits``, or a mapping."""
    found = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if found is None and isinstance(output, Mapping):
        found = output.get("logits")
    if not isinstance(found, Tensor) or found.ndim not in (2, 3):
        got = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(output).__name__}"
        raise TeacherError(f"wanted logits [N, K], or an output that has them, got {got}")
    return found.float()
