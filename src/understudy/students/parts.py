"""A student with exits as consecutive modules: what lies between two exits, as something that can ship alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

from understudy.features import layer_stack
from understudy.students.exits import Head, pools
from understudy.students.families.vision import Cnn

if TYPE_CHECKING:
    from understudy.students.exits import Exits

Module = TypeVar("Module", bound=nn.Module)


class Part(nn.Module):
    """The layers between two exits, and the head at their end.

    Args:
        body: inputs or state -> the state after its layers; where ``head`` is None, the logits.
        head: of the exit; None: the body ends in the model's own.
        after: what the state still passes before the next part, once the head has seen it.
    """

    def __init__(self, body: nn.Module, head: Head | None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.head, self.after = body, head, after

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """``logits`` [N, K], and ``next_state`` where a part follows."""
        said = self.body(**inputs)
        if self.head is None:
            return {"logits": said}
        _, logits = self.head(said)
        return {"logits": logits, "next_state": said if self.after is None else self.after(said)}


def parts(module: Exits) -> list[Part]:
    """See `Exits.parts`."""
    whole = _sharing(module)
    cut = _of_cnn(whole) if isinstance(whole.model, Cnn) else _of_encoder(whole)
    return [part.eval() for part in cut]


def _of_cnn(module: Exits) -> list[Part]:
    model: Any = module.model
    # A part ends behind the pooling that the next stage begins with: a quarter of the numbers go on.
    begins = [0, *(pools(model)[i - 1] for i in module.at), len(model.stages)]
    found = []
    for number, (first, last) in enumerate(pairwise(begins)):
        layers = model.stages[first + (number > 0) : last]
        body = _Images(model.scale if number == 0 else None, layers)
        if last == len(model.stages):
            found.append(Part(_Logits(body, Head(None, model.dropout, model.output)), None))
        else:
            found.append(Part(body, _as_head(module.heads[number]), model.stages[last]))
    return found


def _of_encoder(module: Exits) -> list[Part]:
    total = len(layer_stack(module.model)[1])
    found = []
    for number, (first, last) in enumerate(pairwise([0, *module.at, total])):
        host: Any = _sharing(module.model)
        path, stack = layer_stack(host)
        parent, _, name = path.rpartition(".")
        setattr(host.get_submodule(parent), name, nn.ModuleList(list(stack)[first:last]))
        host.config.num_hidden_layers = last - first
        if first:
            host.base_model.embeddings = _Passing()
        if last == total:
            found.append(Part(_Texts(host, "logits"), None))
            continue
        inner = host.base_model
        if getattr(inner, "pooler", None) is not None:
            inner.pooler = None  # the exit has one of its own
        found.append(Part(_Texts(inner, "last_hidden_state"), _as_head(module.heads[number])))
    return found


class _Images(nn.Module):
    """Some stages, behind the model's normalisation where they are its first."""

    def __init__(self, scale: nn.Module | None, layers: nn.Module) -> None:
        super().__init__()
        self.scale, self.layers = scale, layers

    def forward(self, pixels: Tensor | None = None, state: Tensor | None = None) -> Tensor:
        found: Tensor = self.layers(state if self.scale is None else self.scale(pixels))
        return found


class _Logits(nn.Module):
    """A body and the model's own head behind it."""

    def __init__(self, body: nn.Module, head: Head) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, **inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(**inputs))[1]
        return logits


class _Texts(nn.Module):
    """Some layers of an encoder, asked for one entry of its output."""

    def __init__(self, host: nn.Module, entry: str) -> None:
        super().__init__()
        self.host, self.entry = host, entry

    def forward(self, **inputs: Tensor) -> Tensor:
        output: Mapping[str, Tensor] = self.host(
            **{"inputs_embeds" if name == "state" else name: value for name, value in inputs.items()}
        )
        return output[self.entry]


class _Passing(nn.Module):
    """In the place of the embeddings: the state of the part before, whatever it is called, as it came."""

    def forward(self, *given: Any, **named: Any) -> Tensor:
        state: Tensor = next(
            value for value in (*given, *named.values()) if isinstance(value, Tensor) and value.is_floating_point()
        )
        return state


def _as_head(module: nn.Module) -> Head:
    assert isinstance(module, Head)
    return module


def _sharing(module: Module) -> Module:
    """A copy of the structure around the same parameters and buffers: it can be taken apart, and weighs nothing."""
    tensors = (*module.parameters(), *module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
