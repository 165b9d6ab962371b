"""Rule 10: what is not a number stops the run at that step, what does not fit into memory is taken in smaller bites."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.small import Small, feed, same, trained
from tests.training.test_loop import Bridge, bridge, run
from understudy.errors import NonFiniteError
from understudy.files import sealed
from understudy.objectives import Needs, Term, hard_labels
from understudy.records import Batch, Outputs, Targets


def poisoned(step: int, *, micro: int = 1) -> Any:
    """A ``prepare`` that makes the rows of one step infinite."""
    asked = iter(range(1000))  # the first is no step: it shows the shapes

    def prepare(batch: Batch, model: nn.Module) -> Batch:
        if -(-next(asked) // micro) != step:
            return batch
        return replace(batch, inputs={**batch.inputs, "student": {"x": batch.inputs["student"]["x"] * float("nan")}})

    return prepare


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_loss_that_is_no_number_stops_the_run(accumulation: int, tmp_path: Path) -> None:
    student, settings = Small(), {"checkpoint_seconds": 0, "accumulation": accumulation}
    data = feed(unlabelled=0.0)
    with pytest.raises(NonFiniteError, match="non-finite at step 3 in soft_labels, hard_labels") as caught:
        trained(student, data, folder=tmp_path, settings=settings, prepare=poisoned(3, micro=accumulation))
    assert caught.value.exit_code == 6
    keys = [key[:8] for key in data.examples.keys]
    assert sum(key in str(caught.value) for key in keys) == 4 // accumulation
    assert all(torch.isfinite(p).all() for p in student.parameters())  # the step was not made
    good = sorted(tmp_path.iterdir())
    assert [path.name for path in good] == ["step-00000001", "step-00000002"]
    assert all(sealed(path) for path in good)
    healed, whole = (
        trained(Small(), data, folder=tmp_path, settings=settings),
        trained(Small(), data, settings=settings),
    )
    assert healed is not None
    assert whole is not None
    assert same(healed.student, whole.student)


def test_only_the_term_that_went_wrong_is_named() -> None:
    def one_over(outputs: Outputs, targets: Targets, batch: Batch) -> Tensor:
        return 1.0 / (outputs["logits"].sum(-1) * 0.0)

    terms = [hard_labels(), Term("division", one_over, needs=Needs(frozenset({"logits"})), against="labels")]
    with pytest.raises(NonFiniteError, match=r"at step 1 in division \(rows"):
        run(Small(), terms=terms)


@pytest.mark.parametrize("clip", [1.0, None])
def test_a_gradient_that_is_no_number_stops_before_the_weights(clip: float | None, tmp_path: Path) -> None:
    """The square root of 0 is 0, and its gradient is not a number once 0 comes back through it."""

    def root(outputs: Outputs, targets: Targets, batch: Batch) -> Tensor:
        return (outputs["logits"].sum(-1) * 0.0).sqrt()

    student, before = Small(), Small()
    terms = [hard_labels(), Term("root", root, needs=Needs(frozenset({"logits"})), against="labels")]
    with pytest.raises(NonFiniteError, match=r"gradient of student .* step 1 in student\.body\.weight.*finite loss"):
        run(student, terms=terms, folder=tmp_path, settings={"clip": clip, "checkpoint_seconds": 0})
    assert same(student, before)
    assert list(tmp_path.iterdir()) == []


def test_a_score_that_is_no_number_stops_the_run() -> None:
    """Nothing is greater than it: the first epoch would stay the best for ever."""
    scores = iter([0.5, float("nan")])
    with pytest.raises(NonFiniteError, match="validation gave nan for student after step 8"):
        run(Small(), validate=lambda module: next(scores))


class Crowded(Small):
    """Fits so many rows into its memory."""

    def __init__(self, room: int, error: RuntimeError | None = None) -> None:
        super().__init__()
        self.room, self.error = room, error or torch.OutOfMemoryError("too much")
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.sizes.append(len(x))
            if len(x) > self.room:
                raise self.error
        return super().forward(x)


@pytest.mark.parametrize(("room", "sizes"), [(4, [8, 4, 4]), (3, [8, 4, 2, 2, 2, 2]), (1, [8, 4, 2, *[1] * 8])])
def test_out_of_memory_halves_the_micro_batch(room: int, sizes: list[int]) -> None:
    student, plain = Crowded(room), Small()
    done = run(student, settings={"batch_size": 8})
    run(plain, settings={"batch_size": 8})
    assert student.sizes[: len(sizes)] == sizes
    assert max(student.sizes[len(sizes) :]) == sizes[-1]  # it stays so
    halved = "out of memory at step 1: micro-batches halved, effective batch kept"
    assert done.notes == (halved,) * (len(set(sizes)) - 1)
    for mine, theirs in zip(student.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_out_of_memory_in_the_middle_of_a_step_leaves_nothing_behind() -> None:
    """The second of two micro-batches fails: the gradient of the first, and what a memory saw of it, must go."""

    class Late(Small):
        failed = False

        def forward(self, x: Tensor) -> Tensor:
            self.calls = getattr(self, "calls", 0) + self.training
            if self.calls == 2 and not self.failed:
                self.failed = True
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
            return super().forward(x)

    student, plain = Late(), Small()
    terms = [hard_labels(), bridge()]
    run(student, terms=terms, settings={"accumulation": 2})
    assert Bridge.made[-1].commits == [4, 4, 4, 2] * 2
    run(plain, terms=terms, settings={"accumulation": 2})
    for mine, theirs in zip(student.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_halved_is_raised() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        run(Crowded(0))
    with pytest.raises(RuntimeError, match="something else"):
        run(Crowded(2, RuntimeError("something else")))
