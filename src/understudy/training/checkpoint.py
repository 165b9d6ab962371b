"""Sealed checkpoints without pickle: tensors in safetensors, the rest in JSON, a seal that is written last."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from understudy.errors import StoreError
from understudy.files import new_folder, read_json, seal, sealed, write_json

KEEP = 2  # the newest two: one may be the one that a power cut spoilt


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on as if nothing had happened.

    ``facts`` is JSON: the next step, the identity of the training, its history, and what early stopping knows.
    """

    model: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    random: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as ``index.name`` -> tensor, in the order of its parameters."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": value for index, slots in state.items() for name, value in slots.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of ``optimiser_tensors``, into an optimiser over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes FOLDER/step-N whole or not at all, and then drops all but the newest two of what leads to it.

    What is left of an interrupted write goes too, and so does what claims to be newer: it was skipped, or this would
    not be the newest.
    """
    target = folder / f"step-{checkpoint.facts['step']:08d}"
    with new_folder(target) as part:
        for name in ("model", "optimiser", "best", "random"):
            save_file(
                {k: v.detach().contiguous().cpu() for k, v in getattr(checkpoint, name).items()},
                part / f"{name}.safetensors",
            )
        write_json(part / "facts.json", dict(checkpoint.facts))
        seal(part)
    whole = sorted(path for path in folder.glob("step-*") if path <= target)
    for path in {*folder.glob("step-*"), *folder.glob(".step-*")} - {*whole[-KEEP:]}:
        shutil.rmtree(path, ignore_errors=True)
    return target


def load(folder: Path, *, identity: str) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint whose seal holds, and a sentence for every one that was skipped.

    Raises:
        StoreError: a checkpoint of another training (other rows, model, objective or settings) lies there.
    """
    skipped = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        if not sealed(path):
            skipped.append(f"checkpoint {path.name} is not whole and was skipped")
            continue
        facts = read_json(path / "facts.json")
        if facts["identity"] != identity:
            raise StoreError(
                f"{path} belongs to another training (identity {facts['identity'][:8]}, wanted {identity[:8]}): "
                "use another folder, or start over with --fresh"
            )
        parts = {n: load_file(path / f"{n}.safetensors") for n in ("model", "optimiser", "best", "random")}
        return Checkpoint(**parts, facts=facts), skipped
    return None, skipped


def weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's state that nothing will change; tied tensors are copied once per name."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
