"""The cut student: some layers of a transformers model, weights copied, embeddings and head carried over."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.features import layer_stack
from understudy.students.saving import parameters


def uniform_layers(total: int, kept: int) -> list[int]:
    """Which ``kept`` of ``total`` layers to keep, evenly spaced, the first always among them: floor(i * total / kept).

    With ``kept`` half of ``total`` that is every other layer, as DistilBERT began (Sanh et al. 2019). Two neighbours
    are never further apart than ceil(total / kept) nor closer than floor(total / kept).

    >>> uniform_layers(6, 3), uniform_layers(12, 4), uniform_layers(6, 4)
    ([0, 2, 4], [0, 3, 6, 9], [0, 1, 3, 4])

    Raises:
        UsageError: ``kept`` outside 1 .. ``total``.
    """
    if not 1 <= kept <= total:
        raise UsageError(f"a student keeps between 1 and {total} of {total} layers, not {kept}")
    return [i * total // kept for i in range(kept)]


def cut(model: nn.Module, layers: Sequence[int] | int | None = None, *, initialise: bool = True) -> nn.Module:
    """A new model of the same class that has only some layers of ``model``, with its weights. ``model`` is not touched.

    The layers are those of the one ``nn.ModuleList`` that is as long as the config says the model is deep, so any
    BERT-like model will do. Everything outside it (embeddings, final norm, pooler, head) is carried over. Nothing is
    shared with ``model``. The config is updated, so ``save_pretrained`` and ``from_pretrained`` work. The new model is
    in train mode, on the device and in the precision of ``model``.

    Args:
        model: a transformers model.
        layers: which ones, increasing, from 0; a number: that many by `uniform_layers`; None: half of them (rounded
            down, at least one).
        initialise: False gives the same architecture with fresh random weights instead (torch's global generator),
            for comparisons. With True the generator is not advanced.

    Raises:
        UsageError: not a transformers model, no stack of layers or several that fit, or layers that are not there.
    """
    path, stack = layer_stack(model)
    chosen = _chosen(layers, len(stack))
    teacher: Any = model
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = len(chosen)  # attribute_map leads it to n_layers where the config says so
    if isinstance(getattr(config, "layer_types", None), (list, tuple)) and len(config.layer_types) == len(stack):
        config.layer_types = [config.layer_types[i] for i in chosen]
    if initialise:
        with torch.random.fork_rng(devices=[]):
            student = type(teacher)(config)
    else:
        student = type(teacher)(config)
    reference = next(model.parameters())
    student.to(device=reference.device, dtype=reference.dtype)
    if initialise:
        student.load_state_dict(_chosen_weights(model.state_dict(), path, chosen))
    return student.train()


@torch.no_grad()
def reorder_labels(model: nn.Module, order: Sequence[int], names: Sequence[str]) -> None:
    """Moves the outputs of a classifier, in place: output i becomes what was ``order[i]``, and is called ``names[i]``.

    Args:
        model: a transformers classifier; its head is the last linear layer with as many outputs as there are labels.
        order: [K] old positions, each once.
        names: [K] label names in the new order.

    Raises:
        UsageError: no such layer, or an order that is no permutation.
    """
    if sorted(order) != list(range(len(names))):
        raise UsageError(f"an order of {len(names)} labels names each position once, got {list(order)[:8]}")
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == len(names)]
    if not heads:
        raise UsageError(f"{type(model).__name__} has no linear layer with {len(names)} outputs to reorder")
    head, rows = heads[-1], torch.tensor(list(order), device=heads[-1].weight.device)
    head.weight.copy_(head.weight[rows].clone())
    if head.bias is not None:
        head.bias.copy_(head.bias[rows].clone())
    config: Any = getattr(model, "config", None)
    if config is not None:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}


def inheritance(student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
    """What a cut student has from its teacher, found by comparing every tensor bit by bit.

    Ask before training. Keys: ``stack`` (path of the layers), ``layers`` (student layer -> teacher layer, None where
    no layer is equal), ``carried`` and ``fresh`` (names of the tensors outside the stack that are equal, and not),
    ``parameters`` ({"teacher", "student"}), ``sentence``.

    Raises:
        UsageError: one of the two is not a transformers model with one stack of layers.
    """
    path, own = layer_stack(student)
    teacher_path, theirs = layer_stack(teacher)
    layers = {i: next((j for j, b in enumerate(theirs) if _same(a, b)), None) for i, a in enumerate(own)}
    outside = {name: value for name, value in student.state_dict().items() if not name.startswith(f"{path}.")}
    source = teacher.state_dict()
    carried = [name for name, value in outside.items() if name in source and _equal(value, source[name])]
    fresh = [name for name in outside if name not in carried]
    counts = {"teacher": parameters(teacher), "student": parameters(student)}
    kept = [j for j in layers.values() if j is not None]
    sentence = (
        f"{len(kept)} of {len(own)} layers are copies of the teacher's {', '.join(map(str, kept)) or '(none)'} "
        f"of {len(theirs)}, "
        f"{len(carried)} of {len(outside)} tensors outside them were carried over; "
        f"{counts['student']:,} of {counts['teacher']:,} parameters"
    )
    return {
        "stack": teacher_path,
        "layers": layers,
        "carried": carried,
        "fresh": fresh,
        "parameters": counts,
        "sentence": sentence,
    }


def _chosen(layers: Sequence[int] | int | None, total: int) -> list[int]:
    if layers is None:
        return uniform_layers(total, max(1, total // 2))
    if isinstance(layers, int):
        return uniform_layers(total, layers)
    chosen = [int(layer) for layer in layers]
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= total:
        raise UsageError(f"layers are increasing numbers from 0 to {total - 1}, at least one, got {list(layers)}")
    return chosen


def _chosen_weights(weights: dict[str, Tensor], path: str, chosen: list[int]) -> dict[str, Tensor]:
    """The teacher's weights under the names that they have in the student."""
    renamed = {name: value for name, value in weights.items() if not name.startswith(f"{path}.")}
    for new, old in enumerate(chosen):
        prefix = f"{path}.{old}."
        mine = {name: value for name, value in weights.items() if name.startswith(prefix)}
        renamed |= {f"{path}.{new}.{name.removeprefix(prefix)}": value for name, value in mine.items()}
    return renamed


def _same(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(_equal(mine[name], theirs[name]) for name in mine)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.cpu(), other.cpu())
