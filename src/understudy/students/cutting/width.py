"""What a narrower model keeps of every axis, and the weights that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from understudy.students.cutting.axes import Axes, Kinds
from understudy.students.cutting.scores import Scores
from understudy.students.cutting.sizes import Sizes

Maps = Mapping[str, Tensor]
"""Kind of axis -> what is kept of it: int64 indices, or fp64 [N, n], the directions that it is projected onto."""


def kept(axes: Axes, sizes: Sizes, scores: Scores, layers: Iterable[int]) -> dict[str, Tensor]:
    """The most important entries of every axis that becomes shorter, in their old order."""
    maps: dict[str, Tensor] = {}
    if sizes.width < axes.width:
        maps["width"] = best(scores.width, sizes.width)
        if any("inner" in kind for kind in axes.kinds.values()):
            inner = scores.inner if scores.inner is not None else scores.width
            maps["inner"] = best(inner, sizes.width)
    for i in layers:
        if sizes.feed_forward < axes.feed_forward:
            maps[f"units.{i}"] = best(scores.units[i], sizes.feed_forward)
        if (sizes.heads, sizes.head_size) != (axes.heads, axes.head_size):
            heads = best(scores.heads[i], sizes.key_heads).tolist()
            for name, each in (("key", scores.queries[i]), ("value", scores.values[i])):
                inside = [head * axes.head_size + best(each[head], sizes.head_size) for head in heads]
                maps[f"{name}.{i}"] = torch.cat(inside)
    return axes.whole(maps)


def best(scores: Tensor, count: int) -> Tensor:
    """Indices of the largest scores, increasing; of equals the first."""
    order = torch.argsort(scores, descending=True, stable=True)
    return order[:count].sort().values


def carried(weights: Mapping[str, Tensor], kinds: Kinds, maps: Maps) -> dict[str, Tensor]:
    """Every weight with what is kept of each of its axes; weights that no map concerns are given as they are."""
    found = {}
    for name, value in weights.items():
        for axis, kind in enumerate(kinds.get(name, ())):
            if kind in maps:
                value = along(value, axis, maps[kind])
        found[name] = value
    return found


def along(value: Tensor, axis: int, chosen: Tensor) -> Tensor:
    """A tensor with some entries of an axis, or with the axis projected (in fp64)."""
    chosen = chosen.to(value.device)
    if not chosen.is_floating_point():
        return value.index_select(axis, chosen)
    return torch.tensordot(value.double().movedim(axis, -1), chosen, dims=1).movedim(-1, axis).to(value.dtype)


def rescaled(weights: dict[str, Tensor], axes: Axes, sizes: Sizes) -> dict[str, Tensor]:
    """Queries as long as before where heads lose dimensions: attention divides by the root of their number."""
    if sizes.head_size == axes.head_size:
        return weights
    scale = (sizes.head_size / axes.head_size) ** 0.5
    first = {layer.query: sizes.heads * sizes.head_size if layer.fused else None for layer in axes.layers}
    found = dict(weights)
    for name, value in weights.items():
        path = name.rpartition(".")[0]
        if path in first:
            found[name] = _times(value, scale, first[path])
    return found


def _times(value: Tensor, scale: float, first: int | None) -> Tensor:
    """All of a tensor, or the first entries of its last axis, times a number."""
    if first is None:
        return value * scale
    return torch.cat([value[..., :first] * scale, value[..., first:]], dim=-1)
