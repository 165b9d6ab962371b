"""One of two processes of a torchrun: whatever decides where the loop goes next has to be agreed on.

Run as ``two.py FOLDER``; leaves one file of weights a case, and facts.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch import nn

from tests.training.contract import weights
from tests.training.small import Small, after, feed, trained
from tests.training.writers import writer
from understudy.errors import NonFiniteError
from understudy.objectives import hard_tokens, soft_tokens
from understudy.teachers import Live
from understudy.training import Settings, Training, train


def main(folder: Path) -> None:
    rank = PartialState(cpu=True).process_index
    assert PartialState().num_processes == 2, "wanted two processes"
    facts: dict[str, Any] = {}

    def keep(name: str, done: Training | None, **more: Any) -> None:
        assert done is not None
        if rank == 0:
            state = {key: value.clone() for key, value in done.student.state_dict().items()}  # heads may be tied
            save_file(state, folder / f"{name}.safetensors")
            facts[name] = {"history": done.history, "best": done.best, "steps": done.steps, **more}

    contract = weights(4)
    if rank == 0:
        save_file(contract, folder / "contract.safetensors")

    watched: list[int] = []
    whole = trained(net(), watch=lambda step: watched.append(step.step))
    keep("whole", whole)
    assert len(watched) == (12 if rank == 0 else 0), "one process is watched"

    # the second process alone is told to stop; both do, at the same step, and go on to the same end
    for stop in (2, 3):
        stopping = after(stop) if rank == 1 else lambda: False
        assert trained(net(), folder=folder / "resumed", should_stop=stopping) is None
    keep("resumed", trained(net(), folder=folder / "resumed"))

    # each process has another opinion on every epoch: the first one's counts
    def opinion(module: nn.Module) -> float:
        scores.append(0)
        return float(-len(scores) if rank == 0 else len(scores))

    scores: list[int] = []
    keep("patience", trained(net(), validate=opinion, settings={"epochs": 9, "patience": 2}))
    assert len(scores) == 3

    # a loss that is not a number on one process stops both
    def poison(batch: Any, model: nn.Module) -> Any:
        if rank == 1:
            batch.inputs["student"]["x"].fill_(float("nan"))
        return batch

    with pytest.raises(NonFiniteError, match="on another process" if rank == 0 else "in soft_labels"):
        trained(net(), prepare=poison)

    # each process writes its own rows of a batch, as one process writes all of them
    keep("written", written())

    # more processes than rows in the last step, checkpoints by the first one's clock
    keep("thirteen", trained(net(), feed(13), folder=folder / "clock", settings={"checkpoint_seconds": 0.0}))
    if rank == 0:
        (folder / "facts.json").write_text(json.dumps(facts))
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()


def written() -> Training:
    """A decoder that writes half of its batches; 12 rows, so that none fills up."""
    model, texts, rollouts = writer()
    settings = Settings(epochs=2, batch_size=4, learning_rate=1e-3, seed=2)
    return train(
        model(0), texts, objective=[soft_tokens(weight=0.5), hard_tokens(0.5)], teacher=Live(model(1)),
        settings=settings, prepare=rollouts, device="cpu",
    )  # fmt: skip


def net() -> nn.Module:
    """Without dropout: two processes draw other numbers than one."""
    torch.manual_seed(0)
    return Small()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
