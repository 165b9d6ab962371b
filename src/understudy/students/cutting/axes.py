"""What every axis of every weight of a transformers model stands for, seen from the model itself.

The same class is built again on the ``meta`` device (shapes without numbers) with one size of its config changed: the
axes that move are the axes of that size. No list of class names, and no tensor that is forgotten.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from understudy.errors import UsageError
from understudy.features import layer_stack
from understudy.signals.anatomy import Anatomy

FEED_FORWARD = ("intermediate_size", "hidden_dim", "ffn_dim")
"""What configs call the width between the two linear layers of a feed-forward block."""
Kinds = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Layer:
    """Paths of the six linear layers of one transformer layer."""

    query: str
    key: str
    value: str
    output: str
    rises: str
    falls: str


@dataclass(frozen=True)
class Axes:
    """The sizes of a model, and which axis of which weight follows which of them.

    Attributes:
        kinds: weight -> what each of its axes counts: ``width`` (channels of the residual stream), ``inner`` (outputs
            of a dense layer in the head), ``query.I`` (dimensions of queries and keys of layer I, head after head),
            ``value.I`` (of values), ``units.I`` (feed-forward units), ``""`` (anything else).
        layers: paths of the linear layers of each layer.
        norms: paths of the layer norms over the width.
        readers: paths of the linear layers that are given ``inner``.
        width, heads, head_size, feed_forward: sizes.
        feed_key: the config's name of the feed-forward size.
        tied: the word embeddings are the weights of a head, too.
    """

    kinds: Kinds
    layers: tuple[Layer, ...]
    norms: tuple[str, ...]
    readers: tuple[str, ...]
    width: int
    heads: int
    head_size: int
    feed_forward: int
    feed_key: str
    tied: bool

    @classmethod
    def of(cls, model: nn.Module) -> Axes:
        """Looks at a model; nothing of it changes.

        Raises:
            UsageError: a model that is not made of layers with query, key, value, output and two feed-forward
                projections; the message says which of these was not found.
        """
        whole: Any = model
        config, name = whole.config, type(model).__name__
        stack, modules = layer_stack(model)
        width, heads = _size(config, "hidden_size", name), _size(config, "num_attention_heads", name)
        feed_key = next((key for key in FEED_FORWARD if isinstance(getattr(config, key, None), int)), "")
        if not feed_key:
            raise UsageError(
                f"{name} cannot be narrowed: its config has no feed-forward size, by any of {', '.join(FEED_FORWARD)}"
            )
        wide = moved(model, hidden_size=2 * width, num_attention_heads=2 * heads)
        fed = moved(model, **{feed_key: getattr(config, feed_key) + 1})
        layers = tuple(_layer(model, f"{stack}.{i}", fed) for i in range(len(modules)))
        kinds = _kinds(model, stack, layers, wide, fed, width)
        return cls(
            kinds=kinds,
            layers=layers,
            norms=tuple(p for p, m in model.named_modules() if _normalises(m, kinds.get(f"{p}.weight"))),
            readers=tuple(n.removesuffix(".weight") for n, kind in kinds.items() if kind[1:] == ("inner",)),
            width=width,
            heads=heads,
            head_size=width // heads,
            feed_forward=int(getattr(config, feed_key)),
            feed_key=feed_key,
            tied=tied(model),
        )


def moved(model: nn.Module, **sizes: int) -> dict[str, tuple[int, ...]]:
    """For each weight of a model, the axes whose size changes with these entries of its config.

    Raises:
        UsageError: a model that its class does not build again from its config.
    """
    whole: Any = model
    config = copy.deepcopy(whole.config)
    for key, size in sizes.items():
        setattr(config, key, size)
    mine = model.state_dict()
    with torch.device("meta"):
        other = type(whole)(config).state_dict()
    if mine.keys() != other.keys():
        odd = sorted(mine.keys() ^ other.keys())
        raise UsageError(
            f"{type(model).__name__} cannot be cut: its config describes a model with other weights ({odd[0]})"
        )
    return {
        name: tuple(axis for axis, (a, b) in enumerate(zip(value.shape, other[name].shape, strict=True)) if a != b)
        for name, value in mine.items()
    }


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


def _layer(model: nn.Module, path: str, fed: Mapping[str, tuple[int, ...]]) -> Layer:
    name, projections = type(model).__name__, Anatomy.of(model).projections
    linear = [f"{path}.{inner}" for inner, m in model.get_submodule(path).named_modules() if isinstance(m, nn.Linear)]
    seen = {kind: [one for one in projections.get(kind, ()) if one in linear] for kind in ("query", "key", "value")}
    rises = [one for one in linear if fed.get(f"{one}.weight") == (0,)]
    falls = [one for one in linear if fed.get(f"{one}.weight") == (1,)]
    others = [one for one in linear if one not in [*rises, *falls, *(p for ps in seen.values() for p in ps)]]
    seen |= {"attention output": others, "feed-forward up": rises, "feed-forward down": falls}
    for part, found in seen.items():
        if len(found) != 1:
            said = "none" if not found else ", ".join(found)
            raise UsageError(f"{name} cannot be narrowed: one {part} projection was looked for in {path}, found {said}")
    return Layer(*(found[0] for found in seen.values()))


def _kinds(
    model: nn.Module,
    stack: str,
    layers: tuple[Layer, ...],
    wide: Mapping[str, tuple[int, ...]],
    fed: Mapping[str, tuple[int, ...]],
    width: int,
) -> Kinds:
    weights = model.state_dict()
    special: dict[str, str] = {}
    for i, layer in enumerate(layers):
        special |= {f"{layer.query}.": f"query.{i}", f"{layer.key}.": f"query.{i}", f"{layer.value}.": f"value.{i}"}
    given = {f"{layer.output}.weight": f"value.{i}" for i, layer in enumerate(layers)}
    units = {path: f"units.{i}" for i, layer in enumerate(layers) for path in (layer.rises, layer.falls)}
    square = _square(model, stack, wide)
    kinds: dict[str, tuple[str, ...]] = {}
    for name, value in weights.items():
        kind = [""] * value.ndim
        path = name.rpartition(".")[0]
        for axis in wide[name]:
            if value.shape[axis] != width:
                raise UsageError(
                    f"{type(model).__name__} cannot be narrowed: {name} has an axis of {value.shape[axis]} that "
                    f"follows the width or the heads, and is neither the width ({width}) nor in a projection"
                )
            kind[axis] = "width"
        for axis in fed[name]:
            kind[axis] = units.get(path, "")
        if f"{path}." in special:
            kind[0] = special[f"{path}."]
        if name in given:
            kind[1] = given[name]
        if square and path == square:
            kind[0] = "inner"
        elif square and _reads_inner(model, path, stack, kind):
            kind[1] = "inner"
        kinds[name] = tuple(kind)
    return kinds


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


def _normalises(module: nn.Module, kind: tuple[str, ...] | None) -> bool:
    return isinstance(module, nn.LayerNorm) and kind == ("width",)
