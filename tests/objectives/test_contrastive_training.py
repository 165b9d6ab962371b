"""The contrast with a memory in a training: no split of the rows shows, and it resumes to the same bits.

14 rows in batches of 4, three epochs: the memory of 8 slots is read and written from the second step on.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.small import Small, trained
from torch import Tensor

from understudy import objectives as match

OBJECTIVE = {
    "objective": [
        match.hard_labels(0.3),
        match.contrastive("module:body", "module:body", 0.5, size=8, dimensions=4, temperature=0.5),
    ]
}


def states(folder: Path) -> dict[str, Tensor]:
    """Everything that a training ends with, connectors and memory among it."""
    newest = max(folder.glob("step-*"))
    return load_file(newest / "model.safetensors")


def net() -> Small:
    torch.manual_seed(0)
    return Small(width=6)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Tensor]:
    folder = tmp_path_factory.mktemp("whole")
    done = trained(net(), folder=folder, **OBJECTIVE)
    assert done is not None
    assert done.history[-1]["terms"]["contrastive"] > 0.1
    return states(folder)


@pytest.mark.parametrize("accumulation", [2, 4])
def test_micro_batches_end_in_the_same_weights_and_memory(whole, accumulation, tmp_path):
    trained(net(), folder=tmp_path, settings={"accumulation": accumulation}, **OBJECTIVE)
    split = states(tmp_path)
    assert split.keys() == whole.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(split[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("stops", [[2], [1, 5]], ids=str)
def test_a_resumed_training_ends_in_the_same_bits(whole, stops, tmp_path):
    for stop in stops:
        assert trained(net(), folder=tmp_path, stop=stop, **OBJECTIVE) is None
    assert trained(net(), folder=tmp_path, **OBJECTIVE) is not None
    resumed = states(tmp_path)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_projections_learn_and_the_memory_fills(whole, tmp_path):
    assert trained(net(), folder=tmp_path, stop=1, **OBJECTIVE) is None
    early = states(tmp_path)
    kinds = ("student.weight", "student.bias", "teacher.weight", "teacher.bias")
    for name in (f"connectors.contrastive.{kind}" for kind in kinds):
        assert (whole[name] - early[name]).abs().max() > 1e-3, name
    rows = "connectors.contrastive.rows"
    assert 0 < int((early[rows] >= 0).sum()) <= 4 < int((whole[rows] >= 0).sum())


def test_the_memory_decides_the_weights(whole, tmp_path):
    """The comparisons above can fail: a memory of one slot gives other weights."""
    smaller = [match.hard_labels(0.3), match.contrastive("module:body", "module:body", 0.5, size=1, dimensions=4)]
    trained(net(), folder=tmp_path, objective=smaller)
    name = "students.0.module.body.weight"
    assert (states(tmp_path)[name] - whole[name]).abs().max() > 1e-3


def test_a_student_learns_which_row_is_which():
    done = trained(net(), objective=OBJECTIVE["objective"][1:], settings={"epochs": 30}, validate=None)
    assert done is not None
    losses = [epoch["terms"]["contrastive"] for epoch in done.history]
    assert losses[-1] < 0.7 * max(losses[1:4])
