"""Self-attention: where the heads of a transformer look, and how its positions relate to each other.

Padding has no part in it: neither as a query (it is not counted) nor as a key (it is masked out before anything is
compared or normalised), so that its content changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from understudy.errors import UsageError, choices
from understudy.objectives.divergences import forward_kl
from understudy.objectives.features.layers import needed, paired, shown
from understudy.objectives.numerics import wide
from understudy.objectives.relations.pairs import products
from understudy.objectives.term import ZERO, Needs, Term, Weight, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["attention_maps", "self_attention_relations"]

Space = Literal["probabilities", "scores"]
Numbers = tuple[tuple[int, int], ...]
_READ = {"probabilities": ("attention",), "scores": ("query", "key")}
_RELATIONS = {"query": ("query", "query"), "key": ("key", "key"), "value": ("value", "value")}
_RELATIONS |= {"attention": ("query", "key")}


def attention_maps(
    layers: Mapping[int, int],
    weight: Weight = 1.0,
    *,
    space: Space = "probabilities",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """Heads must look where the teacher's heads look, one by one.

    Formula: of a query, the mean over layers, heads and keys that are no padding of (A(student) - A(teacher))^2, with A
    the attention probabilities, or the scores Q K^T / sqrt(d) before the softmax. At least 0; 0 with gradient 0 at
    equality.

    Args:
        layers: number of the student's layer -> number of the teacher's, counted from 1; as many heads in both.
        weight: at least 0, or a schedule.
        space: ``probabilities`` reads ``attention.I`` [N, heads, L, L], which of a student in train mode have gone
            through its attention dropout. ``scores`` reads ``query.I`` and ``key.I`` [N, heads, L, d], before any
            rotary position; d may differ.
        of: the output that learns.
        against: the source that teaches.
        name: how logs call the term.

    >>> sorted(attention_maps({2: 4}, space="scores").needs.source)
    ['key.4', 'query.4']

    Raises:
        UsageError: no layers, no such space, weight is negative, or (when it is computed) heads or positions that
            differ; `self_attention_relations` compares any numbers of heads.

    Source: Jiao et al. 2020 (TinyBERT), arXiv 1909.10351, equation 7, which takes the scores (they converged faster);
    probabilities are the default here because every attention can give them. Departures: the mean over layers, where
    they add up, and over real keys only, where they count padding as 0.
    """
    if space not in _READ:
        raise UsageError(f"wanted the space of the attention, got {space!r}: {choices(space, _READ)}")
    pairs = _numbers("attention_maps", layers)
    return Term(
        name or title("attention_maps", of, against),
        partial(_attention_maps, pairs=pairs, space=space),
        weight,
        per="tokens",
        needs=_reads(pairs, _READ[space]),
        of=of,
        against=against,
        formula=f"mean over layers, heads and keys of (A({of}) - A({against}))^2, A = attention {space}: "
        + shown(layers),
        source="Jiao et al. 2020 (TinyBERT), arXiv 1909.10351",
    )


def self_attention_relations(
    layers: Mapping[int, int],
    weight: Weight = 1.0,
    *,
    relations: Sequence[str] = ("query", "key", "value"),
    heads: int | None = None,
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """Positions must relate to each other as in the teacher's self-attention; widths and heads may differ.

    Formula: of a query position, the mean over layers, relations and relation heads of KL(teacher || student) of
    softmax(R R^T / sqrt(d)) over the positions that are no padding, R the vectors of all heads, concatenated and split
    anew into as many heads of width d for both. At least 0; 0 with gradient 0 at equality.

    Args:
        layers: number of the student's layer -> number of the teacher's, counted from 1; the papers take one, the
            student's last and the teacher's last or one in its upper half.
        weight: at least 0, or a schedule.
        relations: of ``query``, ``key``, ``value`` (MiniLMv2), and ``attention``, softmax(Q K^T / sqrt(d)):
            ``("attention", "value")`` with heads=None and equal head counts is MiniLM.
        heads: relation heads, which divide both widths; more are finer. None: the teacher's heads where they divide
            the student's width, else the greatest common divisor of both head counts.
        of: the output that learns.
        against: the source that teaches.
        name: how logs call the term.

    >>> sorted(self_attention_relations({2: 4}, relations=("attention", "value")).needs.learner)
    ['key.2', 'query.2', 'value.2']

    Raises:
        UsageError: no layers or relations, unknown or repeated ones, weight or heads out of range, or (when it is
            computed) heads that do not divide both widths, or positions that differ.

    Source: Wang et al. 2020 (MiniLM), arXiv 2002.10957; Wang et al. 2021 (MiniLMv2), arXiv 2012.15828. The mean over
    relations stands for their sum (MiniLM) or their sum of weight 1/3 each (MiniLMv2). Both look in two directions:
    of a decoder, whose queries see no later keys, these relations still compare all.
    """
    if isinstance(relations, str) or not relations or len(set(relations)) != len(relations):
        raise UsageError(f"wanted relations as a sequence of different names, got {relations!r}")
    for relation in relations:
        if relation not in _RELATIONS:
            raise UsageError(f"wanted a relation, got {relation!r}: {choices(relation, _RELATIONS)}")
    if heads is not None and not _natural(heads):
        raise UsageError(f"wanted heads as a whole number of at least 1, or None, got {heads!r}")
    pairs = _numbers("self_attention_relations", layers)
    parts = [part for relation in relations for part in _RELATIONS[relation]]
    return Term(
        name or title("self_attention_relations", of, against),
        partial(_self_attention_relations, pairs=pairs, relations=tuple(relations), heads=heads),
        weight,
        per="tokens",
        needs=_reads(pairs, parts),
        of=of,
        against=against,
        formula=f"mean over layers, relations ({', '.join(relations)}) and {heads or 'shared'} heads of "
        f"KL({against} || {of}) of softmax(R R^T / sqrt(d)): {shown(layers)}",
        source="Wang et al. 2020, 2021 (MiniLM), arXiv 2002.10957, 2012.15828",
    )


def _attention_maps(outputs: Outputs, targets: Targets, batch: Batch, *, pairs: Numbers, space: Space) -> Tensor:
    counted = batch.masks["tokens"] != 0
    both = (counted[:, :, None] & counted[:, None, :])[:, None]
    errors = []
    for student_layer, teacher_layer in pairs:
        student = _map(outputs, student_layer, space, counted)
        teacher = _map(targets, teacher_layer, space, counted).detach()
        if student.shape != teacher.shape:
            raise UsageError(
                f"attention_maps: wanted student layer {student_layer} and teacher layer {teacher_layer} with as many "
                f"heads and positions, got {list(student.shape)} and {list(teacher.shape)} [N, heads, L, L]: where "
                "heads differ, use self_attention_relations"
            )
        # Masked before the difference: what lies in padding may be NaN.
        errors.append((student.masked_fill(~both, 0.0) - teacher.masked_fill(~both, 0.0)).square().sum(-1).mean(1))
    return torch.stack(errors).mean(dim=0) / counted.sum(dim=1, keepdim=True).clamp(min=1)


def _map(said: Outputs, layer: int, space: Space, counted: Tensor) -> Tensor:
    if space == "probabilities":
        return _real(wide(said[f"attention.{layer}"]), counted)
    query, key = (_real(wide(said[f"{part}.{layer}"]), counted) for part in ("query", "key"))
    if query.shape != key.shape:
        raise UsageError(
            f"attention_maps: wanted query.{layer} and key.{layer} of one shape, got {list(query.shape)} and "
            f'{list(key.shape)}: heads that share keys are compared in space="probabilities"'
        )
    return products(query, key) / math.sqrt(query.shape[-1])


def _self_attention_relations(
    outputs: Outputs,
    targets: Targets,
    batch: Batch,
    *,
    pairs: Numbers,
    relations: tuple[str, ...],
    heads: int | None,
) -> Tensor:
    counted = batch.masks["tokens"] != 0
    # A row of nothing but padding does not count, and must still have something to look at.
    keys = (counted | ~counted.any(dim=1, keepdim=True))[:, None, None, :]
    values = []
    for student_layer, teacher_layer in pairs:
        for relation in relations:
            first, second = _RELATIONS[relation]
            own = [_real(wide(outputs[f"{part}.{student_layer}"]), counted) for part in (first, second)]
            theirs = [_real(wide(targets[f"{part}.{teacher_layer}"].detach()), counted) for part in (first, second)]
            shared = _shared([*own, *theirs], heads, relation)
            student, teacher = _related(*own, heads=shared), _related(*theirs, heads=shared)
            if student.shape != teacher.shape:
                raise UsageError(
                    f"self_attention_relations: wanted student layer {student_layer} and teacher layer {teacher_layer} "
                    f"at the same positions, got {list(own[0].shape)} and {list(theirs[0].shape)} [N, heads, L, d]"
                )
            divergence = forward_kl(student.masked_fill(~keys, -math.inf), teacher.masked_fill(~keys, -math.inf))
            values.append(divergence.mean(dim=1))
    return torch.stack(values).mean(dim=0)


def _shared(vectors: Sequence[Tensor], heads: int | None, relation: str) -> int:
    """Relation heads for a relation of the student's vectors and the teacher's (two each), all [N, heads, L, d]."""
    own, own_other, theirs, their_other = (tensor.shape[1] * tensor.shape[-1] for tensor in vectors)
    if own != own_other or theirs != their_other:
        raise UsageError(
            f'self_attention_relations: wanted queries and keys of one width for relation "{relation}", got {own} and '
            f"{own_other} of the student, {theirs} and {their_other} of the teacher: heads that share keys have none"
        )
    if heads is None:
        heads = vectors[2].shape[1]
        return heads if own % heads == 0 else math.gcd(vectors[0].shape[1], heads)
    common = math.gcd(own, theirs)
    if common % heads:
        fitting = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
        raise UsageError(
            f"self_attention_relations: wanted heads that divide the student's width {own} and the teacher's {theirs}, "
            f"got {heads}: choose one of {fitting}"
        )
    return heads


def _related(first: Tensor, second: Tensor, *, heads: int) -> Tensor:
    """Scores of every position with every other under new heads: [N, heads of the model, L, d] -> [N, heads, L, L]."""
    joined = (vectors.transpose(1, 2).flatten(2) for vectors in (first, second))
    query, key = (vectors.unflatten(-1, (heads, -1)).transpose(1, 2) for vectors in joined)
    return products(query, key) / math.sqrt(query.shape[-1])


def _real(vectors: Tensor, counted: Tensor) -> Tensor:
    """[N, heads, L, ...] with 0 at positions of padding, which may hold anything."""
    if vectors.ndim != 4 or (len(vectors), vectors.shape[2]) != counted.shape:
        raise UsageError(
            f'wanted a signal [N, heads, L, ...] at the positions of the batch\'s mask "tokens" {list(counted.shape)}, '
            f"got {list(vectors.shape)}: padding could not be told apart"
        )
    return torch.where(counted[:, None, :, None], vectors, 0.0)


def _numbers(kind: str, layers: Mapping[int, int]) -> Numbers:
    paired(kind, layers)  # refuses what is no mapping
    wrong = next((layer for pair in layers.items() for layer in pair if not _natural(layer)), None)
    if wrong is not None:
        raise UsageError(f"{kind}: wanted layers by number, counted from 1, got {wrong!r}")
    return tuple(layers.items())


def _natural(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def _reads(pairs: Numbers, parts: Sequence[str]) -> Needs:
    return needed(tuple((f"{part}.{student}", f"{part}.{teacher}") for part in parts for student, teacher in pairs))


LISTED: tuple[tuple[Term, str], ...] = (
    (attention_maps({1: 1}), ZERO),
    (self_attention_relations({1: 1}), ZERO),
)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
