"""The training contract: however the rows of a step are split, loss and gradient are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.contract import weights
from tests.training.small import Small, feed, trained
from tests.training.two import written


def worst(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    assert len(first) > 20
    return max(float((first[k] - second[k]).abs().max() / first[k].abs().max().clamp(min=1e-6)) for k in first)


@pytest.fixture(scope="module")
def whole() -> dict[str, torch.Tensor]:
    return weights(1)


@pytest.mark.parametrize("accumulation", [4, 7, 31])
def test_micro_batches_of_any_size_end_in_the_same_weights(whole: dict[str, torch.Tensor], accumulation: int) -> None:
    assert worst(whole, weights(accumulation)) < 1e-4


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left behind; see two.py."""
    folder, root = tmp_path_factory.mktemp("two"), Path(__file__).parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    command += [str(Path(__file__).with_name("two.py")), str(folder)]
    places = [str(root), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, places))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_two_processes_end_in_the_same_weights(whole: dict[str, torch.Tensor], two: Path) -> None:
    assert worst(whole, load_file(two / "contract.safetensors")) < 1e-4


@pytest.mark.parametrize(("name", "rows"), [("whole", 14), ("thirteen", 13)])
def test_two_processes_say_what_one_says(name: str, rows: int, two: Path) -> None:
    alone = trained(Small(), feed(rows))
    assert alone is not None
    said = json.loads((two / "facts.json").read_text())[name]
    assert said["steps"] == alone.steps == 12
    for mine, theirs in zip(alone.history, said["history"], strict=True):
        for key in ("loss", "agreement", "validation"):
            # agreement counts the rows that fill up the last step, of which two processes need one more
            assert mine[key] == pytest.approx(theirs[key], rel=1e-3, abs=0.1 if key == "agreement" else 1e-5), key
        assert mine["terms"] == pytest.approx(theirs["terms"], rel=1e-3, abs=1e-5)
    for key, value in load_file(two / f"{name}.safetensors").items():
        torch.testing.assert_close(alone.student.state_dict()[key], value, rtol=1e-3, atol=1e-5)


def test_two_processes_write_what_one_writes(two: Path) -> None:
    alone, said = written(), json.loads((two / "facts.json").read_text())["written"]
    assert said["steps"] == alone.steps == 6
    for mine, theirs in zip(alone.history, said["history"], strict=True):
        assert mine["terms"] == pytest.approx(theirs["terms"], rel=1e-4)
    for key, value in load_file(two / "written.safetensors").items():
        torch.testing.assert_close(alone.student.state_dict()[key], value, rtol=1e-3, atol=2e-4)


def test_two_processes_stop_together_and_resume_to_the_same_bits(two: Path) -> None:
    facts = json.loads((two / "facts.json").read_text())
    assert facts["resumed"] == facts["whole"]
    whole, resumed = (load_file(two / f"{name}.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert facts["patience"]["steps"] == 12  # the first process saw three epochs, each worse than the one before
    assert facts["patience"]["best"] == {"student": -1.0}


def test_a_different_objective_is_noticed(whole: dict[str, torch.Tensor]) -> None:
    """The comparison above can fail: half the rows a step give other weights."""
    assert worst(whole, weights(1, batch_size=16)) > 1e-2
