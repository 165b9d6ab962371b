"""What a training remembers between steps, and how that survives a power cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from understudy.data.feed import Feed
from understudy.files import content_hash
from understudy.training import checkpoint
from understudy.training.distillation import Distillation
from understudy.training.progress import Step, Training
from understudy.training.settings import Settings

Score = Callable[[nn.Module], float]


class State:
    """Running sums, early stopping and checkpoints of one training."""

    def __init__(
        self,
        model: Distillation,
        optimiser: torch.optim.Optimizer,
        accelerator: Accelerator,
        settings: Settings,
        data: Feed,
        folder: Path | None,
        idle: list[str],
    ) -> None:
        self.model, self.optimiser, self.accelerator, self.settings = model, optimiser, accelerator, settings
        self.folder = folder
        self.identity = _identity(model, settings, data, accelerator.num_processes)
        self.notes = [f"no term reaches {name}: frozen" for name in idle]
        self.history: list[dict[str, Any]] = []
        self.sums: dict[str, float] = {}
        self.seen = 0
        self.best: dict[str, float] = {}
        self.best_weights: dict[str, dict[str, Tensor]] = {}
        self.stale = 0
        self.halvings = 0
        self.step = 0
        self.start = 0
        self.seconds = 0.0
        self.resumed_at = self.saved_at = time.perf_counter()

    # -- what happens in a step ---------------------------------------------------------------------------------

    def micro(self, rows: int) -> int:
        """Rows of one micro-batch on this process, for a step of ``rows``."""
        each = -(-rows // self.accelerator.num_processes)
        return max(1, -(-each // (self.settings.accumulation * 2**self.halvings)))

    def halve(self, error: RuntimeError) -> None:
        """Halves the micro-batch when memory ran out; anything else, and a batch that cannot be halved, is raised."""
        out_of_memory = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        smallest = self.micro(self.settings.batch_size) == 1
        if not out_of_memory or smallest or self.accelerator.num_processes > 1:
            raise error
        self.halvings += 1
        self.optimiser.zero_grad(set_to_none=True)
        self.model.forget()
        self.notes.append(f"out of memory at step {self.step + 1}: micro-batches halved, effective batch kept")

    def log(self, losses: Mapping[str, float], agreement: float | None) -> None:
        """Adds one step's losses to the running sums of the epoch."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        if agreement is not None:
            self.sums["agreement"] = self.sums.get("agreement", 0.0) + agreement
        self.seen += 1
        self.step += 1

    def facts(self, step: int, steps: int) -> Step:
        """Where the training is, for whoever watches."""
        terms, agreement = self._means() if self.seen else self._last()
        spent = time.perf_counter() - self.resumed_at
        return Step(
            step=step + 1,
            steps=steps,
            epoch=len(self.history) + (1 if self.seen else 0),
            loss=self._loss(terms),
            terms=terms,
            agreement=agreement,
            best=self.best.get("student"),
            remaining=spent / (step + 1 - self.start) * (steps - step - 1),
        )

    def _last(self) -> tuple[dict[str, float], float | None]:
        return self.history[-1]["terms"], self.history[-1]["agreement"]

    def _means(self) -> tuple[dict[str, float], float | None]:
        means = {name: value / self.seen for name, value in self.sums.items()}
        agreement = means.pop("agreement", None)
        return means, agreement

    def _loss(self, terms: Mapping[str, float]) -> float:
        return sum(term.weight_at(self.step) * terms[term.name] for term in self.model.terms)

    # -- at the end of an epoch ---------------------------------------------------------------------------------

    def finish_epoch(self, step: int, per_epoch: int, validate: Score | None) -> None:
        """Scores every student, keeps the weights that were best, starts the next epoch's sums."""
        terms, agreement = self._means()
        if self.accelerator.num_processes > 1:
            names = sorted(terms)
            totals = self.accelerator.reduce(torch.tensor([terms[n] for n in names], dtype=torch.float64), "sum")
            terms = dict(zip(names, totals.tolist(), strict=True))
        scores: dict[str, float] = {}
        improved = validate is None
        for name, student in zip(self.model.names, self.model.students, strict=True):
            if validate is None:
                break
            student.eval()
            with torch.no_grad():
                scores[name] = float(validate(student))
            if name not in self.best or scores[name] > self.best[name]:
                self.best[name], self.best_weights[name] = scores[name], checkpoint.weights(student)
                improved = True
        self.stale = 0 if improved else self.stale + 1
        record = {"step": step + 1, "epoch": (step + 1) / per_epoch, "loss": self._loss(terms), "terms": terms}
        record |= {"agreement": agreement, "validation": scores.get("student"), "scores": scores}
        self.history.append(record)
        self.sums, self.seen = {}, 0

    def exhausted(self) -> bool:
        """Whether early stopping has seen enough."""
        return self.settings.patience is not None and self.stale > self.settings.patience

    # -- checkpoints --------------------------------------------------------------------------------------------

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough for a new one (all processes follow the first one's clock)."""
        if self.folder is None:
            return False
        due = time.perf_counter() - self.saved_at > self.settings.checkpoint_seconds
        if self.accelerator.num_processes > 1:
            due = bool(self.accelerator.gather(torch.tensor([due]))[0])
        return due

    def save(self, step: int) -> None:
        """Writes a sealed checkpoint of everything that decides the weights to come."""
        if self.folder is None:
            return
        states = self.accelerator.gather(torch.get_rng_state()[None])
        random = {f"cpu.{rank}": state for rank, state in enumerate(states)}
        if self.accelerator.device.type == "cuda":
            random |= {
                f"cuda.{rank}": state
                for rank, state in enumerate(self.accelerator.gather(_cuda_state(self.accelerator)))
            }
        now = time.perf_counter()
        facts = {
            "identity": self.identity,
            "step": step + 1,
            "history": self.history,
            "sums": self.sums,
            "seen": self.seen,
            "best": self.best,
            "stale": self.stale,
            "halvings": self.halvings,
            "seconds": self.seconds + now - self.resumed_at,
        }
        if self.accelerator.is_main_process:
            best = {f"{name}/{key}": v for name, state in self.best_weights.items() for key, v in state.items()}
            state = checkpoint.weights(self.model)
            optimiser = checkpoint.optimiser_tensors(self.optimiser)
            checkpoint.save(self.folder, checkpoint.Checkpoint(state, optimiser, best, random, facts))
        self.accelerator.wait_for_everyone()
        self.saved_at = now

    def resume(self) -> int:
        """The step to go on from: 0, or the one after the newest whole checkpoint."""
        if self.folder is None or not self.folder.is_dir():
            return 0
        found, skipped = checkpoint.load(self.folder, identity=self.identity)
        self.notes += skipped
        if found is None:
            return 0
        facts = found.facts
        self.model.load_state_dict(dict(found.model))
        checkpoint.restore_optimiser(self.optimiser, found.optimiser)
        for key, value in found.best.items():
            name, parameter = key.split("/", 1)
            self.best_weights.setdefault(name, {})[parameter] = value
        self.history, self.sums, self.seen = list(facts["history"]), dict(facts["sums"]), facts["seen"]
        self.best, self.stale, self.halvings = dict(facts["best"]), facts["stale"], facts["halvings"]
        self.seconds, self.step = facts["seconds"], facts["step"]
        torch.set_rng_state(found.random[f"cpu.{self.accelerator.process_index}"])
        if self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(found.random[f"cuda.{self.accelerator.process_index}"], self.accelerator.device)
        self.notes.append(f"resumed at step {self.step + 1}")
        self.start = self.step
        return self.step

    def result(self) -> Training:
        """Puts the best weights back and tells what happened."""
        for name, student in zip(self.model.names, self.model.students, strict=True):
            if name in self.best_weights:
                student.load_state_dict(self.best_weights[name])
            student.eval()
        return Training(
            students=dict(zip(self.model.names, self.model.students, strict=True)),
            history=tuple(self.history),
            best=dict(self.best),
            steps=self.step,
            seconds=self.seconds + time.perf_counter() - self.resumed_at,
            notes=tuple(self.notes),
        )


def _cuda_state(accelerator: Accelerator) -> Tensor:
    return torch.cuda.get_rng_state(accelerator.device).to(accelerator.device)[None]


def _identity(model: Distillation, settings: Settings, data: Feed, world: int) -> str:
    """Hash of everything that decides the weights: rows, shapes, objective, settings (less the checkpoint clock)."""
    dials = {key: value for key, value in asdict(settings).items() if key != "checkpoint_seconds"}
    shapes = [f"{name}{tuple(p.shape)}{p.requires_grad}" for name, p in model.named_parameters()]
    terms = [
        f"{t.name} {t.of} {t.against} {t.per} {t.weight if isinstance(t.weight, float | int) else ''}"
        for t in model.terms
    ]
    return content_hash(data.examples.fingerprint, repr(sorted(dials.items())), *shapes, *terms, str(world))
