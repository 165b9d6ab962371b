"""The training loop. There is one; read it downwards.

Every objective, way of teaching and kind of student goes through ``train``: what differs is the list of terms.
Loss and gradient are the same for 32 rows at once, for 4 x 8 of them and on two processes (dropout off; terms that
couple examples and batch normalisation are exempt), because sums are divided in one place by counts that are known
before the first forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from understudy.data.feed import Feed
from understudy.data.sampling import epoch_batches, share
from understudy.errors import Interrupted, NonFiniteError
from understudy.objectives import Term
from understudy.records import Batch, Targets
from understudy.training.distillation import Distillation
from understudy.training.optimiser import clip, make_optimiser
from understudy.training.progress import Training, Watch, silent
from understudy.training.settings import Settings
from understudy.training.state import State

Prepare = Callable[[Batch, nn.Module], Batch]
Score = Callable[[nn.Module], float]


def train(
    student: nn.Module | Mapping[str, nn.Module],
    data: Feed,
    *,
    objective: Sequence[Term],
    teacher: Any = None,
    settings: Settings | None = None,
    validate: Score | None = None,
    prepare: Prepare | None = None,
    folder: Path | None = None,
    watch: Watch = silent,
    should_stop: Callable[[], bool] = lambda: False,
    device: str | None = None,
) -> Training:
    """Trains a student, or a cohort of them, until its objective is met as well as its settings allow.

    Args:
        student: any module (see ``students.Student``), or name -> module for a cohort that learns together.
        data: the rows, encoded for student and teacher.
        objective: the terms; ``loss = sum over terms of weight(step) * sum of values / count``.
        teacher: whatever answers ``bind(needs)`` and ``targets(batch)``; None where no term asks for one.
        settings: how long, how fast, how exact.
        validate: module -> score, higher is better; after every epoch, for every student. The weights of the best
            epoch are those that come back. None keeps the last ones.
        prepare: the one seam that may change a batch (views, mixup, rollouts).
        folder: where sealed checkpoints go; the same call again resumes from there, to the same weights.
        watch: called after every step with what happened.
        should_stop: asked after every step; True saves and raises Interrupted.
        device: ``cpu`` to force it; default the best that accelerate finds.

    Returns:
        What happened; the students are changed in place and hold their best weights.

    Raises:
        NonFiniteError: a loss that is not a number; the last good checkpoint stays.
        Interrupted: stopped from outside; the same call resumes.
    """
    settings = settings or Settings()
    accelerator = Accelerator(cpu=device == "cpu")
    world, rank = accelerator.num_processes, accelerator.process_index
    torch.manual_seed(settings.seed)

    cohort = dict(student) if isinstance(student, Mapping) else {"student": student}
    model = Distillation(cohort, objective).to(accelerator.device)
    model.bind(teacher)
    first = data.batch(epoch_batches(data.lengths, 2, seed=settings.seed, epoch=0)[0]).to(accelerator.device)
    idle = model.settle(first, _targets(teacher, first))
    optimiser = make_optimiser(model, settings)
    wrapped = accelerator.prepare_model(model)
    per_epoch = -(-len(data) // settings.batch_size)
    steps = min(settings.epochs * per_epoch, settings.max_steps or settings.epochs * per_epoch)
    state = State(model, optimiser, accelerator, settings, data, folder, idle)
    torch.manual_seed(settings.seed + rank)  # dropout differs between processes, the rows' order does not
    start = state.resume()
    wrapped.train()

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
            micro = [data.batch(part, fillers=fillers, epoch=epoch).to(accelerator.device) for part, fillers in pieces]
            if prepare is not None:
                micro = [prepare(batch, model) for batch in micro]
            try:
                losses, agreement = _gradients(wrapped, model, micro, teacher, accelerator, settings, step)
                break
            except RuntimeError as error:
                state.halve(error)  # raises unless memory ran out and a smaller micro-batch is left
        clip(model, settings.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        model.commit(accelerator.gather)

        state.log(losses, agreement)
        if (step + 1) % per_epoch == 0 or step + 1 == steps:
            state.finish_epoch(step, per_epoch, validate)
            wrapped.train()
        watch(state.facts(step, steps))
        done = step + 1 == steps or state.exhausted()
        stopping = should_stop()
        if stopping or done or state.is_due():
            state.save(step)
        if done:
            break
        if stopping:
            raise Interrupted(f"stopped after step {step + 1} of {steps}; the same command goes on from there")
    return state.result()


def _gradients(
    wrapped: nn.Module,
    model: Distillation,
    micro: Sequence[Batch],
    teacher: Any,
    accelerator: Accelerator,
    settings: Settings,
    step: int,
) -> tuple[dict[str, float], float | None]:
    """Adds up the gradient of one step; returns each term's loss and the share of rows that agree with the teacher."""
    counts = _counts(model.terms, micro, accelerator)  # before the first forward, from masks alone
    losses = dict.fromkeys(counts, 0.0)
    agreeing = 0.0
    for i, batch in enumerate(micro):
        targets = _targets(teacher, batch)
        with nullcontext() if i == len(micro) - 1 else accelerator.no_sync(wrapped):
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                sums = wrapped(batch, targets, watch=True)
            agreeing += float(sums.pop("agreement", torch.tensor(float("nan"))))
            loss = torch.zeros((), device=accelerator.device)
            for term in model.terms:
                value = sums[term.name] / counts[term.name] if counts[term.name] else 0.0 * sums[term.name]
                loss = loss + term.weight_at(step) * value  # the only division
                losses[term.name] += float(value.detach())
            if not torch.isfinite(loss):
                raise NonFiniteError(_blame(losses, step, batch))
            accelerator.backward(loss * accelerator.num_processes)  # DDP averages; the counts are of all processes
    return losses, None if agreeing != agreeing else agreeing / sum(len(batch) for batch in micro)


def _targets(teacher: Any, batch: Batch) -> Targets:
    return Targets({}) if teacher is None else teacher.targets(batch)


def _counts(terms: Sequence[Term], micro: Sequence[Batch], accelerator: Accelerator) -> dict[str, float]:
    """term -> what the whole step counts, over all micro-batches and processes."""
    mine = {term.name: sum(float(term.count(batch)) for batch in micro) for term in terms}
    if accelerator.num_processes == 1:
        return mine
    total = accelerator.reduce(torch.tensor(list(mine.values()), dtype=torch.float64), reduction="sum")
    return dict(zip(mine, total.tolist(), strict=True))


def _blame(losses: Mapping[str, float], step: int, batch: Batch) -> str:
    culprits = [name for name, value in losses.items() if not math.isfinite(value)]
    return (
        f"the loss became non-finite at step {step + 1} in {', '.join(culprits) or 'the weighted sum'} "
        f"(rows {', '.join(key[:8] for key in batch.keys[:4])}, ...): lower the learning rate or use precision fp32; "
        "the last good checkpoint was kept"
    )
