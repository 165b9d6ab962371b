"""Every training of a run: the steps before the last one, then student and twin of every seed."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import nn

from understudy import students
from understudy.data.feed import Feed
from understudy.errors import RecipeError
from understudy.files import new_folder
from understudy.pipeline.alignment import refuse_misaligned
from understudy.pipeline.apprentice import kind_of, kind_of_step, peers
from understudy.pipeline.journal import Facts
from understudy.pipeline.learn import Classroom, best_seed, learn, listens_outside, load_module, tune
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.objective import aligning, build
from understudy.pipeline.recipe import Recipe, Step, with_values
from understudy.pipeline.samples import live
from understudy.pipeline.steps import TEACHER, of_step, started_from
from understudy.pipeline.teach import FAMILIES, open_given, untrained
from understudy.pipeline.texts import texts_alone
from understudy.teachers import Loaded, given
from understudy.training import Distillation


class School:
    """The classrooms of a run. Each encodes every row and may read many targets: they open where something is trained.

    Args:
        material: of the run; its recipe may be decided further before anything is trained.
        teacher: of the run.
        kind: of the student.
        source: parts of a fingerprint that cover everything before the first training.
        given: the teacher came as an object, so that the recipe's path is only a label.
    """

    def __init__(
        self, material: Material, teacher: Loaded, kind: Apprentice, source: Sequence[str], *, given: bool = False
    ) -> None:
        self.material, self.teacher, self.kind, self.source = material, teacher, kind, list(source)
        self.given = given
        self._rooms: dict[str, Classroom] = {}

    def tuned(self) -> Facts:
        """The dials that short runs on validation decide, and what was tried."""
        before = self.material.recipe
        undecided = before.train.precision == "auto" or "auto" in (before.objective.temperature, before.objective.alpha)
        if not undecided:
            return {"decided": {}, "notes": [], "tried": []}
        after, facts = tune(Classroom(self.material, self.teacher, self.kind))
        decided = {
            "train.precision": after.train.precision,
            "objective.temperature": after.objective.temperature,
            "objective.alpha": after.objective.alpha,
        }
        return {"decided": decided, **facts}

    def train_all(self, roles: Sequence[str] = ("student", "twin")) -> dict[str, Facts]:
        """Every step that leads to the student, then student and twin of every seed: ``role.seed`` -> facts.

        Args:
            roles: the twin needs no steps, so that it can be had alone.
        """
        recipe, journal = self.material.recipe, self.material.journal
        learnt: dict[str, Facts] = {}
        inputs = list(self.source)
        for step in recipe.steps:
            inner = of_step(recipe, step, self.teacher)
            inputs = [*inputs, step.name, *dials(inner)]
            for seed in self._seeds_of(step) if "student" in roles else ():
                where = self.step_folder(step.name, seed)
                learning = partial(self._learn_step, step, inner, seed)
                learnt[f"step.{step.name}.{seed}"] = journal.stage(
                    f"step-{step.name}-{seed}", [*inputs, str(seed)], learning, outputs=[where]
                )
        for seed in seeds(recipe):
            for role in roles:
                where = place(self.material, role, seed)
                learning = partial(self._learn, role, seed, where)
                if role == "twin" and "student" in roles and texts_alone(recipe):
                    learning = partial(
                        self._same, learnt[f"student.{seed}"], place(self.material, "student", seed), where
                    )
                learnt[f"{role}.{seed}"] = journal.stage(
                    f"train-{role}-{seed}", [*inputs, *dials(recipe), role, str(seed)], learning, outputs=[where]
                )
        return learnt

    def choose(self, learnt: dict[str, Facts]) -> tuple[int, int]:
        """The seeds whose student and twin were best on validation; their models become RUN/student and RUN/twin."""
        recipe = self.material.recipe
        best = {
            role: best_seed(self.material, {s: learnt[f"{role}.{s}"] for s in seeds(recipe)})
            for role in ("student", "twin")
        }
        for role, seed in best.items():
            if recipe.seeds > 1:
                shutil.copytree(place(self.material, role, seed), self.material.folder / role, dirs_exist_ok=True)
        return best["student"], best["twin"]

    def again(self, material: Material, kind: Apprentice) -> Classroom:
        """A classroom with the student's own teacher and rows, for a training after the last one."""
        return Classroom(material, self.teacher, kind, source=self._speaker(self.material.recipe.learns_from))

    def step_folder(self, name: str, seed: int) -> Path:
        """Where the model of a step lies: RUN/steps/NAME, or RUN/steps/NAME/SEED where several seeds go through it."""
        folder = self.material.folder / "steps" / name
        step = next(one for one in self.material.recipe.steps if one.name == name)
        return folder if len(self._seeds_of(step)) == 1 else folder / str(seed)

    def _seeds_of(self, step: Step) -> Sequence[int]:
        """All seeds of what the student itself goes through; an assistant is trained once, as a teacher is."""
        recipe = self.material.recipe
        return seeds(recipe) if step in started_from(recipe) else [recipe.seed]

    def _learn(self, role: str, seed: int, folder: Path) -> Facts:
        recipe = self.material.recipe
        if "" not in self._rooms:
            beside = peers(self.material, self.teacher, untaught=self._untaught, own=self.kind)
            self._rooms[""] = Classroom(
                self.material, self.teacher, self.kind, beside, source=self._speaker(recipe.learns_from)
            )
        start = None if recipe.student.start is None else self.step_folder(recipe.student.start, seed)
        return learn(self._rooms[""], recipe, role=role, seed=seed, folder=folder, start=start)

    def _same(self, facts: Facts, source: Path, folder: Path) -> Facts:
        """What the student's own training would give again."""
        with new_folder(folder) as draft:
            shutil.copytree(source, draft, dirs_exist_ok=True)
        return {**facts, "seconds": 0.0}

    def _learn_step(self, step: Step, recipe: Recipe, seed: int) -> Facts:
        material = self.material.with_recipe(recipe)
        if step.name not in self._rooms:
            kind = kind_of_step(material, self.teacher, step, self.kind)
            self._rooms[step.name] = Classroom(material, self.teacher, kind, source=self._speaker(step.learns_from))
        start = None if recipe.student.start is None else self.step_folder(recipe.student.start, seed)
        folder = self.step_folder(step.name, seed)
        name = f"step-{step.name}"
        return learn(self._rooms[step.name], recipe, role="student", seed=seed, folder=folder, start=start, name=name)

    def _speaker(self, name: str) -> Loaded | None:
        """The model of an earlier step as a teacher; None for the run's own."""
        if name == TEACHER:
            return None
        recipe = self.material.recipe
        step = next(one for one in recipe.steps if one.name == name)
        inner = self.material.with_recipe(of_step(recipe, step, self.teacher))
        kind = kind_of_step(inner, self.teacher, step, self.kind)
        return given(load_module(self.step_folder(name, recipe.seed), kind), kind.encoder)

    def _untaught(self) -> nn.Module:
        """A fresh teacher, as it is before the run trains it; a teacher that came trained goes on from there."""
        recipe = self.material.recipe.teacher
        if recipe.members is not None:
            raise RecipeError("peers: family teacher wants one teacher, and teacher.members names several")
        if not self.given and recipe.path in FAMILIES:
            return untrained(self.material).model
        if not self.given and recipe.path is not None:
            fresh = open_given(self.material)
            if fresh.fresh_head:
                return fresh.model
        return in_data_order(self.teacher, self.material.splits.label_names)


def rehearse(material: Material, teacher: Loaded, own: Apprentice | None = None) -> None:
    """Builds every student and term of the run once, without a forward: what cannot be is refused before any training.

    Raises:
        RecipeError, UsageError: what the trainings themselves would raise after hours.
    """
    outside = live(material, teacher) if teacher.ask is None else None
    for step in (*material.recipe.steps, None):
        recipe = material.recipe if step is None else of_step(material.recipe, step, teacher)
        # weights and vectors do not matter here, and a static student's cost a forward for every word
        bare = material.with_recipe(with_values(recipe, {"student.initialise": False}))
        kind = kind_of(bare, teacher, own) if step is None else kind_of_step(bare, teacher, step, own)
        beside = peers(bare, teacher, untaught=lambda: copy.deepcopy(teacher.parent.model), own=own)
        cohort = {"student": kind.build()} | {f"peer.{i}": peer.build() for i, peer in enumerate(beside, 1)}
        terms = build(recipe, cohort, teacher.parent.model)
        source = outside if any(listens_outside(term, cohort) for term in terms) else None
        asked = [term for term in terms if source is not None or not listens_outside(term, cohort)]
        Distillation({name: students.Student(module) for name, module in cohort.items()}, asked).bind(source)
        if aligning(recipe) and kind.encoder.fingerprint != teacher.encoder.fingerprint:
            encoders = {"student": kind.encoder, "teacher": teacher.encoder}
            refuse_misaligned(recipe, Feed(material.learnable, encoders))


def in_data_order(teacher: Loaded, names: Sequence[str]) -> nn.Module:
    """A copy of a teacher whose columns are the data's labels in their order: as a peer it is read without its map."""
    model = copy.deepcopy(teacher.model)
    if teacher.label_order is not None:
        students.reorder_labels(model, teacher.label_order, tuple(names))
    return model


def place(material: Material, role: str, seed: int) -> Path:
    """Where the model of one role and seed lies: RUN/student, or RUN/seeds/N/student where there are several."""
    return material.folder / role if material.recipe.seeds == 1 else material.folder / "seeds" / str(seed) / role


def seeds(recipe: Recipe) -> Sequence[int]:
    """Of student and twin."""
    return range(recipe.seed, recipe.seed + recipe.seeds)


def dials(recipe: Recipe) -> list[str]:
    """Everything in a recipe that decides the weights of its last training, less the clock of its checkpoints."""
    sections = (recipe.student, recipe.objective, recipe.train)
    words = [section.model_dump_json(exclude={"checkpoint_seconds", "track"}) for section in sections]
    return [*words, recipe.teacher.targets, recipe.learns_from, repr(recipe.peers), recipe.ships]
