"""What every public divergence and term must obey, and rows to try it on. `None`: a property that is not claimed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from understudy.objectives import Term
from understudy.records import Batch, Outputs, Targets

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class DivergenceLaw:
    name: str
    function: Callable[..., Tensor]
    at_equality: float | None = 0.0
    no_gradient_at_equality: bool = True
    at_least: float | None = 0.0
    at_most: float | None = None
    temperature: bool = True
    shift: bool = True  # a constant added to every logit changes nothing
    support: bool = True
    variant: str = ""


@dataclass(frozen=True)
class TermLaw:
    builder: str
    term: Term
    widths: tuple[tuple[int, int], ...] = ((7, 7),)  # of each needed signal: student, teacher
    at_equality: float | None = 0.0
    logits: bool = True  # reads logits, so that a label that does not exist changes nothing
    support: tuple[int, ...] | None = None
    constant_in_temperature: Callable[[float], Term] | None = None
    variant: str = ""
    student: Shapes | None = None  # signal -> its shape after N, where widths do not say enough
    teacher: Shapes | None = None
    labels: int = 7  # K
    answer: str = "label"  # what the labels of the data are
    stored: Callable[[int], dict[str, Tensor]] | None = None  # rows -> what a source stored, where that is no noise


def of_rows(name: str) -> bool:
    """Whether a signal has a row for each row of the batch; a head is weights, a temperature one for all."""
    return name not in ("head", "sample.temperature", "sample.vocabulary")


@dataclass
class Rows:
    """Some rows for one term: what is said (leaves), labels, and masks with uncounted entries among them."""

    law: TermLaw
    student: dict[str, Tensor]
    teacher: dict[str, Tensor]
    labels: Tensor
    mask: Tensor
    keys: tuple[str, ...]
    connector: nn.Module | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def make(cls, law: TermLaw, *, rows: int = 9, dtype: torch.dtype = torch.float64, seed: int = 0) -> Rows:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        shape = (rows, *{"tokens": (4,), "words": (4,), "ends": (2,)}.get(law.term.per, ()))
        per_row = shape[1:]
        learner, source = sorted(law.term.needs.learner), sorted(law.term.needs.source) or ["logits"]
        theirs = law.teacher or {name: (*per_row, width) for name, (_, width) in zip(source, law.widths, strict=False)}
        mine = law.student or {name: (*per_row, width) for name, (width, _) in zip(learner, law.widths, strict=True)}
        labels = torch.randint(0, law.labels, (rows,), generator=generator)
        if law.answer == "score":
            labels = torch.randn(rows, generator=generator, dtype=torch.float64)
        elif law.answer == "labels":
            labels = torch.randint(0, 2, (rows, law.labels), generator=generator)
        mask = torch.rand(shape, generator=generator) + 0.5  # weights, as of classes
        if rows > 2:
            mask.view(-1)[1 :: 3 if len(shape) == 1 else 5] = 0
        if len(shape) == 2 and rows > 2:
            mask[2] = 0  # one row with nothing in it
        if law.term.per == "labelled":
            labels = labels.clone()
            labels[mask == 0] = math.nan if law.answer == "score" else -1
        student = {name: normal(*((rows,) * of_rows(name)), *shape) for name, shape in mine.items()}
        teacher = {name: normal(*((rows,) * of_rows(name)), *shape) for name, shape in theirs.items()}
        if law.stored is not None:
            teacher = law.stored(rows)
        keys = tuple(map(str, range(rows)))
        wide = mask.to(torch.float64 if dtype == torch.float64 else torch.float32)
        made = cls(law, student, teacher, labels, wide, keys)
        if law.term.connector is not None:
            torch.manual_seed(seed)
            made.connector = law.term.connector(*made.said())
        return made

    def noise(self) -> list[tuple[str, Tensor]]:
        """Signals of which any numbers may be read."""
        return [*self.student.items(), *(() if self.law.stored is not None else self.teacher.items())]

    def said(self) -> tuple[Outputs, Targets]:
        support = {}
        if self.law.support is not None:
            width = self.law.widths[0][0]
            support = {"": torch.tensor([column in self.law.support for column in range(width)])}
        return Outputs(self.student), Targets(self.teacher, support)

    def batch(self) -> Batch:
        return Batch(self.keys, {}, self.labels, {self.law.term.per: self.mask})

    def take(self, indices: list[int]) -> Rows:
        """Some of the rows, as a micro-batch; leaves stay the whole's, so that gradients add up there."""
        return Rows(
            self.law,
            {name: signal[indices] if of_rows(name) else signal for name, signal in self.student.items()},
            {name: signal[indices] if of_rows(name) else signal for name, signal in self.teacher.items()},
            self.labels[indices],
            self.mask[indices],
            tuple(self.keys[i] for i in indices),
            self.connector,
        )

    def learn(self) -> Rows:
        for signal in self.student.values():
            signal.requires_grad_(True)
        return self

    def total(self) -> Tensor:
        return self.law.term.total(*self.said(), self.batch(), connector=self.connector)

    def value(self) -> Tensor:
        extra = {} if self.connector is None else {"connector": self.connector}
        return self.law.term.value(*self.said(), self.batch(), **extra)

    def differentiate(self, loss: Tensor) -> list[Tensor]:
        """Gradients of the student's signals, then of the connector; zeros where the loss does not reach."""
        leaves = [*self.student.values(), *(self.connector.parameters() if self.connector else ())]
        found = torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
        return [torch.zeros_like(leaf) if one is None else one for leaf, one in zip(leaves, found, strict=True)]
