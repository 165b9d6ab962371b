"""Ways to make the small model, the cheapest first: the pipeline climbs while INT8 loses more than it may.

as it is        weights per channel, tables per row; nothing is trained, nothing stays in fp32
other ranges    of calibrated activations: without their most extreme 0.001 %
sensitive nodes those whose rounding moves the logits most stay in fp32: measured, and only as many as it takes
training        with rounding inside it and the teacher as the target (`students.fake_quantised`)
8 bits          of a table that was to ship in 4
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import nn

from understudy import export, students
from understudy.pipeline.forms import Model, batches, calibration, exact_model, exporting, quantiser, small_model
from understudy.pipeline.journal import Facts
from understudy.pipeline.learn import Classroom
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.recipe import Recipe, with_values

SENSITIVITY_ROWS = 256  # validation rows on which a node's rounding is measured
MOST_KEPT = 0.5  # share of the groups that may stay in fp32
EPOCHS = 0.25  # share of the student's epochs that the training with rounding gets
LEARNING_RATE = 0.1  # share of its learning rate

Room = Callable[[Material, Apprentice], Classroom]


@dataclass(frozen=True)
class Rung:
    """One way to make the small model.

    Attributes:
        name: as the report shows it.
        model: what ships.
        exact: the same module in fp32.
        module: that both are of: the student, or what training with rounding made of it.
        facts: more about it, for run.json.
    """

    name: str
    model: Model
    exact: Model
    module: nn.Module
    facts: Facts = field(default_factory=dict)


def rungs(
    material: Material, kind: Apprentice, student: nn.Module, place: Path, *, room: Room | None = None
) -> Iterator[Rung]:
    """The rungs, each made when it is asked for.

    Args:
        student: trained.
        place: a folder for drafts.
        room: (material, kind) -> where a student of that kind is taught; None: nothing is trained.
    """
    exact = exact_model(material, kind, student, place / "fp32")
    small = small_model(material, kind, student, exact, place / "small")
    yield Rung(f"int{material.recipe.export.bits}", small, exact, student)
    if material.recipe.export.ladder == "off" or isinstance(student, students.Exits):
        return
    if kind.exporting == "calibrated":
        narrow = small_model(material, kind, student, exact, place / "percentile", ranges="percentile")
        yield Rung("int8, ranges without outliers", narrow, exact, student)
    if isinstance(exact, Path):
        yield from _kept(material, kind, student, exact, place)
    if room is not None and _trainable(kind, student):
        yield _trained(material, kind, student, place, room)
    if kind.exporting == "static" and material.recipe.export.bits < 8:
        yield Rung("int8", small_model(material, kind, student, exact, place / "eight", bits=8), exact, student)


def _trainable(kind: Apprentice, student: nn.Module) -> bool:
    """A head that ships inside the table cannot be rounded in the module."""
    return kind.exporting != "static" or "output.weight" in export.static_tensors(student, bits=32)


def _kept(material: Material, kind: Apprentice, student: nn.Module, exact: Path, place: Path) -> Iterator[Rung]:
    """1, 2, 4, ... of the groups that matter most stay in fp32."""
    say, quantise = material.journal.progress.say, quantiser(material, kind)
    rows = material.splits.validation
    some = batches(kind, rows.take(range(min(len(rows), SENSITIVITY_ROWS))))
    seen, kinds = exact, ["MatMul", "Gemm"]
    if kind.exporting == "calibrated":
        seen, kinds = place / "folded.onnx", ["Conv", "MatMul", "Gemm"]
        export.fold(exact, seen)
    say("INT8 loses too much: looking for the nodes that it hurts most")
    groups = export.sensitivities(seen, lambda path, keep: quantise(seen, path, keep=keep), some, kinds=kinds)
    count = 1
    while count <= MOST_KEPT * len(groups):
        kept = groups[:count]
        names = [name for group in kept for name in group.nodes]
        small = small_model(material, kind, student, exact, place / f"kept-{count}", keep=names)
        said = [group.name for group in kept]
        yield Rung(f"int8, {count} of {len(groups)} parts in fp32", small, exact, student, {"kept": said})
        count *= 2


def _trained(material: Material, kind: Apprentice, student: nn.Module, place: Path, room: Room) -> Rung:
    """The student, trained a little longer by its teacher while everything is rounded."""
    recipe = _short(material.recipe)
    scheme = exporting(kind, student)
    rows = calibration(material, kind) if scheme == "calibrated" else []

    stored = partial(export.static_values, bits=recipe.export.bits) if scheme == "static" else None

    def build() -> nn.Module:
        return students.fake_quantised(copy.deepcopy(student), scheme, rows=rows, stored=stored)

    material.journal.progress.say("INT8 still loses too much: training goes on with rounding inside it")
    taught = room(material.with_recipe(recipe), replace(kind, build=build)).teach(
        recipe, role="student", seed=recipe.seed
    )
    done = taught.training
    learner = done.students["student"]
    inner = learner.module if isinstance(learner, students.Student) else learner
    module = students.plain(inner).eval()
    facts = {"epochs": recipe.train.epochs, "steps": done.steps, "seconds": done.seconds, "best": done.best["student"]}
    exact = exact_model(material, kind, module, place / "trained-fp32")
    small = small_model(material, kind, module, exact, place / "trained")
    bits = material.recipe.export.bits
    return Rung(f"int{bits}, trained with rounding", small, exact, module, {"trained": facts})


def _short(recipe: Recipe) -> Recipe:
    """A short schedule with a small learning rate; a student that had peers goes on without them, one that had adapters
    with all of its weights, and none writes.

    In fp32, since what is rounded are fp32 numbers in the export.
    """
    changed = {
        "train.epochs": max(1, round(EPOCHS * (recipe.train.epochs or 1))),
        "train.learning_rate": LEARNING_RATE * (recipe.train.learning_rate or 1e-3),
        "train.precision": "fp32",
        "train.track": None,
        "steps": (),
        "student.start": None,
        "student.lora": None,
        "peers": (),
        "ships": "student",
        "objective.on_policy_share": 0.0,
    }
    if recipe.peers:
        changed["objective.terms"] = None
    return with_values(recipe, changed)
