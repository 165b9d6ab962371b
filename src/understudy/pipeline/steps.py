"""Recipes of several steps: assistants, generations and two-stage trainings, each an ordinary training."""

from __future__ import annotations

import math
from typing import Any

from understudy import students
from understudy.errors import RecipeError, choices
from understudy.pipeline.cuts import depth_of_cut
from understudy.pipeline.defaults import FAMILIES, SIZES
from understudy.pipeline.objective import reads_only_logits
from understudy.pipeline.recipe import Recipe, Step, with_values
from understudy.students.cutting.projections import feed_forward_of, head_size_of
from understudy.teachers import Loaded

TEACHER = "teacher"


def refuse_steps(recipe: Recipe) -> None:
    """Checks that every step leans on earlier ones only.

    Raises:
        RecipeError: two steps of one name, or one that learns or starts from what is not there before it.
    """
    there = [TEACHER]
    for step in recipe.steps:
        if step.name in there:
            raise RecipeError(f'steps: two are called "{step.name}"; every step needs a name of its own')
        inner = of_step(recipe, step)
        for key, name in (("learns_from", step.learns_from), ("student.start", inner.student.start)):
            _refuse(f"steps, {step.name}, {key}", name, there)
        there.append(step.name)
    _refuse("learns_from", recipe.learns_from, there)
    _refuse("student.start", recipe.student.start, there)
    for step in started_from(recipe):
        own = of_step(recipe, step).student.model_copy(update={"start": recipe.student.start})
        if own != recipe.student or step.size != "same":
            raise RecipeError(
                f"student.start: the student cannot start from step {step.name}, whose student is another one: take "
                "student and size out of that step, or say the same in the recipe's student"
            )


def _refuse(key: str, name: str | None, there: list[str]) -> None:
    known = there if key.endswith("learns_from") else there[1:]
    if name is not None and name not in known:
        there_is = choices(name, known) if known else "there are no steps"
        raise RecipeError(f'{key}: no step "{name}" before it: {there_is}')


def of_step(recipe: Recipe, step: Step, teacher: Loaded | None = None) -> Recipe:
    """The recipe of one step: the run's, with what the step says of student, objective and train.

    Args:
        recipe: of the run.
        step: one of its steps.
        teacher: from whose size ``size: between`` is worked out; without one it is left.
    """
    changed: dict[str, Any] = {"student.start": None, "learns_from": step.learns_from, "steps": ()}
    for section in ("student", "objective", "train"):
        changed |= {f"{section}.{key}": value for key, value in getattr(step, section).items()}
    inner = with_values(recipe, changed | {"peers": (), "ships": "student"})
    more: dict[str, Any] = {} if reads_only_logits(inner) else {"teacher.targets": "live"}
    if step.size == "between" and teacher is not None:
        more |= between(inner, teacher)
    inner = with_values(inner, more)
    if inner.student.family != recipe.student.family:
        inner = with_values(inner, _of_family(recipe, step, inner.student.family))
    if "epochs" not in step.train and inner.train.epochs is not None:
        inner = with_values(inner, {"train.epochs": max(1, round(step.share * inner.train.epochs))})
    return inner


def _of_family(recipe: Recipe, step: Step, family: str) -> dict[str, Any]:
    """The dials of another family than the student's, where the step does not say them; never more epochs."""
    usual = FAMILIES.get(str(recipe.task), {}).get(family, {})
    found: dict[str, Any] = {}
    for section, keys in {"train": ("epochs", "batch_size", "learning_rate"), "student": SIZES}.items():
        said = getattr(step, section)
        found |= {f"{section}.{key}": usual[key] for key in keys if key in usual and key not in said}
    if "train.epochs" in found and recipe.train.epochs is not None:
        found["train.epochs"] = min(found["train.epochs"], recipe.train.epochs)
    if recipe.objective.temperature is not None and usual.get("temperature") not in (None, "auto"):
        found |= {} if "temperature" in step.objective else {"objective.temperature": usual["temperature"]}
    return found


def between(recipe: Recipe, teacher: Loaded) -> dict[str, Any]:
    """A size halfway to the teacher's: the mean of the depths, the geometric mean of the widths.

    Source: Mirzadeh et al. 2020, arXiv 1902.03393, where the best assistant is halfway in accuracy.
    """
    student = recipe.student
    if student.family in ("static", "ngram", "conv", "gru", "transformer"):
        return {"student.family": "cut", "student.layers": None}
    if student.family == "cut":
        depth = len(students.layer_stack(teacher.parent.model)[1])
        narrow = any(size is not None for size in (student.width, student.heads, student.feed_forward, student.rank))
        own = depth_of_cut(student.layers, depth, narrow=narrow)
        return {"student.layers": max(1, round((own + depth) / 2)), **_wider(student, teacher)}
    theirs = int(getattr(teacher.parent.model, "arguments", {}).get("width", 0)) or 4 * (student.width or 32)
    own = student.width or 32
    return {"student.width": max(own, round(math.sqrt(own * theirs)))}


def _wider(student: Any, teacher: Loaded) -> dict[str, Any]:
    """Width and feed-forward units halfway to the teacher's, in heads of its size."""
    config: Any = getattr(teacher.parent.model, "config", None)
    found: dict[str, Any] = {}
    if student.width is not None or student.heads is not None:
        size = head_size_of(config)
        own = student.width or student.heads * size
        heads = max(1, round(math.sqrt(own * config.hidden_size) / size))
        found = {"student.width": heads * size, "student.heads": None}
    theirs = feed_forward_of(config)
    if student.feed_forward is not None and theirs is not None:
        found["student.feed_forward"] = round(math.sqrt(student.feed_forward * theirs[1]))
    return found


def started_from(recipe: Recipe) -> list[Step]:
    """The steps that the student itself went through, first to last: they are part of its budget, and so its twin's."""
    by_name = {step.name: step for step in recipe.steps}
    chain: list[Step] = []
    start = recipe.student.start
    while start is not None:
        step = by_name[start]
        chain.insert(0, step)
        start = of_step(recipe, step).student.start
    return chain
