"""What a run works on: its recipe, its rows, its task and its folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from understudy.answers import LABELS, VECTOR, sigmoid
from understudy.baselines import Baseline
from understudy.data import Examples, Splits
from understudy.encoding import Encoder
from understudy.errors import NonFiniteError, TeacherError
from understudy.pipeline.journal import Journal
from understudy.pipeline.recipe import Recipe
from understudy.statistics import METRICS, best_thresholds
from understudy.tasks import Task
from understudy.teachers import score_rows
from understudy.teachers.label import Logits
from understudy.training import Lower

Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Material:
    """Everything that the stages of one run share.

    Attributes:
        recipe: resolved as far as the stages so far could.
        task: how success is measured.
        splits: the rows.
        folder: the run's.
        store: beside the runs: teachers and targets.
        journal: what is done already.
        views: changed copies of the rows, without a label.
    """

    recipe: Recipe
    task: Task
    splits: Splits
    folder: Path
    store: Path
    journal: Journal
    views: Examples | None = None

    def with_recipe(self, recipe: Recipe) -> Material:
        """The same material with more of its recipe decided."""
        return replace(self, recipe=recipe)

    @property
    def learnable(self) -> Examples:
        """All real rows that a student may learn from: training rows, then unlabelled ones. A twin has the first."""
        more = self.splits.unlabelled
        return self.splits.train if more is None else Examples.join([self.splits.train, more])

    @property
    def shown(self) -> Examples:
        """What the student is shown: the real rows, then views of them."""
        return self.learnable if self.views is None else Examples.join([self.learnable, self.views])

    @property
    def outputs(self) -> int:
        """How many numbers a student gives for a row: one a label, or the width of its vectors, once it is decided."""
        student = self.recipe.student
        if self.task.answer is VECTOR:
            return student.embedding or student.dimensions or 1
        return len(self.splits.label_names)

    @property
    def shares(self) -> list[float]:
        """[K] of the training rows in which each of several labels holds; half a row of each more: never 0, never 1."""
        rows = self.splits.train.labels
        shares: list[float] = ((rows.sum(0) + 0.5) / (len(rows) + 1)).tolist()
        return shares

    def measured(self, rows: Examples, logits: Logits) -> float:
        """The primary metric of logits [N, K], or of words, on labelled rows; several labels at thresholds that fit."""
        metric, answer = METRICS[str(self.recipe.evaluation.metric)], self.task.answer
        thresholds = best_thresholds(sigmoid(logits), rows.labels) if answer is LABELS else None
        return float(metric.function(rows.labels, answer.predicted(logits, thresholds)))

    def baselines(self, encoder: Encoder) -> Iterator[Baseline]:
        """The plain models of the task, each fitted when it is asked for; ``encoder`` says what is asked of a text."""
        more = (encoder,) if self.task.answer.reduced else ()
        return (make(self.splits, *more) for make in self.task.baselines)

    def best(self, scores: Iterable[float]) -> float:
        """The best of some values of the primary metric."""
        return (min if METRICS[str(self.recipe.evaluation.metric)].direction == "lower" else max)(scores)

    def validator(self, encoder: Encoder) -> Callable[[nn.Module], float]:
        """module -> the primary metric on validation."""
        rows = self.splits.validation
        lower = METRICS[str(self.recipe.evaluation.metric)].direction == "lower"

        def score(module: nn.Module) -> float:
            inner: Any = getattr(module, "module", module)
            try:
                logits = score_rows(inner, encoder, rows.inputs, batch_size=256)
            except TeacherError as error:  # whoever is scored here is a learner
                raise NonFiniteError(
                    f"on validation {error}: the weights ran away; lower the learning rate or use precision fp32"
                ) from None
            return self.measured(rows, logits)

        return Lower(score) if lower else score


@dataclass(frozen=True)
class Apprentice:
    """A kind of student before it is trained: what it reads, how one is made, how its numbers become INT8.

    Attributes:
        encoder: raw rows -> its inputs; the artefact ships it.
        build: a fresh one; torch's global generator decides what is drawn.
        exporting: ``static`` (table and head in numpy), ``dynamic`` (ONNX, INT8 weights) or ``calibrated`` (ONNX, INT8
            weights and activations).
        notes: decisions worth showing.
        identity: hash of a module that a user wrote, for which the recipe has no words; empty for our families.
        origin: hash of what it is cut from, where that is not its teacher.
        inheritance: what it has from its teacher, for run.json; None where that is nothing, or not known.
        alone: a fresh one for the twin, where that is trained with other dropout; None: as ``build``.
        tokenizer: of transformers, to be saved beside weights that any program is to open; None: they are ours alone.
    """

    encoder: Encoder
    build: Build
    exporting: str
    notes: tuple[str, ...] = ()
    identity: str = ""
    origin: str = ""
    inheritance: Mapping[str, Any] | None = None
    alone: Build | None = None
    tokenizer: Any = None
