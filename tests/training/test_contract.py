"""The training contract: however the rows of a step are split, loss and gradient are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.contract import weights


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


def test_two_processes_end_in_the_same_weights(whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    command += [str(Path(__file__).with_name("contract.py")), "4", str(tmp_path / "two.safetensors")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert worst(whole, load_file(tmp_path / "two.safetensors")) < 1e-4


def test_a_different_objective_is_noticed(whole: dict[str, torch.Tensor]) -> None:
    """The comparison above can fail: half the rows a step give other weights."""
    assert worst(whole, weights(1, batch_size=16)) > 1e-2
