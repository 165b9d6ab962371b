"""Without labels and without a teacher: two readings of a text must know each other among all other texts."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy.errors import UsageError
from understudy.objectives.distances import unit
from understudy.objectives.numerics import number, wide
from understudy.objectives.relations.pairs import products
from understudy.objectives.term import Needs, Term, Weight, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["two_readings"]


def two_readings(
    weight: Weight = 1.0, *, temperature: float = 0.05, of: str = "student", name: str | None = None
) -> Term:
    """A text read twice, with other parts dropped out, must be nearer to itself than to the other texts of the batch.

    Formula: of row i, -log exp(a_i b_i / temperature) / sum_j exp(a_i b_j / temperature), a = logits and b = again
    (`understudy.signals`), both of length 1, j over the rows that count. At least 0; no value at equality. A student
    without dropout reads alike twice, and only learns to keep texts apart.

    Args:
        weight: at least 0, or a schedule.
        temperature: in (0, inf).
        of: the output that learns.
        name: how logs call the term.

    >>> sorted(two_readings().needs.learner)
    ['again', 'logits']

    Raises:
        UsageError: weight or temperature is out of range, or (when it is computed) the readings differ in shape.

    Source: Gao, Yao, Chen 2021 (SimCSE, unsupervised), arXiv 2104.08821, equation 4, with its temperature.
    """
    number("temperature", temperature)
    return Term(
        name or title("two_readings", of, "labels", usual="labels"),
        partial(_two_readings, temperature=float(temperature)),
        weight,
        needs=Needs(learner=frozenset({"logits", "again"})),
        of=of,
        against="labels",
        coupled=True,
        formula=f"cross_entropy over rows of cos({of}.logits, {of}.again of every row) / {temperature:g}, "
        "the row itself being right",
        source="Gao, Yao, Chen 2021 (SimCSE), arXiv 2104.08821",
    )


def _two_readings(outputs: Outputs, targets: Targets, batch: Batch, *, temperature: float) -> Tensor:
    first, second = wide(outputs["logits"]), wide(outputs["again"])
    counted = batch.masks["examples"] != 0
    if first.shape != second.shape or len(first) != len(counted):
        raise UsageError(
            f"two_readings: wanted two readings of {len(counted)} rows, got {list(first.shape)} and "
            f"{list(second.shape)}"
        )
    cosines = products(unit(first.flatten(1)), unit(second.flatten(1))) / temperature
    rows = torch.arange(len(cosines), device=cosines.device)
    others = counted | torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    return F.cross_entropy(cosines.masked_fill(~others, -math.inf), rows, reduction="none")


LISTED: tuple[tuple[Term, str], ...] = (
    (two_readings(), "none: 0 only for texts that lie apart beyond doubt, or for one alone"),
)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
