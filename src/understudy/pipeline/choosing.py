"""``student: auto``: the most capable candidate that keeps within export.max_mb and export.max_ms, and why.

Bytes and milliseconds do not depend on what the weights say. So each candidate is built untrained, of a teacher that
need not be trained either, exported as the trained one will be, and measured: nothing dear is spent on a student that
would fail its gates. A climb of the ladder, should INT8 lose too much, makes the artefact larger than it was here.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy import students
from understudy.data import Splits
from understudy.errors import GateError, RecipeError, UsageError
from understudy.pipeline.apprentice import apprentice
from understudy.pipeline.before import refuse
from understudy.pipeline.defaults import AUTO, resolved
from understudy.pipeline.forms import exact_model, size, small_model, write
from understudy.pipeline.gates import p95
from understudy.pipeline.journal import Facts, facts_of, interrupted
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.members import parent_of
from understudy.pipeline.opening import CHOOSE
from understudy.pipeline.recipe import Recipe, with_values
from understudy.pipeline.school import rehearse
from understudy.pipeline.teach import untaught
from understudy.tasks import Task
from understudy.teachers import Loaded

Keys = dict[str, Any]

CANDIDATES: dict[str, dict[str, Keys]] = {
    "texts": {
        "cut to half of the layers": {"student.family": "cut"},
        "cut to half of the layers and 8,000 sub-words": {"student.family": "cut", "student.vocabulary": 8000},
        "gru": {"student.family": "gru"},
        "conv": {"student.family": "conv"},
        "static": {"student.family": "static"},
        "static of 64 dimensions in 4 bits": {
            "student.family": "static",
            "student.dimensions": 64,
            "student.hidden": 64,
            "export.bits": 4,
        },
        "ngram of 16,384 entries in 4 bits": {
            "student.family": "ngram",
            "student.dimensions": 32,
            "student.buckets": 16_384,
            "export.bits": 4,
        },
        "ngram of 4,096 entries in 4 bits": {
            "student.family": "ngram",
            "student.dimensions": 32,
            "student.buckets": 4096,
            "export.bits": 4,
        },
    },
    "tables": {
        "mlp of width 64": {"student.family": "mlp", "student.width": 64},
        "mlp of width 16": {"student.family": "mlp", "student.width": 16},
    },
    "images": {
        "cnn of width 32": {"student.family": "cnn", "student.width": 32},
        "cnn of width 16": {"student.family": "cnn", "student.width": 16},
        "cnn of width 8": {"student.family": "cnn", "student.width": 8},
        "depthwise cnn of width 8": {"student.family": "cnn", "student.width": 8, "student.blocks": "depthwise"},
        "mlp of width 64": {"student.family": "mlp", "student.width": 64},
    },
}
"""By what rows are, from the most capable to the smallest: what is shown -> keys of the recipe."""
PASSES = 3  # over the rows that are timed; noise only ever slows one down, so the quickest counts


@dataclass(frozen=True)
class Limit:
    """What a gate of the recipe allows.

    Attributes:
        figure: of a candidate.
        unit: of the gate.
        scale: how many of the figure's make one of the gate's.
        spare: the share that stays free; a p95 is noisy.
        most: in the gate's unit; None: whatever it is.
    """

    figure: str
    unit: str
    scale: float
    spare: float
    most: float | None

    def holds(self, one: Facts) -> bool:
        """Whether a measured candidate keeps within it."""
        return self.most is None or bool(one[self.figure] / self.scale <= self.most * (1 - self.spare))

    def __str__(self) -> str:
        return f"{self.most:g} {self.unit} ({100 * self.spare:.0f} % to spare)"


def find_student(material: Material, teacher: Loaded | None, *, source: Sequence[str]) -> tuple[Recipe, Facts]:
    """The recipe with the student that was chosen, and how: the stage ``choose``, done once.

    Neither limits nor clocks are among its inputs: once a run has got to its teacher it keeps its student, on a slower
    machine and with other gates too.

    Args:
        material: its recipe is settled as far as it can be.
        teacher: that was given; None: the recipe's, as it is before it is trained.
        source: fingerprints of the rows.

    Returns:
        The recipe as it is, and nothing, where it names a family.
    """
    recipe, journal = material.recipe, material.journal
    if recipe.student.family != AUTO:
        return recipe, {}
    choice = journal.stage(CHOOSE, source, lambda: choose(material, teacher or untaught(material)[0]))
    journal.progress.say(choice["why"])
    return with_choice(recipe, choice["chosen"], material.task, material.splits), choice


def choose(material: Material, teacher: Loaded) -> Facts:
    """The first candidate that can be made of the teacher and keeps within the limits, with something to spare.

    Args:
        material: its recipe is settled as far as it can be without a family.
        teacher: trained or not.

    Returns:
        ``name``, ``chosen`` (keys of the recipe), ``why`` (a sentence) and ``candidates``: of each up to the chosen one
        ``name``, ``bytes``, ``p95_ms`` (None where it was not measured), ``fits`` and ``skipped`` (why it cannot be
        made; empty where it can).

    Raises:
        RecipeError: none fits, with what the smallest and the fastest reached; or none can be made at all.
    """
    journal, export = material.journal, material.recipe.export
    limits = [Limit("bytes", "MB", 1e6, 0.02, export.max_mb), Limit("p95_ms", "ms", 1.0, 0.25, export.max_ms)]
    limits = [limit for limit in limits if limit.most is not None]
    looked_at: list[Facts] = []
    for name, keys in candidates(material).items():
        if journal.interrupted:
            raise interrupted("stopped while choosing a student; the same command chooses anew", journal.interrupted)
        one: Facts = {"name": name, "bytes": None, "p95_ms": None, "fits": False, "skipped": ""}
        looked_at.append(one)
        try:
            mine = material.with_recipe(with_choice(material.recipe, keys, material.task, material.splits))
            kind = _made(mine, teacher)
            if limits:
                one |= _measured(mine, kind)
        except (UsageError, GateError) as error:
            one["skipped"] = " ".join(str(error).split())
            journal.progress.say(f"{name} cannot be made here: {one['skipped']}")
            continue
        over = " and ".join(str(limit) for limit in limits if not limit.holds(one))
        if not over:
            one["fits"] = True
            return {"name": name, "chosen": keys, "why": _why(looked_at, limits), "candidates": looked_at}
        journal.progress.say(f"{name}: {_figures(one)}: over {over}")
    raise RecipeError(_none(looked_at, limits))


def candidates(material: Material) -> dict[str, Keys]:
    """The candidates whose family can do the task."""
    kind = "images" if "image" in material.splits.fields else "tables" if material.task.tabular else "texts"
    known = material.task.families
    return {name: keys for name, keys in CANDIDATES[kind].items() if keys["student.family"] in known}


def with_choice(recipe: Recipe, keys: Mapping[str, Any], task: Task, splits: Splits) -> Recipe:
    """The recipe with a candidate's keys, and everything that was left to the family.

    Raises:
        RecipeError: keys that do not go with what the recipe says itself.
    """
    found = resolved(with_values(recipe, keys), task.name, metric=task.primary)
    refuse(found, splits)
    return found


def overruled(recipe: Recipe, task: Task, splits: Splits, folder: Path, said: Collection[str]) -> Facts:
    """What was chosen for a run, with the dials that a stage of it is done again with in the place of its own.

    Args:
        recipe: with these dials, settled as far as it can be without a family.
        task: of the run.
        splits: of the run.
        folder: of the run; nothing is written.
        said: the dials, as dotted keys.

    Returns:
        As `choose`; empty where no dial is said, or nothing was chosen.

    Raises:
        RecipeError: dials that do not go with what was chosen.
    """
    choice = dict(facts_of(folder, CHOOSE)) if said and recipe.student.family == AUTO else {}
    if not choice:
        return {}
    keys, why = dict(choice["chosen"]), str(choice["why"])
    for key in sorted(keys.keys() & set(said)):
        value = functools.reduce(getattr, key.split("."), recipe)
        if value != keys[key]:
            keys[key] = value
            why += f"; {key} was made {value} since"
    with_choice(recipe, keys, task, splits)
    return {**choice, "chosen": keys, "why": why}


def _made(material: Material, teacher: Loaded) -> Apprentice:
    """The kind of a candidate's student, with neither weights nor vectors of its teacher: they decide no figure.

    Raises:
        UsageError, RecipeError: what this teacher or this objective cannot give, or what is not smaller than it.
    """
    recipe = with_values(material.recipe, {"student.initialise": False})
    if recipe.teacher.members is not None:
        parent_of(material)
    if recipe.objective.terms:
        rehearse(material, teacher)
    kind = apprentice(material.with_recipe(recipe), teacher)
    theirs = students.parameters(teacher.model) if teacher.ask is None else 0
    # a lookup reads a few rows of its table for a text: how many there are says nothing
    mine = 0 if kind.exporting == "static" else students.parameters(kind.build())
    if mine >= theirs > 0:
        raise UsageError(f"{mine:,} parameters are no fewer than the teacher's {theirs:,}")
    return kind


def _measured(material: Material, kind: Apprentice) -> Facts:
    """``bytes`` and ``p95_ms`` of a candidate as it would ship, untrained."""
    student = kind.build().eval()
    passes = 1 if material.recipe.export.max_ms is None else PASSES
    with tempfile.TemporaryDirectory(prefix="understudy-") as place:
        exact = exact_model(material, kind, student, Path(place) / "fp32")
        draft = Path(place) / "draft"
        write(draft, material, kind, small_model(material, kind, student, exact, Path(place) / "small"))
        return {"bytes": size(draft), "p95_ms": min(p95(material, draft) for _ in range(passes))}


def _figures(one: Facts) -> str:
    return f"{one['bytes'] / 1e6:.3g} MB and p95 {one['p95_ms']:.3g} ms"


def _why(looked_at: list[Facts], limits: Sequence[Limit]) -> str:
    """Why the last of those that were looked at is chosen."""
    one, skipped = looked_at[-1], sum(bool(other["skipped"]) for other in looked_at)
    over = len(looked_at) - 1 - skipped
    if limits:
        why = f"measured before training {_figures(one)}, within {' and '.join(map(str, limits))}"
    else:
        why = "the most capable candidate, since neither --max-mb nor --max-ms is said"
    others = [f"{over} too large or slow"] * bool(over) + [f"{skipped} that cannot be made here"] * bool(skipped)
    before = f"; passed over: {' and '.join(others)}" if others else ""
    return f"student auto chose {one['name']}: {why}{before}"


def _none(looked_at: list[Facts], limits: Sequence[Limit]) -> str:
    """What is said where nothing fits."""
    measured = [one for one in looked_at if one["bytes"] is not None]
    if not measured:
        return f"student auto: no candidate can be made; {looked_at[0]['name']}: {looked_at[0]['skipped']}"
    found: dict[str, str] = {}
    for best, figure in (("smallest", "bytes"), ("fastest", "p95_ms")):
        one = min(measured, key=lambda one: one[figure])
        said = f"{one['name']} ({_figures(one)})"
        found[said] = f"{found[said]} and {best}" if said in found else best
    reached = ", ".join(f"the {best} is {said}" for said, best in found.items())
    return (
        f"student auto: no candidate keeps within {' and '.join(map(str, limits))}: {reached}; raise --max-mb or "
        "--max-ms, or name a --student and its sizes"
    )
