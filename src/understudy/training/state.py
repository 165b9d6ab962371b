"""What a training remembers between steps, and how that survives a power cut."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from understudy.errors import NonFiniteError
from understudy.training import checkpoint
from understudy.training.distillation import Distillation
from understudy.training.progress import Step, Training
from understudy.training.settings import Settings

Score = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Lower:
    """A score of which the least is the best: a loss."""

    score: Score

    def __call__(self, module: nn.Module) -> float:
        return self.score(module)


Scores = Score | Mapping[str, Score]


class State:
    """Running sums, early stopping and checkpoints of one training.

    Everything that decides where the loop goes next is the same on all processes: they would wait for each other.
    """

    def __init__(
        self,
        model: Distillation,
        optimiser: torch.optim.Optimizer,
        accelerator: Accelerator,
        settings: Settings,
        folder: Path | None,
        identity: str,
    ) -> None:
        self.model, self.optimiser, self.accelerator, self.settings = model, optimiser, accelerator, settings
        self.folder = folder
        self.identity = identity
        self.notes: list[str] = []
        if model.idle:
            names = [model.title(name) for name in model.idle]
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            self.notes.append(f"frozen, as no term reaches them: {', '.join(names[:4])}{more}")
        self.history: list[dict[str, Any]] = []
        self.sums: dict[str, float] = {}
        self.seen = 0
        self.best: dict[str, float] = {}
        self.best_weights: dict[str, dict[str, Tensor]] = {}
        self.stale: dict[str, int] = {}
        self.halvings = 0
        self.step = 0
        self.start = 0
        self.seconds = self.preparing = 0.0
        self.resumed_at = self.saved_at = time.perf_counter()

    # -- what happens in a step ---------------------------------------------------------------------------------

    def micro(self, rows: int) -> int:
        """Rows of one micro-batch on this process, for a step of ``rows``."""
        each = -(-rows // self.accelerator.num_processes)
        return max(1, -(-each // (self.settings.accumulation * 2**self.halvings)))

    def halve(self, error: RuntimeError) -> None:
        """Halves the micro-batch when memory ran out; anything else, and a batch that cannot be halved, is raised.

        Several processes cannot agree in the middle of a step, so there it is raised too: set accumulation instead.
        """
        out_of_memory = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        smallest = self.micro(self.settings.batch_size) == 1
        if not out_of_memory or smallest or self.accelerator.num_processes > 1:
            raise error
        self.halvings += 1
        self.optimiser.zero_grad(set_to_none=True)
        self.model.forget()
        self.notes.append(f"out of memory at step {self.step + 1}: micro-batches halved, effective batch kept")

    def log(self, said: Mapping[str, float]) -> None:
        """Adds one step's losses to the running sums of the epoch."""
        for name, value in said.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.seen += 1
        self.step += 1

    def facts(self, steps: int) -> Step:
        """Where the training is after a step, for whoever watches."""
        means = self._means() if self.seen else self.history[-1]
        spent = time.perf_counter() - self.resumed_at
        return Step(
            step=self.step,
            steps=steps,
            epoch=len(self.history) + (1 if self.seen else 0),
            loss=means["loss"],
            terms=means["terms"],
            agreement=means["agreement"],
            best=self.best.get("student"),
            remaining=spent / (self.step - self.start) * (steps - self.step),
            validation=None if self.seen else means["validation"],
        )

    def _means(self) -> dict[str, Any]:
        means = {name: value / self.seen for name, value in self.sums.items()}
        terms = {term.name: means[term.name] for term in self.model.terms}
        return {"loss": means["loss"], "terms": terms, "agreement": means.get("agreement")}

    # -- at the end of an epoch ---------------------------------------------------------------------------------

    def finish_epoch(self, per_epoch: int, validate: Scores | None) -> None:
        """Scores every student that still learns, keeps the weights that were best, starts the next epoch's sums."""
        given = self.model.given
        before = self.stopped()
        score_of = validate if isinstance(validate, Mapping) else dict.fromkeys(given, validate)
        scores = {
            name: self._score(name, score)
            for name, score in score_of.items()
            if score is not None and name not in before
        }
        for name, score in scores.items():
            sign = -1 if isinstance(score_of[name], Lower) else 1
            if name not in self.best or sign * score > sign * self.best[name]:
                self.best[name], self.best_weights[name] = score, checkpoint.weights(given[name])
                self.stale[name] = 0
            else:
                self.stale[name] += 1
        epochs = round(self.step / per_epoch, 2)
        stopped = [name for name in self.stopped() if name not in before and len(given) > 1]
        self.notes += [f"{name} stopped learning after {epochs:g} epochs, the others went on" for name in stopped]
        weights = {term.name: term.weight_at(self.step - 1) for term in self.model.terms}
        record = {"step": self.step, "epoch": self.step / per_epoch, **self._means(), "weights": weights}
        self.history.append(record | {"validation": scores.get("student"), "scores": scores})
        self.sums, self.seen = {}, 0

    def _score(self, name: str, validate: Score) -> float:
        """The first process's score: the others' may differ in its last digit, and decide otherwise."""
        module = self.model.given[name].eval()
        with torch.no_grad():
            score = torch.tensor(float(validate(module)), dtype=torch.float64)
        if self.accelerator.num_processes > 1:
            score = broadcast(score.to(self.accelerator.device))
        if not math.isfinite(score):
            raise NonFiniteError(
                f"validation gave {float(score)} for {name} after step {self.step}, so that no epoch can be the best: "
                "the score must be a number"
            )
        return float(score)

    def stopped(self) -> list[str]:
        """Students that early stopping has seen enough of: they still teach their peers, and learn no more."""
        patience = self.settings.patience
        return [name for name, epochs in self.stale.items() if patience is not None and epochs >= patience]

    def exhausted(self) -> bool:
        """Whether every student has stopped."""
        return len(self.stopped()) == len(self.model.names)

    def wake(self, wrapped: nn.Module) -> None:
        """Training mode for those who learn; one that has stopped stays as it is, batch statistics included."""
        wrapped.train()
        for name in self.stopped():
            self.model.students[self.model.names.index(name)].eval()

    # -- checkpoints --------------------------------------------------------------------------------------------

    def agree(self, stopping: bool) -> tuple[bool, bool]:
        """Whether to stop, as any process may be told to, and whether a checkpoint is due by the first one's clock."""
        due = self.folder is not None and time.perf_counter() - self.saved_at > self.settings.checkpoint_seconds
        if self.accelerator.num_processes > 1:
            asked = torch.tensor([[stopping, due]], dtype=torch.int32, device=self.accelerator.device)
            asked = self.accelerator.gather(asked)
            stopping, due = bool(asked[:, 0].any()), bool(asked[0, 1])
        return stopping, due

    def save(self) -> None:
        """Writes a sealed checkpoint of everything that decides the weights to come."""
        if self.folder is None:
            return
        device = self.accelerator.device
        states = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(device)
        random = {
            f"{kind}.{rank}": everyone
            for kind, mine in states.items()
            for rank, everyone in enumerate(self.accelerator.gather(mine.to(device)[None]))
        }
        if self.accelerator.is_main_process:
            facts = {
                "identity": self.identity,
                "step": self.step,
                "history": self.history,
                "sums": self.sums,
                "seen": self.seen,
                "best": self.best,
                "stale": self.stale,
                "halvings": self.halvings,
                "notes": self.notes,
                "seconds": self._spent(),
                "preparing": self.preparing,
            }
            best = {f"{name}/{key}": v for name, state in self.best_weights.items() for key, v in state.items()}
            state = checkpoint.weights(self.model)
            optimiser = checkpoint.optimiser_tensors(self.optimiser)
            checkpoint.save(self.folder, checkpoint.Checkpoint(state, optimiser, best, random, facts))
        self.accelerator.wait_for_everyone()
        self.saved_at = time.perf_counter()

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
        self.best, self.stale, self.halvings = dict(facts["best"]), dict(facts["stale"]), facts["halvings"]
        self.seconds, self.preparing, self.step = facts["seconds"], facts.get("preparing", 0.0), facts["step"]
        device, rank = self.accelerator.device, self.accelerator.process_index
        torch.set_rng_state(found.random[f"cpu.{rank}"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(found.random[f"cuda.{rank}"], device)
        self.notes = [*dict.fromkeys([*facts["notes"], *self.notes]), f"resumed after step {self.step}"]
        self.start = self.step
        return self.step

    def result(self) -> Training:
        """Puts the best weights back and tells what happened."""
        given = self.model.given
        for name, module in given.items():
            if name in self.best_weights:
                module.load_state_dict(self.best_weights[name])
            module.eval()
        self.model.thaw()
        return Training(
            students=dict(given),
            history=tuple(self.history),
            best=dict(self.best),
            steps=self.step,
            seconds=self._spent(),
            preparing=self.preparing,
            notes=tuple(self.notes),
        )

    def _spent(self) -> float:
        return self.seconds + time.perf_counter() - self.resumed_at
