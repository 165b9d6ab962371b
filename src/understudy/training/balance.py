"""How strongly each term pulls, and weights that make the pulls what somebody wants them to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from understudy.data.feed import Feed
from understudy.data.sampling import epoch_batches
from understudy.objectives import Term, schedules
from understudy.objectives.term import Weight
from understudy.records import Targets
from understudy.training.distillation import Distillation


def pulls(
    student: nn.Module | Mapping[str, nn.Module],
    data: Feed,
    objective: Sequence[Term],
    *,
    teacher: Any = None,
    batches: int = 1,
    batch_size: int = 32,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """What each term is worth and how strongly it pulls at the students, on the first batches; nothing is changed.

    Returns:
        One mapping a term: ``name``, ``value`` (sum / count), ``gradient_norm`` (L2 norm of the gradient of that value
        over all weights of the students, connectors left out), ``count``. Means over the batches in which something
        counts; weights take no part. Eval mode, fp32.

    Raises:
        UsageError: what binding or settling the objective would raise.
    """
    cohort = dict(student) if isinstance(student, Mapping) else {"student": student}
    model = Distillation(cohort, objective)
    model.bind(teacher)
    rows = epoch_batches(data.lengths, min(batch_size, len(data)), seed=seed, epoch=0)[:batches]
    found: dict[str, list[tuple[float, float, float]]] = {term.name: [] for term in model.terms}
    modes = [(module, module.training) for module in model.modules()]
    random = torch.get_rng_state()
    try:
        for i, some in enumerate(rows):
            batch = data.batch(some)
            targets = Targets({}) if teacher is None else teacher.targets(batch)
            if not i:
                model.settle(batch, targets)
                model.eval()
            for term in model.terms:
                count = float(term.count(batch))
                value = model(batch, targets)[term.name] / max(count, 1.0)
                model.zero_grad(set_to_none=True)
                if value.requires_grad:
                    value.backward()
                norms = [p.grad.norm() for p in model.students.parameters() if p.grad is not None]
                norm = float(torch.stack(norms).norm()) if norms else 0.0
                found[term.name].append((float(value.detach()), norm, count))
    finally:
        torch.set_rng_state(random)  # connectors drew from it
        model.forget()
        model.thaw()
        model.zero_grad(set_to_none=True)
        for module, training in modes:
            module.training = training
    return [
        dict(zip(("name", "value", "gradient_norm", "count"), (name, *_means(each)), strict=True))
        for name, each in found.items()
    ]


def balanced(objective: Sequence[Term], norms: Mapping[str, float]) -> tuple[list[Term], str]:
    """The objective with its weights read as shares of the pull: weight 2 pulls twice as strongly as weight 1.

    Formula: weight' = weight * pull / gradient_norm, where pull = sum(weight * gradient_norm) / sum(weight), so that
    all terms together pull as strongly as before. A schedule is multiplied; a term whose gradient is 0 stays.

    Args:
        objective: the terms.
        norms: term -> its gradient norm at weight 1 (see `pulls`).

    Returns:
        The terms, and a sentence about what was chosen.

    >>> from understudy.objectives import hard_labels, logit_mse
    >>> terms, _ = balanced([hard_labels(), logit_mse()], {"hard_labels": 4.0, "logit_mse": 1.0})
    >>> [term.weight for term in terms]
    [0.625, 2.5]
    """
    able = {term.name: term.weight_at(0) for term in objective if norms[term.name] > 0 and term.weight_at(0) > 0}
    pull = sum(weight * norms[name] for name, weight in able.items()) / (sum(able.values()) or 1.0)
    factors = {name: float(f"{pull / norms[name]:.6g}") for name in able}
    found = [replace(term, weight=_times(term.weight, factors.get(term.name, 1.0))) for term in objective]
    shown = ", ".join(f"{term.name} {term.weight_at(0):.4g} (gradient {norms[term.name]:.3g})" for term in found)
    return found, f"weights balanced by gradients: {shown}"


def _times(weight: Weight, factor: float) -> Weight:
    return schedules.Schedule(weight, lambda step: factor, f"{factor:g}") if callable(weight) else weight * factor


def _means(rows: Sequence[tuple[float, float, float]]) -> list[float]:
    """Over the batches in which something counted: one without a label says nothing of what labels pull."""
    told = [row for row in rows if row[2]] or rows
    return [sum(column) / len(told) for column in zip(*told, strict=True)]
