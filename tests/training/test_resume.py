"""An interrupted and an uninterrupted training end in the same bits; what belongs to another one is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training import contract
from tests.training.small import Numbers, Small, examples, feed, objective, same, score, trained
from understudy.data.feed import Feed
from understudy.errors import Interrupted, StoreError
from understudy.files import sealed
from understudy.objectives import Needs, Term, hard_labels, schedules, soft_labels
from understudy.teachers import Live
from understudy.training import Settings, Training, train


def finished(done: Training | None) -> Training:
    assert done is not None
    return done


@pytest.fixture(scope="module")
def whole() -> Training:
    return finished(trained())


def alike(first: Training, second: Training) -> None:
    assert same(first.student, second.student)
    assert first.history == second.history
    assert (first.best, first.steps) == (second.best, second.steps)


@pytest.mark.parametrize("stops", [[1], [3], [4], [11], [2, 5, 3]], ids=str)
def test_a_resumed_training_ends_in_the_same_bits(whole: Training, stops: list[int], tmp_path: Path) -> None:
    """14 rows in batches of 4: three steps and a partial one an epoch. [4]: right after an epoch."""
    for stop in stops:
        assert trained(folder=tmp_path, stop=stop) is None
    done = finished(trained(folder=tmp_path))
    alike(whole, done)
    assert any(note.startswith(f"resumed after step {sum(stops)}") for note in done.notes)
    assert len(whole.history) == 3
    assert not same(whole.student, finished(trained(settings={"seed": 1})).student)  # the comparison can fail


def test_a_finished_training_is_not_done_again(whole: Training, tmp_path: Path) -> None:
    trained(folder=tmp_path)
    seen: list[Any] = []
    alike(whole, finished(trained(folder=tmp_path, watch=seen.append)))
    assert seen == []


@pytest.mark.parametrize("stop", [5, 8, 11])
def test_early_stopping_remembers_what_it_has_seen(stop: int, tmp_path: Path) -> None:
    def worse(module: torch.nn.Module) -> float:  # the weights grow, so the first epoch is the best
        return -float(sum(p.abs().sum() for p in module.parameters()))

    how = {"validate": worse, "settings": {"epochs": 9, "patience": 2, "weight_decay": 0.0}}
    whole = finished(trained(**how))
    assert (whole.steps, len(whole.history)) == (12, 3)
    assert trained(folder=tmp_path, stop=stop, **how) is None
    alike(whole, finished(trained(folder=tmp_path, **how)))
    alike(whole, finished(trained(folder=tmp_path, **how)))


def test_a_cohort_and_a_memory_resume(tmp_path: Path) -> None:
    """31 rows in batches of 8: the memory of negatives that lies in the checkpoint decides the later gradients."""
    wanted = contract.weights(2, batch_size=8, epochs=2)
    asked = iter(range(10))
    with pytest.raises(Interrupted):
        contract.weights(2, batch_size=8, epochs=2, folder=tmp_path, should_stop=lambda: next(asked) == 2)
    (saved,) = tmp_path.iterdir()
    tensors = load_file(saved / "model.safetensors")
    assert not any(name.startswith("teacher") for name in tensors)
    assert "connectors.memory.bank" in tensors
    found = contract.weights(2, batch_size=8, epochs=2, folder=tmp_path)
    assert len(found) > 20
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []


def test_what_was_decided_is_still_said_after_a_resume(tmp_path: Path) -> None:
    class Crowded(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 2 and self.training:
                raise torch.OutOfMemoryError("too much")
            return super().forward(x)

    assert trained(Crowded(), folder=tmp_path, stop=2) is None
    done = finished(trained(Crowded(), folder=tmp_path))
    assert [note.split(":")[0] for note in done.notes] == ["out of memory at step 1", "resumed after step 2"]


# -- broken checkpoints ----------------------------------------------------------------------------


def spoil(path: Path) -> None:
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "model.safetensors").write_bytes(bytes(data))


def test_a_broken_checkpoint_is_skipped_and_said(whole: Training, tmp_path: Path) -> None:
    assert trained(folder=tmp_path, stop=6, settings={"checkpoint_seconds": 0}) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000005", "step-00000006"]
    spoil(tmp_path / "step-00000006")
    done = finished(trained(folder=tmp_path))
    assert any("step-00000006 is not whole and was skipped" in note for note in done.notes)
    assert any("resumed after step 5" in note for note in done.notes)
    alike(whole, done)


def test_broken_checkpoints_do_not_push_out_good_ones(whole: Training, tmp_path: Path) -> None:
    """The two that are kept are the newest whole ones, not the newest names."""
    every = {"checkpoint_seconds": 0}
    assert trained(folder=tmp_path, stop=9, settings=every) is None
    for path in tmp_path.iterdir():
        spoil(path)
    assert trained(folder=tmp_path, stop=2, settings=every) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
    alike(whole, finished(trained(folder=tmp_path)))


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.small import trained
from understudy import files
from understudy.training import checkpoint

saves = 0

def die(*arguments):
    global saves
    saves += 1
    if saves == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)

original = {"unsealed": checkpoint.seal, "sealed": files._swap}[sys.argv[2]]
if sys.argv[2] == "unsealed":
    checkpoint.seal = die
else:
    files._swap = die
trained(folder=Path(sys.argv[1]), settings={"checkpoint_seconds": 0})
"""


@pytest.mark.parametrize("moment", ["unsealed", "sealed"])
def test_kill_9_while_saving(moment: str, whole: Training, tmp_path: Path) -> None:
    """Killed before the seal is written, and between the seal and the name."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", KILLED, str(tmp_path), moment]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, cwd=root)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    draft = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert [sealed(path) for path in draft] == [moment == "sealed"]
    resumed = finished(trained(folder=tmp_path))
    assert any(note.startswith("resumed after step 4") for note in resumed.notes)
    alike(whole, resumed)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_without_a_folder_nothing_is_promised() -> None:
    with pytest.raises(Interrupted, match="stopped after step 1 of 4; without a folder") as caught:
        train(
            Small(), feed(), objective=[hard_labels()], settings=Settings(epochs=1, batch_size=4),
            should_stop=lambda: True, device="cpu",
        )  # fmt: skip
    assert caught.value.exit_code == 75


# -- whose checkpoint ------------------------------------------------------------------------------


def own(outputs: Any, targets: Any, batch: Any, *, share: float) -> torch.Tensor:
    return share * outputs["logits"].square().mean(-1)


def term(share: float) -> Any:
    return [Term("own", partial(own, share=share), needs=Needs(frozenset({"logits"})), against="labels")]


def linear(weight: float) -> list[Any]:
    return [hard_labels(schedules.linear(weight, steps=5))]


OTHERS: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[], dict[str, Any]]]] = {
    "temperature": (lambda: {"objective": [soft_labels(2.0)]}, lambda: {"objective": [soft_labels(4.0)]}),
    "divergence": (
        lambda: {"objective": [soft_labels(2.0)]},
        lambda: {"objective": [soft_labels(2.0, divergence="reverse_kl")]},
    ),
    "weight": (lambda: {"objective": [hard_labels(1.0)]}, lambda: {"objective": [hard_labels(0.5)]}),
    "schedule": (lambda: {"objective": linear(1.0)}, lambda: {"objective": linear(2.0)}),
    "own term": (lambda: {"objective": term(1.0)}, lambda: {"objective": term(2.0)}),
    "terms": (lambda: {}, lambda: {"objective": objective()[:1]}),
    "rows": (lambda: {}, lambda: {"data": feed(seed=1)}),
    "labels": (lambda: {}, lambda: {"data": feed(unlabelled=0.0)}),
    "encoding": (
        lambda: {},
        lambda: {"data": Feed(examples(), {"student": Numbers("other"), "teacher": Numbers()})},
    ),
    "class weights": (
        lambda: {},
        lambda: {
            "data": Feed(
                examples(), {"student": Numbers(), "teacher": Numbers()}, class_weights=np.array([1.0, 2.0, 1.0])
            )
        },
    ),
    "learning rate": (lambda: {}, lambda: {"settings": {"learning_rate": 2e-2}}),
    "epochs": (lambda: {}, lambda: {"settings": {"epochs": 4}}),
    "teacher": (lambda: {}, lambda: {"teacher": Live(Small(seed=8))}),
    "order of the teacher's columns": (lambda: {}, lambda: {"teacher": Live(Small(seed=9), order=[1, 0, 2])}),
    "dropout": (lambda: {}, lambda: {"student": Small(dropout=0.2, norm=True)}),
    "width": (lambda: {}, lambda: {"student": Small(dropout=0.3, norm=True, width=9)}),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_training_is_refused(what: str, tmp_path: Path) -> None:
    mine, other = OTHERS[what]
    assert trained(folder=tmp_path, stop=2, **mine()) is None
    with pytest.raises(StoreError, match=r"step-00000002 belongs to another training .*--fresh"):
        trained(folder=tmp_path, **other())
    assert trained(folder=tmp_path, stop=1, settings={"checkpoint_seconds": 7.0}, **mine()) is None  # its own is not


def test_another_start_of_the_student_is_not_another_training(whole: Training, tmp_path: Path) -> None:
    """A module that its user draws anew in every process goes on from the checkpoint's weights."""
    assert trained(folder=tmp_path, stop=3) is None
    alike(whole, finished(trained(Small(dropout=0.3, norm=True, seed=5), folder=tmp_path)))


def test_the_score_is_a_score() -> None:
    """What these tests validate with tells a trained student from an untrained one."""
    data = feed()
    assert score(data)(finished(trained(settings={"epochs": 20})).student) > score(data)(Small(norm=True).eval())
