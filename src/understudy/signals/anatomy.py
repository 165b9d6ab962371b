"""What a model is made of, as far as signals go: its layers, their attention, its heads."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules import activation

from understudy.errors import UsageError
from understudy.features import layer_stack

_PROJECTIONS = {
    "query": ("query", "query_proj", "q_proj", "q_lin", "to_q", "q"),
    "key": ("key", "key_proj", "k_proj", "k_lin", "to_k", "k"),
    "value": ("value", "value_proj", "v_proj", "v_lin", "to_v", "v"),
}
_FUSED = ("qkv", "qkv_proj", "Wqkv", "c_attn", "query_key_value", "in_proj")


@dataclass(frozen=True)
class Anatomy:
    """Where the parts of a transformers model are that signals name; nothing but paths and numbers.

    Attributes:
        speaker: path of the transformers model, "" for the model itself.
        depth: its layers; 0 where there is no transformers model, or more than one.
        layers: their paths, () where they are not one list of modules.
        plain: its hidden states are exactly what these layers give, each of which runs once.
        attentions: for each layer the path of what gives its attention as second output; () where that is not known.
        projections: ``query``, ``key``, ``value`` -> path of that projection in each layer.
        heads: ``query``, ``key``, ``value`` -> attention heads.
        fused: one projection that gives query, key and value together.
    """

    speaker: str = ""
    depth: int = 0
    layers: tuple[str, ...] = ()
    plain: bool = False
    attentions: tuple[str, ...] = ()
    projections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    heads: Mapping[str, int] = field(default_factory=dict)
    fused: str = ""

    @classmethod
    def of(cls, model: nn.Module) -> Anatomy:
        """Looks at a model: no forward, nothing changed."""
        found = list(_speakers(model))
        config: Any = found[0][1].config if len(found) == 1 else None
        if config is None or getattr(config, "is_encoder_decoder", False):
            return cls()
        path, speaker = found[0]
        layers: tuple[str, ...] = ()
        with suppress(UsageError):
            stack, modules = layer_stack(speaker, alike=False)
            layers = tuple(_join(path, f"{stack}.{i}") for i in range(len(modules)))
        attentions = tuple(_join(path, name) for name in _recorded(speaker, "attentions"))
        every = [[name for name in attentions if name.startswith(f"{layer}.")] for layer in layers]
        projections, fused = _projections(model, layers)
        heads: Any = getattr(config, "num_attention_heads", None)
        fewer: Any = getattr(config, "num_key_value_heads", None) or heads
        return cls(
            speaker=path,
            depth=config.num_hidden_layers,
            layers=layers,
            plain=bool(layers) and tuple(_join(path, name) for name in _recorded(speaker, "hidden_states")) == layers,
            attentions=attentions if layers and all(len(one) == 1 for one in every) else (),
            projections=projections,
            heads={"query": heads, "key": fewer, "value": fewer} if isinstance(heads, int) else {},
            fused=fused,
        )


def layers_of(model: nn.Module) -> list[str]:
    """The signals of a model's layers, from shallow to deep.

    Of a transformers model, also inside a wrapper, ``hidden.1`` to ``hidden.L``. Elsewhere ``module:PATH`` of what the
    longest ``nn.Sequential`` or ``nn.ModuleList`` holds that is not itself in one: its blocks (modules with modules
    inside and parameters) and activations, so neither pooling nor dropout; where it has neither, whatever has
    parameters. The last linear layer of the model is none. [] for a model without such a list (`students.Static`).

    >>> layers_of(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)))
    ['module:1', 'module:3']
    """
    depth = Anatomy.of(model).depth
    if depth:
        return [f"hidden.{index}" for index in range(1, depth + 1)]
    lists: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if isinstance(module, (nn.Sequential, nn.ModuleList)) and not any(_within(path, outer) for outer in lists):
            lists[path] = module
    longest = max(lists, key=lambda path: len(list(lists[path].children())), default="")
    children = list(lists[longest].named_children()) if lists else []
    heads = linear_layers(model)
    children = [(name, child) for name, child in children if not heads or child is not heads[-1][1]]
    marked = [name for name, child in children if _is_block(child) or type(child).__module__ == activation.__name__]
    chosen = marked or [name for name, child in children if any(True for _ in child.parameters())]
    return [f"module:{_join(longest, name)}" for name in chosen]


def depth_of(model: nn.Module) -> int | None:
    """How many layers give hidden states; None where it is no transformers model, nor one in a wrapper."""
    return Anatomy.of(model).depth or None


def linear_layers(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Every linear layer with its path, in the order of ``named_modules``."""
    return [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)]


def _speakers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules that are transformers models: their config says how many layers they have."""
    seen: list[str] = []
    for path, module in model.named_modules():
        depth = getattr(getattr(module, "config", None), "num_hidden_layers", None)
        if isinstance(depth, int) and not any(_within(path, outer) for outer in seen) and _takes_wishes(module):
            seen.append(path)
            yield path, module


def _takes_wishes(module: nn.Module) -> bool:
    # A user's wrapper may keep the config of the model inside it, whose forward takes output_hidden_states; its own not
    parameters = inspect.signature(module.forward).parameters
    return "output_hidden_states" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _recorded(speaker: nn.Module, kind: str) -> list[str]:
    """Paths of the modules whose outputs transformers collects as ``hidden_states`` or ``attentions``; [] if unknown.

    That is its own table, by class. Models that fill these tuples in their own code (DeBERTa, MPNet) have none.
    """
    wanted = {"hidden_states": 0, "attentions": 1}[kind]
    tables = (getattr(module, "_can_record_outputs", None) for module in speaker.modules())
    spec: Any = next((table[kind] for table in tables if isinstance(table, Mapping) and kind in table), None)
    target = spec if isinstance(spec, type) else getattr(spec, "target_class", None)
    if not isinstance(target, type) or getattr(spec, "layer_name", None) or getattr(spec, "index", wanted) != wanted:
        return []
    return [path for path, module in speaker.named_modules() if isinstance(module, target)]


def _projections(model: nn.Module, layers: tuple[str, ...]) -> tuple[dict[str, tuple[str, ...]], str]:
    """The projections that every layer has exactly one of, and one that is fused, if there is any."""
    found: dict[str, list[str]] = {kind: [] for kind in _PROJECTIONS}
    fused = ""
    for layer in layers:
        inner = [path for path, _ in model.get_submodule(layer).named_modules() if "cross" not in path.lower()]
        for kind, names in _PROJECTIONS.items():
            here = [path for path in inner if path.rpartition(".")[2] in names]
            found[kind] += [_join(layer, here[0])] if len(here) == 1 else []
        fused = fused or next((_join(layer, path) for path in inner if path.rpartition(".")[2] in _FUSED), "")
    return {kind: tuple(paths) for kind, paths in found.items() if layers and len(paths) == len(layers)}, fused


def _is_block(module: nn.Module) -> bool:
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def _within(path: str, outer: str) -> bool:
    return not outer or path == outer or path.startswith(f"{outer}.")


def _join(outer: str, path: str) -> str:
    return f"{outer}.{path}" if outer and path else outer or path
