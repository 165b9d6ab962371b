"""From a recipe to a kind of student: what it reads, and how one is made from the teacher."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from understudy import students
from understudy.answers import LABELS
from understudy.encoding import Encoder
from understudy.errors import RecipeError
from understudy.files import content_hash
from understudy.pipeline.defaults import FAMILIES, SIZES
from understudy.pipeline.kinds import KINDS
from understudy.pipeline.material import Apprentice, Build, Material
from understudy.pipeline.recipe import Recipe, Step, with_values
from understudy.teachers import Loaded, weights_hash


def apprentice(material: Material, teacher: Loaded) -> Apprentice:
    """The kind of student that the recipe names, with the exits that it asks for; a fresh head of several labels begins
    at their shares, as a teacher's does."""
    family = material.recipe.student.family
    kind = KINDS[family](material, teacher)
    if material.task.answer is LABELS and family != "cut":  # whose head was trained
        kind = replace(kind, build=partial(_at_shares, kind.build, material.shares))
    exits = material.recipe.student.exits
    if exits is None:
        return kind
    after = "every layer" if exits == "all" else f"layers {', '.join(map(str, exits))}"
    note = f"it may answer after {after}, and goes on where it is unsure"
    return replace(kind, build=partial(_with_exits, kind.build, exits), notes=(*kind.notes, note))


def kind_of(material: Material, teacher: Loaded, own: Apprentice | None = None) -> Apprentice:
    """The kind that a step's or a peer's recipe names; a user's own module where the student is one."""
    return own if own is not None and own.identity else apprentice(material, teacher)


def kind_of_step(material: Material, teacher: Loaded, step: Step, own: Apprentice | None = None) -> Apprentice:
    """The kind of a step's student.

    Raises:
        RecipeError: a step that changes a student whose shape only its author knows.
    """
    differs = {key: value for key, value in step.student.items() if key != "start"}
    _refuse_own(own, differs | ({"size": step.size} if step.size != "same" else {}), f"steps, {step.name}")
    return kind_of(material, teacher, own)


def peers(material: Material, teacher: Loaded, *, untaught: Build, own: Apprentice | None = None) -> list[Apprentice]:
    """The kinds of the students that learn beside the student.

    Args:
        material: with the recipe whose ``peers`` say what differs.
        teacher: of the run.
        untaught: a fresh teacher, as it was before it was trained: what ``family: teacher`` is.
        own: the student's kind, where it is a user's own module.
    """
    found = []
    for differs in material.recipe.peers:
        if differs.get("family") == "teacher":
            found.append(Apprentice(teacher.encoder, untaught, "dynamic", ("learns along: the teacher's own kind",)))
            continue
        recipe = with_values(material.recipe, _of_peer(material.recipe, differs))
        _refuse_own(own, differs, "peers")
        found.append(kind_of(material.with_recipe(recipe), teacher, own))
    return found


def _of_peer(recipe: Recipe, differs: Mapping[str, Any]) -> dict[str, Any]:
    """What a peer says of its student; the sizes of another family are that family's own where they are not said."""
    family = differs.get("family", recipe.student.family)
    usual = FAMILIES.get(str(recipe.task), {}).get(family, {})
    other = {f"student.{key}": usual.get(key) for key in SIZES} if family != recipe.student.family else {}
    return other | {f"student.{key}": value for key, value in differs.items()}


def _refuse_own(own: Apprentice | None, differs: Mapping[str, Any], key: str) -> None:
    if own is not None and own.identity and differs:
        raise RecipeError(
            f"{key}: {', '.join(differs)} of a student of your own cannot be changed: the recipe has no words for its "
            "shape; leave it out, and every training starts from a copy of your module"
        )


def _at_shares(build: Build, shares: list[float]) -> nn.Module:
    module = build()
    students.begin_at_shares(module, shares)
    return module


def _with_exits(build: Build, exits: Any) -> nn.Module:
    return students.with_exits(build(), exits)


def own_module(module: nn.Module, encoder: Encoder) -> Apprentice:
    """A student that the user wrote: every training starts from a copy of it as it was given."""
    identity = content_hash(weights_hash(module), encoder.fingerprint)
    return Apprentice(encoder, partial(copy.deepcopy, module), "dynamic", identity=identity)
