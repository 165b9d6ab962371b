"""The training loop. There is one; read it downwards.

Every objective, way of teaching and kind of student goes through ``train``: what differs is the list of terms.
Loss and gradient are the same for 32 rows at once, for 4 x 8 of them and on two processes (dropout off; terms that
couple examples and batch normalisation are exempt), because sums are divided in one place by counts that are known
before the first forward.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from understudy.data.feed import Feed
from understudy.data.sampling import Indices, epoch_batches, share
from understudy.errors import DataError, Interrupted, NonFiniteError
from understudy.objectives import Term
from understudy.records import Batch, Targets
from understudy.training.distillation import RESERVED, Distillation
from understudy.training.identity import identity
from understudy.training.optimiser import clip, make_optimiser
from understudy.training.progress import Training, Watch, silent
from understudy.training.settings import Settings
from understudy.training.state import Scores, State

Prepare = Callable[[Batch, nn.Module], Batch]


def train(
    student: nn.Module | Mapping[str, nn.Module],
    data: Feed,
    *,
    objective: Sequence[Term],
    teacher: Any = None,
    settings: Settings | None = None,
    validate: Scores | None = None,
    prepare: Prepare | None = None,
    folder: Path | None = None,
    watch: Watch = silent,
    should_stop: Callable[[], bool] = lambda: False,
    device: str | None = None,
) -> Training:
    """Trains a student, or a cohort of them, until its objective is met as well as its settings allow.

    Args:
        student: any module (see ``students.Student``), or name -> module for a cohort that learns together; one of
            them is called ``student``.
        data: the rows, encoded for student and teacher.
        objective: the terms; ``loss = sum over terms of weight(step) * sum of values / count``.
        teacher: whatever answers ``bind(needs)`` and ``targets(batch)``; None where no term asks for one.
        settings: how long, how fast, how exact.
        validate: module -> score, higher is better (of a `Lower` lower), or one such function for each student by
            name; after every epoch. Every student gets the weights of its own best epoch back, and stops on its own
            where the settings have a patience: it goes on teaching its peers. None keeps the last weights.
        prepare: the one seam that may change a batch (`Rollouts`, views, mixup), which knows its step; it sees the
            first one once more, for its shapes. Its seconds are kept apart; a ``fingerprint`` of its own is part of a
            checkpoint's identity.
        folder: where sealed checkpoints go; the same call again resumes from there, to the same weights.
        watch: called after every step with what happened, on the first process.
        should_stop: asked after every step; True on any process saves and raises Interrupted on all of them.
        device: ``cpu`` to force it; default the best that accelerate finds.

    Returns:
        What happened; the students are changed in place and hold their best weights.

    Raises:
        NonFiniteError: a loss, gradient or score that is not a number; the last good checkpoint stays.
        Interrupted: stopped from outside; the same call resumes.
    """
    settings = settings or Settings()
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")  # precision is ours: see ``_gradients``
    world, rank = accelerator.num_processes, accelerator.process_index
    if not len(data):
        raise DataError("a training needs at least one row, got none")
    torch.manual_seed(settings.seed)

    cohort = dict(student) if isinstance(student, Mapping) else {"student": student}
    model = Distillation(cohort, objective).to(accelerator.device)
    model.bind(teacher)

    def ready(rows: Indices, fillers: int = 0, epoch: int = 0, step: int = 0) -> Batch:
        batch = data.batch(rows, fillers=fillers, epoch=epoch).to(accelerator.device)
        return batch if prepare is None else prepare(replace(batch, step=step), model)

    first = ready(epoch_batches(data.lengths, 2, seed=settings.seed, epoch=0)[0])
    model.settle(first, _targets(teacher, first))
    optimiser = make_optimiser(model, settings)
    wrapped = accelerator.prepare_model(model)
    per_epoch = -(-len(data) // settings.batch_size)
    steps = min(settings.epochs * per_epoch, settings.max_steps or settings.epochs * per_epoch)
    who = identity(model, settings, data, teacher, prepare, steps=steps, world=world) if folder is not None else ""
    state = State(model, optimiser, accelerator, settings, folder, who)
    torch.manual_seed(settings.seed + rank)  # dropout differs between processes, the rows' order does not
    start = state.resume()
    state.wake(wrapped)

    epoch, batches = -1, []
    for step in range(start, start if state.exhausted() else steps):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            batches = epoch_batches(
                data.lengths, settings.batch_size, seed=settings.seed, epoch=epoch, bucketed=settings.bucketed
            )
        rows = batches[step % per_epoch]
        rate = settings.learning_rate_at(step, steps)
        for group in optimiser.param_groups:
            group["lr"] = rate

        while True:
            pieces = share(rows, rank=rank, world=world, micro=state.micro(len(rows)))
            try:
                began = time.perf_counter()
                micro = [ready(part, fillers, epoch, step) for part, fillers in pieces]
                state.preparing += time.perf_counter() - began if prepare is not None else 0.0
                losses = _gradients(wrapped, model, micro, teacher, accelerator, settings, step)
                break
            except RuntimeError as error:
                state.halve(error)  # raises unless memory ran out and a smaller micro-batch is left
        clip(model, settings.clip, step=step, still=state.stopped())
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        model.commit(accelerator.gather)

        state.log(losses)
        if state.step % per_epoch == 0 or state.step == steps:
            state.finish_epoch(per_epoch, validate)
            state.wake(wrapped)
        if accelerator.is_main_process:
            watch(state.facts(steps))
        done = state.step == steps or state.exhausted()
        stopping, due = state.agree(should_stop())
        if done or stopping or due:
            state.save()
        if done:
            break
        if stopping:
            model.thaw()
            kept = "the same command goes on from there" if folder is not None else "without a folder, it starts over"
            raise Interrupted(f"stopped after step {state.step} of {steps}; {kept}")
    return state.result()


def _gradients(
    wrapped: nn.Module,
    model: Distillation,
    micro: Sequence[Batch],
    teacher: Any,
    accelerator: Accelerator,
    settings: Settings,
    step: int,
) -> dict[str, float]:
    """Adds up the gradient of one step; returns the loss, that of each term, and the share of rows that agree."""
    counts = _counts(model.terms, micro, accelerator)  # before the first forward, from masks alone
    weights = {term.name: term.weight_at(step) for term in model.terms}
    said = []
    for i, batch in enumerate(micro):
        targets = _targets(teacher, batch)
        with nullcontext() if i == len(micro) - 1 else accelerator.no_sync(wrapped):
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                sums = wrapped(batch, targets, watch=True)
            means = {  # the only division
                name: total / counts[name] if counts[name] else 0.0 * total for name, total in sums.items()
            }
            means["loss"] = torch.stack([weight * means[name] for name, weight in weights.items()]).sum()
            accelerator.backward(means["loss"] * accelerator.num_processes)  # DDP averages; the counts are of all
        said.append({name: value.detach() for name, value in means.items()})
    values = torch.stack([torch.stack(list(means.values())) for means in said]).tolist()  # one wait for the device
    found = dict(zip(said[0], map(sum, zip(*values, strict=True)), strict=True))
    losses = _over_processes(found, accelerator)
    if not all(map(math.isfinite, losses.values())):
        raise NonFiniteError(_blame(said[0], values, micro, step))
    return losses


def _targets(teacher: Any, batch: Batch) -> Targets:
    return Targets({}) if teacher is None else teacher.targets(batch)


def _counts(terms: Sequence[Term], micro: Sequence[Batch], accelerator: Accelerator) -> dict[str, float]:
    """term -> what the whole step counts, over all micro-batches and processes; for ``agreement``, all rows."""
    mine = {term.name: sum(float(term.count(batch)) for batch in micro) for term in terms}
    return _over_processes(mine | {"agreement": float(sum(map(len, micro)))}, accelerator)


def _over_processes(mine: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
    if accelerator.num_processes == 1:
        return mine
    total = torch.tensor(list(mine.values()), dtype=torch.float64, device=accelerator.device)
    return dict(zip(mine, accelerator.reduce(total, reduction="sum").tolist(), strict=True))


def _blame(names: Iterable[str], values: Sequence[Sequence[float]], micro: Sequence[Batch], step: int) -> str:
    """Which terms, in which step, on which rows: those of the first micro-batch that went wrong."""
    wrong = [[not math.isfinite(value) for value in row] for row in values]
    where = next((i for i, row in enumerate(wrong) if any(row)), None)
    if where is None:
        what = "on another process"
    else:
        terms = [name for name, bad in zip(names, wrong[where], strict=True) if bad and name not in RESERVED]
        rows = ", ".join(key[:8] for key in micro[where].keys[:4])
        what = f"in {', '.join(terms) or 'the weighted sum'} (rows {rows}, ...)"
    return (
        f"the loss became non-finite at step {step + 1} {what}: lower the learning rate or use precision fp32; "
        "the last good checkpoint was kept"
    )
