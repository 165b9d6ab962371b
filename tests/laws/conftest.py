"""The one table of every public divergence and every public term builder, and what each must obey.

A test asks for `divergence` or `term` and is run once for each row. A public name without a row fails
`test_the_table_is_complete`. `None` means that a property is not claimed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from understudy import objectives as match
from understudy.objectives import Term
from understudy.records import Batch, Outputs, Targets


def against_own_choice(student: Tensor, teacher: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the teacher's likeliest label, so that it has the arguments of a divergence."""
    return match.cross_entropy(student, teacher.argmax(dim=-1), smoothing=smoothing)


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
    logits: bool = True
    support: tuple[int, ...] | None = None
    constant_in_temperature: Callable[[float], Term] | None = None
    variant: str = ""


top_k = partial(match.forward_kl_top_k, k=2)
DIVERGENCES = (
    DivergenceLaw("cross_entropy", against_own_choice, None, False, temperature=False, support=False),
    DivergenceLaw(
        "cross_entropy",
        partial(against_own_choice, smoothing=0.1),
        None,
        False,
        temperature=False,
        support=False,
        variant="smoothing",
    ),
    DivergenceLaw("forward_kl", match.forward_kl),
    DivergenceLaw("forward_kl_top_k", top_k),
    DivergenceLaw("forward_kl_top_k", partial(top_k, tail="both"), variant="both"),
    # The two flawed tails: their missing law is what the docstring says is wrong with them.
    DivergenceLaw("forward_kl_top_k", partial(top_k, tail="truncate"), 0.0, False, None, variant="truncate"),
    DivergenceLaw("forward_kl_top_k", partial(top_k, tail="teacher"), None, False, variant="teacher"),
    DivergenceLaw("jensen_shannon", match.jensen_shannon, at_most=math.log(2)),
    DivergenceLaw("jensen_shannon", partial(match.jensen_shannon, beta=0.1), at_most=math.log(2), variant="0.1"),
    DivergenceLaw("reverse_kl", match.reverse_kl),
    DivergenceLaw("skew_forward_kl", match.skew_forward_kl, at_most=-math.log(0.1)),
    DivergenceLaw("skew_forward_kl", partial(match.skew_forward_kl, skew=0.0), variant="0"),
    DivergenceLaw("skew_reverse_kl", match.skew_reverse_kl, at_most=-math.log(0.1)),
    DivergenceLaw("squared_error", match.squared_error, temperature=False, shift=False),
    DivergenceLaw("total_variation", match.total_variation, at_most=1.0),
    DivergenceLaw("uld", match.uld, at_most=2.0, support=False),
)

_LAYERS = {"encoder.layer.0": "encoder.layer.1", "encoder.layer.1": "encoder.layer.3"}
_SOFT = ("forward_kl", "jensen_shannon", "reverse_kl", "skew_forward_kl", "skew_reverse_kl", "total_variation", "uld")
TERMS = (
    *(
        TermLaw(
            "soft_labels",
            match.soft_labels(4.0, 0.7, divergence=name),
            constant_in_temperature=partial(match.soft_labels, divergence=name),
            variant=name,
        )
        for name in _SOFT
    ),
    TermLaw("soft_labels", match.soft_labels(2.0, divergence=partial(match.forward_kl_top_k, k=3)), variant="top_k"),
    TermLaw("soft_labels", match.soft_labels(2.0), support=(0, 2, 3), variant="support"),
    TermLaw("soft_labels", match.soft_labels(2.0, per="tokens"), variant="tokens"),
    TermLaw("hard_labels", match.hard_labels(0.3), at_equality=None),
    TermLaw("hard_labels", match.hard_labels(smoothing=0.1), at_equality=None, variant="smoothing"),
    TermLaw("logit_mse", match.logit_mse()),
    TermLaw("logit_mse", match.logit_mse(of="exit.0", against="self"), support=(1, 2), variant="support"),
    TermLaw("hidden_states", match.hidden_states(_LAYERS), ((6, 6), (5, 5)), logits=False),
    TermLaw("hidden_states", match.hidden_states(_LAYERS), ((6, 4), (5, 5)), None, logits=False, variant="widths"),
    TermLaw("hidden_states", match.hidden_states({"a": "b"}, per="examples"), ((6, 6),), logits=False, variant="rows"),
    *(TermLaw("shorthand", term, at_equality=None, variant=term.name) for term in match.shorthand(0.3, 4.0)),
)


@dataclass
class Rows:
    """Some rows for one term: what is said (leaves), labels, and masks with uncounted entries among them."""

    law: TermLaw
    student: dict[str, Tensor]
    teacher: dict[str, Tensor]
    labels: Tensor
    mask: Tensor
    connector: nn.Module | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def make(cls, law: TermLaw, *, rows: int = 9, dtype: torch.dtype = torch.float64, seed: int = 0) -> Rows:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        shape = (rows, 4) if law.term.per == "tokens" else (rows,)
        learner, source = sorted(law.term.needs.learner), sorted(law.term.needs.source) or ["logits"]
        labels = torch.randint(0, law.widths[0][0], (rows,), generator=generator)
        mask = torch.rand(shape, generator=generator) + 0.5  # weights, as of classes
        if rows > 2:
            mask.view(-1)[1 :: 3 if len(shape) == 1 else 5] = 0
        if law.term.per == "tokens" and rows > 2:
            mask[2] = 0  # one row with nothing in it
        if law.term.per == "labelled":
            labels = labels.masked_fill(mask == 0, -1)
        student = {name: normal(*shape, width) for name, (width, _) in zip(learner, law.widths, strict=True)}
        teacher = {name: normal(*shape, width) for name, (_, width) in zip(source, law.widths, strict=True)}
        made = cls(law, student, teacher, labels, mask.to(torch.float64 if dtype == torch.float64 else torch.float32))
        if law.term.connector is not None:
            torch.manual_seed(seed)
            made.connector = law.term.connector(*made.said())
        return made

    def said(self) -> tuple[Outputs, Targets]:
        support = {}
        if self.law.support is not None:
            width = self.law.widths[0][0]
            support = {"": torch.tensor([column in self.law.support for column in range(width)])}
        return Outputs(self.student), Targets(self.teacher, support)

    def batch(self) -> Batch:
        return Batch(tuple(map(str, range(len(self.labels)))), {}, self.labels, {self.law.term.per: self.mask})

    def take(self, indices: list[int]) -> Rows:
        """Some of the rows, as a micro-batch; leaves stay the whole's, so that gradients add up there."""
        return Rows(
            self.law,
            {name: signal[indices] for name, signal in self.student.items()},
            {name: signal[indices] for name, signal in self.teacher.items()},
            self.labels[indices],
            self.mask[indices],
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


def _label(law: DivergenceLaw | TermLaw) -> str:
    name = law.name if isinstance(law, DivergenceLaw) else law.builder
    return f"{name}-{law.variant}" if law.variant else name


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for argument, table in (("divergence", DIVERGENCES), ("term", TERMS)):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, table, ids=_label)


@pytest.fixture
def tables() -> tuple[tuple[DivergenceLaw, ...], tuple[TermLaw, ...]]:
    return DIVERGENCES, TERMS


@pytest.fixture
def rows() -> type[Rows]:
    return Rows
