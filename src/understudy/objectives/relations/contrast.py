"""Contrast against a memory: what a student says of a row must tell that row from all others the way the teacher does.

The memory is read in `Memory.forward` and written in `Memory.commit`, once a step: every micro-batch and every process
sees the same one, so that no split of the rows changes loss or gradient.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.objectives.distances import unit
from understudy.objectives.numerics import number, wide
from understudy.objectives.relations.pairs import products
from understudy.objectives.term import Needs, Term, Weight, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["contrastive"]

Negatives = Literal["classes", "rows"]


def contrastive(
    student: str = "features",
    teacher: str = "features",
    weight: Weight = 1.0,
    *,
    size: int = 4096,
    negatives: Negatives = "classes",
    dimensions: int = 128,
    temperature: float = 0.07,
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """The student's embedding of a row must be nearer to the teacher's of that row than to those of other rows.

    Formula: of row i, -log h(s_i, t_i; T_i) - log h(t_i, s_i; S_i), with h(a, b; C) = exp(a b / temperature) /
    (exp(a b / temperature) + sum over c in C of exp(a c / temperature)). s and t are linear projections to length 1,
    learnt and never shipped; T_i and S_i the teacher's and student's embeddings of other rows that the memory holds. At
    least 0; 0 with gradient 0 while it holds none, and no value at equality.

    Args:
        student: the student's signal, [N, ...], flattened.
        teacher: the teacher's signal, [N, ...], of any width.
        weight: at least 0, or a schedule; the paper takes 0.8.
        size: slots of the memory; a row's slot is the hash of its content modulo size, and the newest row has it.
        negatives: ``classes`` takes rows of another class, and any other row where one of the two has no label;
            ``rows`` takes any other row.
        dimensions: of the embeddings, at least 1.
        temperature: in (0, inf).
        of: the output that learns.
        against: the source that teaches.
        name: how logs call the term.

    >>> contrastive("module:body", size=64).needs.learner
    frozenset({'module:body'})

    Raises:
        UsageError: weight, size, dimensions, temperature or negatives is out of range.

    Source: Tian, Krishnan, Isola 2020 (CRD), arXiv 1910.10699, section 3: critic, both directions, projections,
    temperature, and negatives of another class as in the authors' CIFAR loader. Departures: the N negatives are all
    that fit, not 16384 draws; the positive is the current embedding, not a remembered one; the memory starts empty
    and takes the newest embedding, without momentum; and h is a choice among N + 1 instead of N + 1 choices between
    two, which need a normaliser and the size of the data. Where that normaliser is the mean over the row's own
    negatives, the paper's h of the positive is the h here, and pushes from negatives what 1 - h pushes in the paper.
    """
    for what, value in (("size", size), ("dimensions", dimensions)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"contrastive: wanted {what} as a whole number of at least 1, got {value!r}")
    number("temperature", temperature)
    if negatives not in ("classes", "rows"):
        raise UsageError(f"wanted negatives, got {negatives!r}: {choices(negatives, ('classes', 'rows'))}")
    return Term(
        name or title("contrastive", of, against),
        partial(_contrastive, student=student, teacher=teacher, negatives=negatives, temperature=float(temperature)),
        weight,
        needs=Needs(frozenset({student}), frozenset({teacher})),
        of=of,
        against=against,
        connector=partial(_memory, student=student, teacher=teacher, size=size, dimensions=dimensions),
        formula=f"contrast of {of}.{student} with {against}.{teacher} in both directions, temperature = "
        f"{temperature:g}, against other {negatives} in a memory of {size} x {dimensions}",
        source="Tian, Krishnan, Isola 2020 (CRD), arXiv 1910.10699",
    )


class Memory(nn.Module):
    """Two projections, and what they made of the rows of past steps: read in forward, written in commit.

    Args:
        student: width of the student's features.
        teacher: width of the teacher's.
        size: slots.
        dimensions: of the embeddings.
        dtype: of projections and memory.
    """

    own: Tensor
    theirs: Tensor
    rows: Tensor
    labels: Tensor

    def __init__(
        self, student: int, teacher: int, *, size: int, dimensions: int, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.student = nn.Linear(student, dimensions, dtype=dtype)
        self.teacher = nn.Linear(teacher, dimensions, dtype=dtype)
        for name in ("own", "theirs"):
            self.register_buffer(name, torch.zeros(size, dimensions, dtype=dtype))
        for name in ("rows", "labels"):  # the content that a slot holds, -1 for none; its class, -1 for none
            self.register_buffer(name, torch.full((size,), -1, dtype=torch.int64))
        self._pending: list[tuple[Tensor, ...]] = []

    def forward(
        self, student: Tensor, teacher: Tensor, rows: Tensor, labels: Tensor, counted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embeddings of length 1, [N, dimensions] each; what counts is remembered for `commit`."""
        # Embeddings of a bf16 product would be 0.05 apart in exp(a b / temperature) already.
        with torch.autocast(student.device.type, enabled=False):
            own, theirs = (
                unit(wide(projection(features.flatten(1).to(projection.weight.dtype))))
                for projection, features in ((self.student, student), (self.teacher, teacher))
            )
        if self.training:
            self._pending.append((rows, labels, counted, own.detach(), theirs.detach()))
        return own, theirs

    def forget(self) -> None:
        """Drops what the step has shown so far: it is not going to happen."""
        self._pending.clear()

    @torch.no_grad()
    def commit(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Writes the rows of a step, of all processes, whatever their order.

        Args:
            gather: a tensor of this process -> those of all processes, concatenated.
        """
        if not self._pending:
            return
        rows, labels, counted, own, theirs = (gather(torch.cat(parts)) for parts in zip(*self._pending, strict=True))
        self._pending.clear()
        size = len(self.rows)
        # The larger hash has a slot, not the row that comes last: the order is up to the split.
        winner: dict[int, tuple[int, int]] = {}
        for position, (row, counts) in enumerate(zip(rows.tolist(), counted.tolist(), strict=True)):
            if counts and row > winner.get(row % size, (-1, 0))[0]:
                winner[row % size] = (row, position)
        slots = torch.tensor(list(winner), dtype=torch.int64, device=rows.device)
        seen = torch.tensor([position for _, position in winner.values()], dtype=torch.int64, device=rows.device)
        for bank, values in ((self.rows, rows), (self.labels, labels), (self.own, own), (self.theirs, theirs)):
            bank[slots] = values[seen].to(bank.dtype)


def _contrastive(
    outputs: Outputs,
    targets: Targets,
    batch: Batch,
    *,
    student: str,
    teacher: str,
    negatives: Negatives,
    temperature: float,
    connector: Any,
) -> Tensor:
    features = outputs[student]
    counted = batch.masks["examples"] != 0
    rows = torch.tensor([_content(key) for key in batch.keys], dtype=torch.int64, device=features.device)
    labels = torch.full_like(rows, -1)
    given = batch.labels
    if given is not None and given.shape == rows.shape and not given.is_floating_point():
        labels = given.to(rows)
    own, theirs = connector(features, targets[teacher].detach(), rows, labels, counted)
    other = (connector.rows >= 0) & (connector.rows != rows[:, None])
    if negatives == "classes":
        other = other & ((labels[:, None] != connector.labels) | (connector.labels < 0))
    positive = (own * theirs).sum(dim=1, keepdim=True)
    value = torch.zeros_like(positive[:, 0])
    for anchor, bank in ((own, connector.theirs), (theirs, connector.own)):
        negative = products(anchor, bank).masked_fill(~other, -math.inf)
        scores = torch.cat([positive, negative], dim=1) / temperature
        value = value + F.cross_entropy(scores, torch.zeros_like(rows), reduction="none")
    return value


def _content(key: str) -> int:
    """A key as a number of 63 bits that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 1


def _memory(outputs: Outputs, targets: Targets, *, student: str, teacher: str, size: int, dimensions: int) -> Memory:
    own, theirs = outputs[student], targets[teacher]
    dtype = torch.promote_types(torch.promote_types(own.dtype, theirs.dtype), torch.float32)
    widths = (math.prod(own.shape[1:]), math.prod(theirs.shape[1:]))
    return Memory(*widths, size=size, dimensions=dimensions, dtype=dtype).to(own.device)


LISTED: tuple[tuple[Term, str], ...] = (
    (contrastive(), "none: 0 only for rows that the teacher tells apart beyond doubt, or without a memory"),
)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
