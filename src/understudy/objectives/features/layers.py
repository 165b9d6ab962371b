"""Layers of two models, pair by pair: which teaches which, and how their widths and sizes meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.objectives.numerics import wide
from understudy.objectives.term import Needs, signal
from understudy.records import Batch, Outputs, Targets

__all__ = ["layer_map"]

Layers = Mapping[str, str | int] | Mapping[int, str | int] | Mapping[str | int, str | int]
Pairs = tuple[tuple[str, str], ...]


def layer_map(kind: str, student: Sequence[str | int], teacher: Sequence[str | int]) -> dict[str, str]:
    """Which layer of the teacher teaches which layer of the student: what terms take as ``layers``.

    Formula: with n layers of the student and m of the teacher, counted from 1, layer i learns from layer
    ``round(i * m / n)`` ("uniform", so that the last meets the last) or ``m - n + i`` ("last").

    Args:
        kind: ``uniform`` or ``last``.
        student: its layers from shallow to deep: numbers (hidden states), signals or module paths.
        teacher: its layers, likewise; at least as many.

    Returns:
        The student's signal -> the teacher's, from shallow to deep.

    >>> layer_map("uniform", [1, 2], [1, 2, 3, 4, 5, 6])
    {'hidden.1': 'hidden.3', 'hidden.2': 'hidden.6'}
    >>> layer_map("last", ["hidden.1", "hidden.2"], ["hidden.4", "hidden.5", "hidden.6"])
    {'hidden.1': 'hidden.5', 'hidden.2': 'hidden.6'}

    Raises:
        UsageError: an unknown kind, no layers, a layer twice, or more layers of the student than of the teacher.

    Source: Jiao et al. 2020 (TinyBERT), arXiv 1909.10351, whose g(m) = 3m, for 4 layers and 12, is "uniform"; Sun et
    al. 2019, arXiv 1908.09355, section 3, whose PKD-Last is like "last" (it leaves the very last layer out).
    """
    if kind not in ("uniform", "last"):
        raise UsageError(f"wanted a kind of layer map, got {kind!r}: {choices(kind, ('uniform', 'last'))}")
    mine, theirs = _named("student", student), _named("teacher", teacher)
    n, m = len(mine), len(theirs)
    if n > m:
        raise UsageError(
            f"wanted a layer of the teacher for each of the student's, got {n} of the student ({', '.join(mine)}) "
            f"and {m} of the teacher ({', '.join(theirs)}): leave out some of the student's"
        )
    chosen = [round((i + 1) * m / n) - 1 if kind == "uniform" else m - n + i for i in range(n)]
    return {layer: theirs[index] for layer, index in zip(mine, chosen, strict=True)}


def _named(whose: str, layers: Sequence[str | int]) -> list[str]:
    if isinstance(layers, str) or not isinstance(layers, Sequence) or not layers:
        raise UsageError(f"layer_map: wanted the {whose}'s layers as a sequence, from shallow to deep, got {layers!r}")
    named = [signal(layer) for layer in layers]
    if len(set(named)) < len(named):
        raise UsageError(f"layer_map: wanted each of the {whose}'s layers once, got {', '.join(named)}")
    return named


def paired(kind: str, layers: Layers) -> Pairs:
    """``layers`` as pairs of signals, or one error that names the term."""
    if not isinstance(layers, Mapping) or not layers:
        raise UsageError(f"{kind}: wanted pairs of layers as a mapping, the student's to the teacher's, got {layers!r}")
    pairs = tuple((signal(student), signal(teacher)) for student, teacher in layers.items())
    for student, teacher in pairs:
        # [N, heads, L, L] and [N, heads, L, d] look like feature maps and are not, and their padding would count.
        if any(name.startswith(("attention.", "query.", "key.", "value.")) for name in (student, teacher)):
            raise UsageError(
                f"{kind}: wanted hidden states, features or outputs of modules, got {student} and {teacher}: attention "
                "has terms of its own"
            )
    return pairs


def needed(pairs: Pairs) -> Needs:
    """The signals of every pair."""
    return Needs(frozenset(student for student, _ in pairs), frozenset(teacher for _, teacher in pairs))


def shown(layers: Layers) -> str:
    """The pairs as their author wrote them, for the end of a formula."""
    return ", ".join(f"{student} to {teacher}" for student, teacher in layers.items())


def width(said: Tensor) -> int:
    """Channels of a feature map [N, C, H, W], columns of anything else."""
    return said.shape[1] if said.ndim == 4 else said.shape[-1]


def bridges(outputs: Outputs, targets: Targets, *, pairs: Pairs) -> nn.ModuleDict:
    """A connector: a linear map for each pair whose widths differ; keyed by position, because signals have dots."""
    maps = nn.ModuleDict()
    for position, (mine, theirs) in enumerate(pairs):
        student, teacher = outputs[mine], targets[theirs]
        if width(student) != width(teacher):
            maps[str(position)] = linear(student, teacher)
    return maps


def linear(student: Tensor, teacher: Tensor) -> nn.Linear:
    """From the student's width to the teacher's, fp32 or better, where the student is."""
    dtype = torch.promote_types(student.dtype, torch.float32)
    return nn.Linear(width(student), width(teacher), device=student.device, dtype=dtype)


def apply(layer: nn.Linear, student: Tensor) -> Tensor:
    """The map at every position, in its own precision: a student in bf16 does not narrow it."""
    mapped: Tensor = layer(student.to(layer.weight.dtype))
    return mapped


def sizes_met(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both wide with the channels last; of two feature maps the larger is average-pooled to the size of the smaller.

    A linear map of the last axis is then the 1x1 convolution, and every distance reads the last axis.
    """
    student, teacher = wide(student), wide(teacher.detach())
    if student.ndim != 4 or teacher.ndim != 4:
        return student, teacher
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    pooled = (x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size) for x in (student, teacher))
    student, teacher = (x.movedim(1, -1) for x in pooled)
    return student, teacher


def meet(
    kind: str,
    outputs: Outputs,
    targets: Targets,
    pairs: Pairs,
    connector: nn.Module | None,
    read: Callable[[Tensor], Tensor] = lambda said: said,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pair by pair, student and teacher in one shape [N, ..., D], through their maps of `bridges`.

    Raises:
        UsageError: they are not at the same positions, or widths differ and there is no map.
    """
    maps: Mapping[str, nn.Module] = dict(connector.items()) if isinstance(connector, nn.ModuleDict) else {}
    for position, (mine, theirs) in enumerate(pairs):
        student, teacher = sizes_met(read(outputs[mine]), read(targets[theirs]))
        layer = maps.get(str(position))
        if isinstance(layer, nn.Linear):
            student = apply(layer, student)
        if student.shape != teacher.shape:
            raise UsageError(
                f"{kind}: wanted student {mine} and teacher {theirs} at the same positions, got shapes "
                f"{list(outputs[mine].shape)} and {list(targets[theirs].shape)} (widths meet in the term's connector)"
            )
        yield student, teacher


def counted(kind: str, value: Tensor, batch: Batch, per: str) -> Tensor:
    """One number for each entry of the mask: positions stay where it counts them, and are averaged where it does not.

    Raises:
        UsageError: the average would be over the positions of a sequence, padding among them.
    """
    if value.ndim <= batch.masks[per].ndim:
        return value
    if value.ndim == 2 and "tokens" in batch.masks:
        raise UsageError(
            f'{kind}: wanted per="tokens" for layers [N, L, D] of a sequence with padding, got per="{per}", '
            "which would average over the padding too"
        )
    return value.flatten(1).mean(dim=1)
