"""What every axis of every weight of a transformers model stands for, seen from the model itself.

The same class is built again on the ``meta`` device (shapes without numbers) with one size of its config changed: the
axes that move are the axes of that size. No list of class names, and no tensor that is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.features import layer_stack
from understudy.signals.anatomy import Anatomy
from understudy.students.cutting.following import moved, scaled
from understudy.students.cutting.projections import (
    FEED_FORWARD,
    crosswise,
    feed_forward_of,
    head_size_of,
    key_heads_of,
    linear,
    rotary,
    stretch,
)

Kinds = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Layer:
    """Paths of the linear layers of one transformer layer.

    Attributes:
        query, key, value: three times the same where one layer gives all three, one after the other (GPT-2).
        output: what mixes the heads' values.
        rises: into the feed-forward units; two where one of them opens and closes the other (Llama).
        falls: out of them.
    """

    query: str
    key: str
    value: str
    output: str
    rises: tuple[str, ...]
    falls: str

    @property
    def fused(self) -> bool:
        """One linear layer gives queries, keys and values."""
        return self.query == self.key


@dataclass(frozen=True)
class Axes:
    """The sizes of a model, and which axis of which weight follows which of them.

    Attributes:
        kinds: weight -> what each of its axes counts: ``width`` (channels of the residual stream), ``inner`` (outputs
            of a dense layer in the head), ``key.I`` (dimensions of the keys of layer I, head after head), ``query.I``
            (of its queries), ``value.I`` (of its values), ``mixed.I`` (of what the attention's output reads),
            ``fused.I`` (queries, keys and values, one after the other), ``units.I`` (feed-forward units), ``""``
            (anything else).
        layers: paths of the linear layers of each layer.
        norms: paths of the norms over the width.
        readers: paths of the linear layers that are given ``inner``.
        width, heads, key_heads, head_size, feed_forward: sizes; ``key_heads`` of keys and values, each of which serves
            ``heads / key_heads`` heads of queries.
        feed_key: the config's name of the feed-forward size.
        tied: the word embeddings are the weights of a head, too.
        free: heads times their size need not be the width: the config says the size of a head, or may; the size of a
            head stays, since positions turn each of its dimensions in a way of its own.
        scaled: where a factor follows from the width; "" if nowhere.
        across: a norm over the queries or keys of all heads together; "" if there is none.
    """

    kinds: Kinds
    layers: tuple[Layer, ...]
    norms: tuple[str, ...]
    readers: tuple[str, ...]
    width: int
    heads: int
    key_heads: int
    head_size: int
    feed_forward: int
    feed_key: str
    tied: bool
    free: bool
    scaled: str
    across: str

    @property
    def group(self) -> int:
        """Heads of queries for each head of keys and values."""
        return self.heads // self.key_heads

    def whole(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is kept of keys and values of a layer, and what follows for queries, mixed values and all in one."""
        found = dict(maps)
        queries, keys = self.heads * self.head_size, self.key_heads * self.head_size
        for i in range(len(self.layers)):
            key, value = maps.get(f"key.{i}"), maps.get(f"value.{i}")
            if key is None or value is None:
                continue
            found[f"query.{i}"] = query = stretch(key, self.group, self.head_size)
            found[f"mixed.{i}"] = stretch(value, self.group, self.head_size)
            found[f"fused.{i}"] = torch.cat([query, queries + key, queries + keys + value])
        return found

    @classmethod
    def of(cls, model: nn.Module) -> Axes:
        """Looks at a model; nothing of it changes.

        Raises:
            UsageError: a model that is not made of layers with query, key, value, output and two (or, one of them a
                gate, three) feed-forward projections; the message says which of these was not found.
        """
        whole: Any = model
        config, name = whole.config, type(model).__name__
        stack, modules = layer_stack(model)
        width, heads = _size(config, "hidden_size", name), _size(config, "num_attention_heads", name)
        feed = feed_forward_of(config)
        if feed is None:
            raise UsageError(
                f"{name} cannot be narrowed: its config has no feed-forward size, by any of {', '.join(FEED_FORWARD)}"
            )
        more = (
            {}
            if getattr(config, "num_key_value_heads", None) is None
            else {"num_key_value_heads": 2 * key_heads_of(config)}
        )
        doubled = {"hidden_size": 2 * width, "num_attention_heads": 2 * heads, **more}
        wide = moved(model, **doubled, **dict([feed]))
        fed = moved(model, **{feed[0]: feed[1] + 1})
        layers = tuple(_layer(model, f"{stack}.{i}", fed, feed[1]) for i in range(len(modules)))
        across = _across(wide, layers)
        kinds = _kinds(model, stack, layers, wide | dict.fromkeys(across, ()), fed, width)
        return cls(
            kinds=kinds,
            layers=layers,
            norms=tuple(
                p for p, m in model.named_modules() if kinds.get(f"{p}.weight") == ("width",) and not linear(m)
            ),
            readers=tuple(n.removesuffix(".weight") for n, kind in kinds.items() if kind[1:] == ("inner",)),
            width=width,
            heads=heads,
            key_heads=key_heads_of(config),
            head_size=head_size_of(config),
            feed_forward=feed[1],
            feed_key=feed[0],
            tied=tied(model),
            free=rotary(model),
            scaled=scaled(model, **doubled, **dict([feed])),
            across=next(iter(across), ""),
        )


def tied(model: nn.Module) -> bool:
    """Whether the word embeddings are the weights of another module as well."""
    table = token_table(model)
    return (
        table is not None
        and sum(parameter is table.weight for _, parameter in model.named_parameters(remove_duplicate=False)) > 1
    )


def token_table(model: nn.Module) -> nn.Embedding | None:
    """The embedding table of a text model's sub-words; None where it has none, or one of another kind."""
    whole: Any = model
    found = whole.get_input_embeddings() if hasattr(whole, "get_input_embeddings") else None
    return found if isinstance(found, nn.Embedding) else None


def _size(config: Any, key: str, name: str) -> int:
    found = getattr(config, key, None)
    if not isinstance(found, int):
        raise UsageError(f"{name} cannot be narrowed: its config says no {key}")
    return found


def _layer(model: nn.Module, path: str, fed: Mapping[str, tuple[int, ...]], units: int) -> Layer:
    name, projections = type(model).__name__, Anatomy.of(model).projections
    inside = {f"{path}.{inner}": m for inner, m in model.get_submodule(path).named_modules() if linear(m)}
    seen = {kind: [one for one in projections.get(kind, ()) if one in inside] for kind in ("query", "key", "value")}
    fused = [one for one, m in inside.items() if one.endswith(".c_attn") and crosswise(m) and _thrice(m)]
    if fused and not any(seen.values()):
        seen = dict.fromkeys(seen, fused)
    moves = {one: fed.get(f"{one}.weight") for one in inside}
    out = {one: int(crosswise(m)) for one, m in inside.items()}  # the axis of the outputs
    rises = [one for one, axes in moves.items() if axes == (out[one],)]
    falls = [one for one, axes in moves.items() if axes == (1 - out[one],)]
    others = [one for one in inside if one not in [*rises, *falls, *(p for ps in seen.values() for p in ps)]]
    seen |= {"attention output": others, "feed-forward up": rises, "feed-forward down": falls}
    for part, found in seen.items():
        if len(found) != 1 and not (found is rises and len(found) == 2):
            said = "none" if not found else ", ".join(found)
            raise UsageError(f"{name} cannot be narrowed: one {part} projection was looked for in {path}, found {said}")
    for one in rises:
        made = inside[one].get_parameter("weight").shape[out[one]]
        if made != units:
            raise UsageError(
                f"{name} cannot be narrowed: a feed-forward up projection of {made} outputs for {units} units, {one}"
            )
    query, key, value = (seen[kind][0] for kind in ("query", "key", "value"))
    return Layer(query, key, value, others[0], tuple(rises), falls[0])


def _across(wide: Mapping[str, tuple[int, ...]], layers: tuple[Layer, ...]) -> list[str]:
    """Weights beside the projections of queries and keys that follow the heads and are no matrices: norms of them."""
    maps = {path for layer in layers for path in (layer.query, layer.key, layer.value, layer.output)}
    beside = {path.rpartition(".")[0] for layer in layers for path in (layer.query, layer.key)}
    owners = {name: name.rpartition(".")[0] for name, axes in wide.items() if axes == (0,)}
    return [name for name, path in owners.items() if path not in maps and path.rpartition(".")[0] in beside]


def _thrice(module: nn.Module) -> bool:
    return tuple(module.get_parameter("bias").shape) == (3 * len(module.get_parameter("weight")),)


def _kinds(
    model: nn.Module,
    stack: str,
    layers: tuple[Layer, ...],
    wide: Mapping[str, tuple[int, ...]],
    fed: Mapping[str, tuple[int, ...]],
    width: int,
) -> Kinds:
    gives, reads = _attention(layers)
    units = {path: f"units.{i}" for i, layer in enumerate(layers) for path in (*layer.rises, layer.falls)}
    square = _square(model, stack, wide)
    kinds: dict[str, tuple[str, ...]] = {}
    for name, value in model.state_dict().items():
        kind = [""] * value.ndim
        path = name.rpartition(".")[0]
        across = path in gives | reads and crosswise(model.get_submodule(path))
        known = {}  # axis -> what is known of it by its place
        if path in gives:
            known[value.ndim - 1 if across else 0] = gives[path]
        if path in reads and value.ndim == 2:
            known[0 if across else 1] = reads[path]
        for axis in wide[name]:
            if axis not in known and value.shape[axis] != width:
                raise UsageError(
                    f"{type(model).__name__} cannot be narrowed: {name} has an axis of {value.shape[axis]} that "
                    f"follows the width or the heads, and is neither the width ({width}) nor in a projection"
                )
            kind[axis] = "width"
        for axis in fed[name]:
            kind[axis] = units.get(path, "")
        for axis, said in known.items():
            kind[axis] = said
        if square and path == square:
            kind[0] = "inner"
        elif square and _reads_inner(model, path, stack, kind):
            kind[1] = "inner"
        kinds[name] = tuple(kind)
    return kinds


def _attention(layers: tuple[Layer, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """What the outputs of the projections of attention count, and what the inputs of its output do."""
    gives: dict[str, str] = {}
    for i, layer in enumerate(layers):
        each = {layer.query: "query", layer.key: "key", layer.value: "value"}
        gives |= {path: f"{'fused' if layer.fused else kind}.{i}" for path, kind in each.items()}
    return gives, {layer.output: f"mixed.{i}" for i, layer in enumerate(layers)}


def _square(model: nn.Module, stack: str, wide: Mapping[str, tuple[int, ...]]) -> str:
    """The one dense layer in the head whose outputs are as many as the width, and its own; "" where there is none.

    Where a norm or a tied table follows, its outputs are channels of the residual stream again.
    """
    outside = [p for p, m in model.named_modules() if isinstance(m, nn.Linear) and not p.startswith(f"{stack}.")]
    found = [path for path in outside if wide[f"{path}.weight"] == (0, 1)]
    if len(found) > 1:
        raise UsageError(
            f"{type(model).__name__} cannot be narrowed: one dense layer between the last layer and the output was "
            f"looked for, found {', '.join(found)}"
        )
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.LayerNorm)]
    after = paths[paths.index(found[0]) + 1 :] if found else []
    if tied(model) or any(isinstance(model.get_submodule(path), nn.LayerNorm) for path in after):
        return ""
    return found[0] if found else ""


def _reads_inner(model: nn.Module, path: str, stack: str, kind: list[str]) -> bool:
    return (
        kind == ["", "width"] and not path.startswith(f"{stack}.") and isinstance(model.get_submodule(path), nn.Linear)
    )
