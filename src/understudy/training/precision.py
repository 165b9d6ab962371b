"""Whether bf16 autocast is worth it here: measured on real batches, then frozen into the recipe."""

from __future__ import annotations

import copy
import time

import torch
from accelerate import PartialState
from torch import nn

from understudy.data.feed import Feed
from understudy.data.sampling import epoch_batches
from understudy.training.distillation import answering

GAIN = 0.9  # bf16 has to save a tenth of the time to be worth its rounding
ROUNDS = 4


def probe(student: nn.Module, data: Feed, *, batch_size: int, device: str | None = None) -> tuple[str, str]:
    """Times forward and backward of a copy of the student in fp32 and in bf16 on one real batch, where it will train.

    The student and the random state stay as they are.

    Returns:
        ``fp32`` or ``bf16``, and a sentence with the two times.
    """
    rows = epoch_batches(data.lengths, batch_size, seed=0, epoch=0)[0]
    place = torch.device("cpu") if device == "cpu" else PartialState().device
    trial = answering("student", copy.deepcopy(student)).to(place).train()
    batch = data.batch(rows).to(place)
    times: dict[str, list[float]] = {"fp32": [], "bf16": []}
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        for _ in range(ROUNDS):  # in turn, so that a machine that is busy for a moment slows both
            for name in times:
                began = time.perf_counter()
                with torch.autocast(place.type, torch.bfloat16, enabled=name == "bf16"):
                    said = trial(batch.inputs["student"]).signals
                    value = torch.stack([signal.float().square().mean() for signal in said.values()]).sum()
                value.backward()
                if place.type == "cuda":
                    torch.cuda.synchronize(place)
                times[name].append(time.perf_counter() - began)
    best = {name: min(seconds[1:]) for name, seconds in times.items()}
    chosen = "bf16" if best["bf16"] < GAIN * best["fp32"] else "fp32"
    return (
        chosen,
        f"precision {chosen}: a batch took {1e3 * best['fp32']:.1f} ms in fp32, {1e3 * best['bf16']:.1f} ms in bf16",
    )
