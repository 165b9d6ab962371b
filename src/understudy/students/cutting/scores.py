"""How much every channel, head and feed-forward unit matters: by its activations on real rows, or by its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.features import Tap, capture
from understudy.students.cutting.axes import Axes, Layer
from understudy.students.cutting.projections import matrix

Rows = Sequence[Mapping[str, Any]]


@dataclass
class Scores:
    """Importance, larger is kept; all fp64.

    Attributes:
        width: [H], of the channels of the residual stream.
        inner: [H], of the outputs of the dense layer in the head; None where there is none.
        units: for each layer [F], of the feed-forward units.
        heads: for each layer [A], of the heads; of those that share keys and values, of all that share some.
        queries, values: for each layer [A, D], of the dimensions of each head's queries and keys, and of its values.
        source: where they come from, in words.
    """

    width: Tensor
    inner: Tensor | None
    source: str
    units: list[Tensor] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)


def scores_of(model: nn.Module, axes: Axes, rows: Rows | None) -> Scores:
    """Importance on rows, or from the weights alone where there are none.

    With a the activations on the rows (padding left out) and W the weights that read them: a channel counts its mean
    \\|a\\| behind every norm, each norm weighing the same; a unit the root mean square of a, times the length of its
    column of W; a head the root mean square of its part of the attention's output, \\|W_head a_head\\|; heads
    that share keys and values the root of the sum of their squares. Without rows the lengths of the rows of the weights
    that make an activation stand for it.
    """
    return _measured(model, axes, rows) if rows else _from_weights(model, axes)


def _measured(model: nn.Module, axes: Axes, rows: Rows) -> Scores:
    taps: dict[str, Tap] = {}
    for i, layer in enumerate(axes.layers):
        taps |= {f"query.{i}": Tap(layer.query)} | ({} if layer.fused else {f"key.{i}": Tap(layer.key)})
        taps |= {f"value.{i}": Tap(layer.output, given=True), f"units.{i}": Tap(layer.falls, given=True)}
    taps |= {f"norm.{i}": Tap(path) for i, path in enumerate(axes.norms)}
    taps |= {f"reader.{i}": Tap(path, given=True) for i, path in enumerate(axes.readers)}
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    number = 0
    with capture(model, taps) as inside, quiet(model):
        for batch in rows:
            number += run(model, batch)
            for name in taps:
                found = tokens(inside[name], batch)
                kind = name.partition(".")[0]
                said = found.abs().sum(0) if kind == "norm" else found.square().sum(0)
                if kind == "value":  # one matrix for each head: its outputs may cancel each other
                    parts = found.view(len(found), axes.heads, -1)
                    sums[f"moment.{name}"] = sums.get(f"moment.{name}", 0) + torch.einsum("nhd,nhe->hde", parts, parts)
                sums[name] = sums.get(name, 0) + said
                counts[name] = counts.get(name, 0) + len(found)
    mean = {name: sums[name] / counts[name] for name in taps}
    norms = [mean[name] / mean[name].mean().clamp_min(1e-30) for name in taps if name.startswith("norm.")]
    width = torch.stack(norms).sum(0) if norms else _from_weights(model, axes).width  # OLMo's norms have no weights
    inner = [mean[f"reader.{i}"].sqrt() * _columns(model, path) for i, path in enumerate(axes.readers)]
    scores = Scores(width, _total(inner), f"activations on {number:,} rows")
    for i, layer in enumerate(axes.layers):
        queries, keys = _parts(axes, layer, mean[f"query.{i}"], mean.get(f"key.{i}"))[:2]
        scores.queries.append(_grouped(axes, queries.sqrt()) * keys.sqrt().view(axes.key_heads, -1))
        scores.values.append(_grouped(axes, mean[f"value.{i}"].sqrt() * _columns(model, layer.output)))
        scores.units.append(mean[f"units.{i}"].sqrt() * _columns(model, layer.falls))
        weight = matrix(model, layer.output).view(axes.width, axes.heads, -1)
        moments = sums[f"moment.value.{i}"] / counts[f"value.{i}"]
        heads = torch.einsum("ohd,hde,ohe->h", weight, moments, weight).clamp_min(0).sqrt()
        scores.heads.append(heads.view(axes.key_heads, -1).norm(dim=1))
    return scores


def _from_weights(model: nn.Module, axes: Axes) -> Scores:
    weights = {name: value.detach().double().cpu() for name, value in model.state_dict().items()}
    width = torch.zeros(axes.width, dtype=torch.double)
    for name, kind in axes.kinds.items():
        if len(kind) > 1 and "width" in kind:
            lengths = weights[name].movedim(kind.index("width"), 0).flatten(1).square().sum(1)
            width += lengths / lengths.mean().clamp_min(1e-30)
    inner = [_columns(model, path) for path in axes.readers]
    scores = Scores(width, _total(inner), "the lengths of its weights, without rows")
    for layer in axes.layers:
        each = [matrix(model, path).norm(dim=1) for path in (layer.query, layer.key, layer.value)]
        query, key, value = _parts(axes, layer, *each)
        scores.queries.append(_grouped(axes, query) * key.view(axes.key_heads, -1))
        mixed = _columns(model, layer.output)
        scores.values.append(value.view(axes.key_heads, -1) * _grouped(axes, mixed))
        rises = torch.stack([matrix(model, path).norm(dim=1) for path in layer.rises]).prod(0)
        scores.units.append(rises * _columns(model, layer.falls))
        scores.heads.append(scores.values[-1].norm(dim=1))
    return scores


def _parts(axes: Axes, layer: Layer, *each: Tensor | None) -> list[Tensor]:
    """What is said of queries, keys and values, taken apart where one linear layer gives all three."""
    if not layer.fused:
        return [one for one in each if one is not None]
    keys = axes.key_heads * axes.head_size
    whole = each[0]
    assert whole is not None
    return list(whole.split([axes.heads * axes.head_size, keys, keys]))


def _grouped(axes: Axes, each: Tensor) -> Tensor:
    """Of each dimension of every head -> [A, D], the lengths over the heads that share keys and values."""
    return each.view(axes.key_heads, axes.group, -1).norm(dim=1)


def run(model: nn.Module, batch: Mapping[str, Any]) -> int:
    """One forward on a batch (tensors or arrays by input name); how many rows it had.

    Raises:
        UsageError: inputs that the model does not take.
    """
    device = next(model.parameters()).device
    inputs = {name: torch.as_tensor(value).to(device) for name, value in batch.items()}
    try:
        model(**inputs)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        shown = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items()) or "nothing"
        reason = " ".join(str(error).split())
        raise UsageError(f"{type(model).__name__} cannot read a batch of rows with {shown}: {reason}") from None
    return len(next(iter(inputs.values())))


def tokens(found: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """An activation as fp64 [positions, D] on the CPU, without padding where the batch says what that is."""
    mask = batch.get("attention_mask")
    flat = found.detach().double().cpu()
    if mask is not None and flat.shape[: flat.ndim - 1] == tuple(mask.shape):
        return flat[torch.as_tensor(mask).cpu().bool()]
    return flat.reshape(-1, flat.shape[-1])


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; the model's modes are put back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _columns(model: nn.Module, path: str) -> Tensor:
    return matrix(model, path).norm(dim=0)


def _total(scores: list[Tensor]) -> Tensor | None:
    return torch.stack(scores).sum(0) if scores else None
