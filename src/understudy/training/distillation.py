"""The one module that is trained: students, connectors and terms behind a single forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.objectives import Term
from understudy.records import Batch, Outputs, Targets
from understudy.students import Student, of_words

RESERVED = ("loss", "agreement")  # what is logged beside the terms


class Distillation(nn.Module):
    """Students, connectors and terms: optimiser, clipping, DDP and checkpoints cover all of it.

    Args:
        students: name -> student; ``student`` is the one that ships, ``peer.1`` ... learn beside it. A module without
            a ``bind(needs)`` of its own is wrapped into a `students.Student`; ``given`` keeps what came.
        terms: what must match. ``of`` and ``against`` are resolved here, in one forward: a student's own main output
            is ``self``, other students are read by name, and both are detached on the side that teaches.

    Raises:
        UsageError: no terms, two of one name, or no student called ``student``.
    """

    def __init__(self, students: Mapping[str, nn.Module], terms: Sequence[Term]) -> None:
        super().__init__()
        names = [term.name for term in terms]
        if len({*names, *RESERVED}) != len(names) + len(RESERVED):
            raise UsageError(
                f"every term needs a name of its own (not {' or '.join(RESERVED)}), got {', '.join(names)}"
            )
        if not terms:
            raise UsageError("an objective needs at least one term, got none")
        if "student" not in students:
            raise UsageError(f'one of a cohort is called "student", the one that ships; got {", ".join(students)}')
        self.given = dict(students)
        self.names = tuple(students)
        self.students = nn.ModuleList([answering(name, module) for name, module in students.items()])
        self.terms = tuple(terms)
        self.connectors = nn.ModuleDict()
        self.idle: list[str] = []

    def bind(self, teacher: Any) -> None:
        """Resolves every term's needs, before step 0: what cannot be given is one error that names the term."""
        theirs: Any = getattr(teacher, "model", None)
        if isinstance(theirs, nn.Module) and {id(p) for p in theirs.parameters()} & {id(p) for p in self.parameters()}:
            raise UsageError(
                "the student shares weights with its teacher, which would change while it teaches: give the student "
                "a copy (copy.deepcopy, or students.cut)"
            )
        wanted: dict[str, set[str]] = {name: set() for name in self.names}
        asked: set[str] = set()
        for term in self.terms:
            self._want(wanted, term, term.of, term.needs.learner)
            if term.against in ("self", *self.names) or term.against.startswith("peer."):
                self._want(wanted, term, "student" if term.against == "self" else term.against, term.needs.source)
            elif term.against != "labels":
                if teacher is None:
                    raise UsageError(f'term "{term.name}" learns from "{term.against}", and there is no teacher')
                asked |= {f"{term.against}.{signal}" for signal in term.needs.source}
        for name, student in zip(self.names, self.students, strict=True):
            bound: Any = student
            bound.bind(frozenset(wanted[name]))
        if asked:
            teacher.bind(frozenset(asked))

    def _want(self, wanted: dict[str, set[str]], term: Term, output: str, needs: frozenset[str]) -> None:
        full = f"student.{output}" if output.startswith("exit.") else output
        owner = next((name for name in self.names if full == name or full.startswith(f"{name}.")), None)
        if owner is None:
            raise UsageError(f'term "{term.name}": nothing here is called "{output}": {choices(output, self.names)}')
        inner = full.removeprefix(owner).lstrip(".")
        wanted[owner] |= {f"{inner}.{signal}" if inner else signal for signal in needs}

    def forward(self, batch: Batch, targets: Targets, watch: bool = False) -> dict[str, Tensor]:
        """term -> sum of its values over what it counts, fp32 and not divided.

        With ``watch`` there is one entry more, ``agreement``: rows on which student and teacher choose the same label.
        """
        outputs, taught = self._hear(batch, targets)
        sums = {}
        for term in self.terms:
            connector = self.connectors[term.name] if term.connector is not None else None
            sums[term.name] = term.total(outputs.of(term.of), taught.of(term.against), batch, connector)
        decided = batch.labels is None or not batch.labels.is_floating_point()  # scores and vectors choose no label
        if watch and decided and "student.logits" in outputs and "teacher.logits" in targets:
            same = outputs["student.logits"].argmax(-1) == targets["teacher.logits"].argmax(-1)
            there = batch.masks["words"] != 0 if "words" in batch.masks else torch.ones_like(same)
            sums["agreement"] = (same & there).sum() * (len(batch) / there.sum().clamp(min=1))
        return sums

    def _hear(self, batch: Batch, targets: Targets) -> tuple[Outputs, Targets]:
        said: dict[str, Tensor] = {}
        for name, student in zip(self.names, self.students, strict=True):
            heard = student(batch.inputs.get(name, batch.inputs["student"])).signals
            said |= of_words(heard, batch.places.get(name, batch.places.get("student")))
        own = {key.removeprefix("student."): value for key, value in said.items() if key.startswith("student.")}
        exits = {key: value for key, value in own.items() if key.startswith("exit.")}
        mirror = {f"self.{key}": value for key, value in own.items()}
        return Outputs(said | exits), Targets(said | mirror | dict(targets.signals), targets.support).detach()

    def settle(self, batch: Batch, targets: Targets) -> list[str]:
        """Builds the connectors from the shapes of one real batch and freezes what no term reaches; returns its names.

        A parameter without a gradient stops several processes dead, and one process would decay it for nothing; so
        would a term of weight 0. Runs in eval mode and leaves the random state alone but for what the connectors' own
        initialisation draws.

        Raises:
            UsageError: no term reaches anything that may learn.
        """
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        with torch.no_grad():
            outputs, taught = self._hear(batch, targets)
        for term in self.terms:
            term.count(batch)  # a mask that is not there is said in one line
            if term.connector is not None:
                connector = term.connector(outputs.of(term.of), taught.of(term.against))
                self.connectors[term.name] = connector.to(batch.masks[term.per].device).eval()
        sums = self(batch, targets)
        reached = [sums[term.name] for term in self.terms if term.weight != 0 and sums[term.name].requires_grad]
        if not reached:
            raise UsageError(f"nothing would learn: no term ({', '.join(sums)}) reaches a parameter that may change")
        torch.stack(reached).sum().backward()
        self.idle = [name for name, p in self.named_parameters() if p.requires_grad and p.grad is None]
        for name, parameter in self.named_parameters():
            parameter.grad = None
            parameter.requires_grad_(parameter.requires_grad and name not in self.idle)
        self.forget()
        for module, training in modes:
            module.training = training
        return self.idle

    def title(self, parameter: str) -> str:
        """A parameter's name as its owner knows it: ``student.head.weight`` for ``students.0.module.head.weight``."""
        kind, _, rest = parameter.partition(".")
        if kind != "students":
            return parameter
        index, _, inner = rest.partition(".")
        wrapped = isinstance(self.students[int(index)], Student)
        return f"{self.names[int(index)]}.{inner.removeprefix('module.') if wrapped else inner}"

    def thaw(self) -> None:
        """Lets what ``settle`` froze learn again: another training, with other terms, may reach it."""
        for name in self.idle:
            self.get_parameter(name).requires_grad_(True)

    def forget(self) -> None:
        """Lets connectors with a memory drop what they saw in a step that is not going to happen."""
        for connector in self.connectors.values():
            _ask(connector, "forget")

    def commit(self, gather: Any) -> None:
        """Lets connectors with a memory write what they saw in this step, once, after the optimiser.

        A memory is read in forward and written only here: every micro-batch and every process sees the same one.
        """
        for connector in self.connectors.values():
            _ask(connector, "commit", gather)


def answering(name: str, module: nn.Module) -> nn.Module:
    """Something with ``bind(needs)`` that answers with signals called ``name.signal``.

    A `Student` is wrapped anew: its name may be another here, and what it was bound to is its owner's.
    """
    if type(module) is Student:
        return Student(module.module, name)
    return module if hasattr(module, "bind") else Student(module, name)


def _ask(connector: nn.Module, what: str, *arguments: Any) -> None:
    """Calls an optional method of a connector: only those with a memory have any."""
    method: Any = getattr(connector, what, None)
    if method is not None:
        method(*arguments)
