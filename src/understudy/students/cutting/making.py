"""The cut student: a transformers model with less of everything, and the weights of what it keeps."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.features import layer_stack
from understudy.students.cutting.axes import Axes
from understudy.students.cutting.depth import refuse_places, shorten
from understudy.students.cutting.factors import factorise, factors_of, refuse_rank
from understudy.students.cutting.layers import Spread, chosen_layers
from understudy.students.cutting.principal import directions, fitted, projected
from understudy.students.cutting.scores import Rows, scores_of
from understudy.students.cutting.sizes import Sizes, sizes_of
from understudy.students.cutting.width import carried, kept, rescaled

RECORD = "understudy_cut"
"""Key of a student's config: what its channels, heads and units were chosen by, what its rank keeps of what is used."""


def cut(
    model: nn.Module,
    layers: Sequence[int] | int | None = None,
    *,
    spread: Spread = "uniform",
    width: int | None = None,
    heads: int | None = None,
    feed_forward: int | None = None,
    choose: Literal["importance", "pca"] = "importance",
    rows: Iterable[Mapping[str, Any]] | None = None,
    rank: int | None = None,
    initialise: bool = True,
) -> nn.Module:
    """A new model of the same class that is shallower or narrower than ``model``, with its weights.

    ``model`` is not touched and nothing is shared with it. The config is updated, so ``save_pretrained`` and
    ``from_pretrained`` work (with a ``rank``: `students.save` and `students.load`). The new model is in train mode, on
    the device and in the precision of ``model``.

    Layers are those of the one ``nn.ModuleList`` that is as long as the config says the model is deep; everything
    outside it (embeddings, final norm, pooler, head) is carried over. Width, heads and feed-forward units are for
    models whose layers have query, key, value, output and two feed-forward projections, such as BERT, DistilBERT,
    RoBERTa, ELECTRA and ViT, and for decoders such as GPT-2, Llama and Qwen2; which axis of which weight follows which
    size is seen from the model (`Axes.of`). A model that was kept whole in all of these says exactly what the teacher
    says. Heads that share keys and values are kept or left out together. Where positions turn the dimensions of a head
    (Llama, Qwen2) heads keep their size, and ``width`` and ``heads`` together are free of each other.

    ``choose="importance"`` copies the channels, heads and units that matter most (`scores_of`). ``choose="pca"``
    projects the residual stream onto its principal directions P instead: weights that write to it become P^T W, weights
    that read it W P. That is exact for linear maps and only approximate for a stream with layer norms, which do
    not commute with P: their scale and shift are fitted anew on ``rows``, channel by channel, and biases take over what
    the dropped directions gave on average. Heads, units and a dense layer in the head are chosen by importance all the
    same.

    Args:
        model: a transformers model.
        layers: which ones, increasing, from 0; a number: that many, by ``spread``; None: half of them (rounded down, at
            least one) where nothing else is asked for, otherwise all.
        spread: ``uniform`` (`uniform_layers`), ``first`` or ``last``.
        width: hidden size; with ``heads`` unset a multiple of the teacher's head size, which stays.
        heads: attention heads; without ``width`` it becomes their number times the head size.
        feed_forward: units between the two linear layers of a feed-forward block.
        choose: ``importance`` or ``pca``.
        rows: batches of real inputs by name, such as ``{"input_ids": ..., "attention_mask": ...}``, tensors or arrays;
            a few hundred rows will do. Without them importance is read from the lengths of the weights.
        rank: the table of sub-words becomes V x rank and rank x width (`factorise`); ``rows`` say which sub-words
            matter. (ALBERT, Lan et al. 2020, has such a table.)
        initialise: False gives the same architecture with fresh random weights instead (torch's global generator),
            for comparisons. With True the generator is not advanced.

    Raises:
        UsageError: not a transformers model, no stack of layers or several that fit, layers that are not there, sizes
            that do not fit each other, parts that were looked for and not found, principal directions without rows, or
            a rank beyond the width.
    """
    if choose not in ("importance", "pca"):
        raise UsageError(f'no way to choose by "{choose}": {choices(choose, ("importance", "pca"))}')
    if factors_of(model) is not None:
        raise UsageError(f"{type(model).__name__} has a factorised table already: cut the model that it came from")
    path, stack = layer_stack(model)
    narrow = any(size is not None for size in (width, heads, feed_forward))
    whole = layers is None and (narrow or rank is not None)
    chosen = list(range(len(stack))) if whole else chosen_layers(layers, len(stack), spread)
    given = list(rows) if rows is not None and (narrow or rank is not None) and initialise else []
    shape = Narrow.of(model, width=width, heads=heads, feed_forward=feed_forward) if narrow else None
    if choose == "pca" and shape is not None and shape.sizes.width < shape.axes.width:
        _refuse_pca(model, shape, given if initialise else None)
    student = _empty(model, chosen, len(stack), shape, initialise=initialise)
    refuse_places(model, path, chosen, student if shape is None else None)
    if rank is not None:
        refuse_rank(student, rank)
    record: dict[str, Any] = {}
    _refuse_parts(model, student, _renamed(model.state_dict(), path, chosen))
    if shape is not None:
        shape.refuse_heads(student)
    if initialise:
        weights = model.state_dict()
        if shape is not None:
            weights = shape.weights(model, chosen, given, choose=choose)
            record |= {"layers": chosen, "choose": choose, "by": shape.by}
        student.load_state_dict(_renamed(weights, path, chosen))
    if rank is not None:
        with torch.random.fork_rng(devices=[], enabled=initialise):
            share = factorise(student, rank, rows=given, initialise=initialise)
        record |= {"energy": share} if given else {}
    if record:
        setattr(student.config, RECORD, record)
    return student.train()


@dataclass
class Narrow:
    """A narrower shape of a model, and the weights for it."""

    axes: Axes
    sizes: Sizes
    by: str = "nothing was left out"

    @classmethod
    def of(cls, model: nn.Module, **sizes: int | None) -> Narrow:
        axes = Axes.of(model)
        found = cls(axes, sizes_of(axes, **sizes))
        if axes.scaled and found.sizes.width < axes.width:
            raise UsageError(
                f"{type(model).__name__} cannot lose width: {axes.scaled} follows from it, so that what is kept would "
                "count for less: cut layers, heads or feed-forward units, and say its width"
            )
        if axes.across and (found.sizes.width, found.sizes.heads) != (axes.width, axes.heads):
            raise UsageError(
                f"{type(model).__name__} cannot be narrowed: {axes.across} is a norm over all heads together, so that "
                "fewer of them would be other heads: cut layers or feed-forward units, and say its width and heads"
            )
        return found

    def config(self, config: Any) -> None:
        """Writes the sizes into a config; what was as wide as the model stays so."""
        axes, sizes = self.axes, self.sizes
        config.hidden_size, config.num_attention_heads = sizes.width, sizes.heads
        setattr(config, axes.feed_key, sizes.feed_forward)
        if getattr(config, "head_dim", None) is not None or sizes.heads * sizes.head_size != sizes.width:
            config.head_dim = sizes.head_size
        if getattr(config, "num_key_value_heads", None) is not None:
            config.num_key_value_heads = sizes.key_heads

    def refuse_heads(self, student: nn.Module) -> None:
        """Raises where the model's class takes the size of a head from its width, and that is another."""
        layer, sizes = self.axes.layers[0], self.sizes
        wanted = sizes.heads * sizes.head_size
        if not layer.fused and len(student.get_parameter(f"{layer.query}.weight")) != wanted:
            raise UsageError(
                f"{type(student).__name__} has heads as large as its width divided by their number, a head keeps its "
                f"size here, {sizes.head_size}: {sizes.heads} heads want a width of {wanted}, not {sizes.width}"
            )

    def weights(self, model: nn.Module, layers: Sequence[int], rows: Rows, *, choose: str) -> dict[str, Tensor]:
        """The teacher's weights, narrower; those of layers that are left out as they were."""
        axes, sizes, weights = self.axes, self.sizes, dict(model.state_dict())
        if sizes == Sizes.of(axes):
            return weights
        scores = scores_of(model, axes, rows)
        maps = kept(axes, sizes, scores, layers)
        norms: dict[str, Tensor] = {}
        self.by = scores.source
        if choose == "pca" and "width" in maps:
            basis, share = directions(model, axes, rows, sizes.width)
            weights, norms = projected(weights, *fitted(model, axes, rows, basis))
            maps["width"] = basis
            self.by = f"{scores.source}, of whose variance {share:.1%} is kept"
        return rescaled(carried(weights, axes.kinds, maps), axes, sizes) | norms


def _refuse_pca(model: nn.Module, shape: Narrow, rows: Rows | None) -> None:
    if rows is not None and not rows:
        raise UsageError("choose=pca wants rows: principal directions are those of activations, on real inputs")
    name = type(model).__name__
    if shape.axes.tied:
        raise UsageError(
            f"choose=pca cannot carry the head of {name}, which is tied to the embeddings behind a "
            "nonlinear layer: use choose=importance"
        )
    odd = {type(model.get_submodule(path)) for path in shape.axes.norms} - {nn.LayerNorm}
    if odd or any(layer.fused for layer in shape.axes.layers):
        said = ", ".join(sorted(one.__name__ for one in odd)) or "a linear layer for queries, keys and values in one"
        raise UsageError(
            f"choose=pca is for layer norms and plain projections, {name} has {said}: use choose=importance"
        )


def _refuse_parts(model: nn.Module, student: nn.Module, weights: Mapping[str, Tensor]) -> None:
    odd = sorted(weights.keys() ^ student.state_dict().keys())
    if odd:
        raise UsageError(
            f"{type(model).__name__} cannot be cut: at this size its class has other parts, by its config ({odd[0]})"
        )


def _empty(model: nn.Module, chosen: Sequence[int], total: int, shape: Narrow | None, *, initialise: bool) -> Any:
    """A fresh model of the new shape."""
    teacher: Any = model
    config = copy.deepcopy(teacher.config)
    shorten(config, chosen, total)
    if shape is not None:
        shape.config(config)
    if initialise:
        with torch.random.fork_rng(devices=[]):
            student = type(teacher)(config)
    else:
        student = type(teacher)(config)
    reference = next(model.parameters())
    return student.to(device=reference.device, dtype=reference.dtype)


def _renamed(weights: Mapping[str, Tensor], path: str, chosen: Sequence[int]) -> dict[str, Tensor]:
    """The teacher's weights under the names that they have in the student."""
    renamed = {name: value for name, value in weights.items() if not name.startswith(f"{path}.")}
    for new, old in enumerate(chosen):
        prefix = f"{path}.{old}."
        mine = {name: value for name, value in weights.items() if name.startswith(prefix)}
        renamed |= {f"{path}.{new}.{name.removeprefix(prefix)}": value for name, value in mine.items()}
    return renamed
