"""An endpoint as the teacher of a recipe: what its dials mean, what it will cost, and when it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from understudy.data import Examples, Splits
from understudy.endpoints import Limits
from understudy.endpoints.client import base_url
from understudy.errors import RecipeError, UsageError
from understudy.pipeline.journal import Facts
from understudy.pipeline.material import Material
from understudy.pipeline.recipe import Recipe, Teacher
from understudy.teachers import Loaded, settle
from understudy.teachers.endpoint import labelling, unasked
from understudy.teachers.labeller import Labeller
from understudy.teachers.question import Question, estimate

TASKS = ("text-classification", "pair-classification")
LIMITS = ("max_requests", "max_cost", "price_in", "price_out", "concurrency", "timeout", "retries")
DIALS = ("model", "instruction", "quality", *LIMITS, "key_env")
FREE = tuple(f"teacher.{name}" for name in (*LIMITS, "key_env"))
"""Keys that decide how fast and how far it is asked, and not what it says: a run goes on with others."""


def is_endpoint(path: str | None) -> bool:
    """Whether a teacher's path is a URL.

    >>> is_endpoint("http://127.0.0.1:8000/v1"), is_endpoint("./my-bert"), is_endpoint(None)
    (True, False, False)
    """
    return path is not None and "://" in path


def refuse_endpoint(recipe: Recipe) -> None:
    """What does not go together with a teacher behind a URL, or with one that is none; nothing is sent.

    Raises:
        UsageError: a URL with credentials, no model named, or limits that mean nothing.
        RecipeError: dials that would change nothing, a task or a student that an endpoint cannot teach.
    """
    teacher, student = recipe.teacher, recipe.student
    named = (teacher.path, *(one.path for one in (teacher.members or {}).values()))
    if teacher.members is not None and any(map(is_endpoint, named)):
        raise RecipeError("teacher.members: an endpoint is a teacher by itself, and no member of several")
    if not is_endpoint(teacher.path):
        said = [name for name in DIALS if getattr(teacher, name) != Teacher.model_fields[name].default]
        if said:
            raise RecipeError(
                f"{', '.join(f'teacher.{name}' for name in said)} would change nothing: the teacher is no endpoint; "
                "leave it out, or name a URL such as --teacher https://HOST/v1"
            )
        return
    url = base_url(str(teacher.path))
    if recipe.task not in TASKS:
        raise RecipeError(
            f"an endpoint labels texts ({' or '.join(TASKS)}), and the task is {recipe.task}; where it is to write, "
            "understudy generate asks it, and a student learns from the texts"
        )
    if not teacher.model:
        raise UsageError(f"an endpoint serves several models: name one with --model (asked: {url})")
    limits_of(recipe)
    if teacher.fine_tune == "always":
        raise RecipeError("teacher.fine_tune: an endpoint cannot be trained here; leave it out")
    if teacher.targets == "live":
        raise RecipeError(
            "teacher.targets: an endpoint answers raw rows and cannot run in a training step: use stored, with an "
            "objective that reads nothing but its logits"
        )
    if student.family == "cut" and student.folder is None:
        raise RecipeError(
            "student cut: nothing can be cut from an endpoint: name an encoder with student.folder, or --student static"
        )
    if any(one.get("family") == "teacher" for one in recipe.peers):
        raise RecipeError("peers: family teacher wants a model that can be trained, and the teacher is an endpoint")
    if recipe.data.views and teacher.max_cost is not None:
        raise RecipeError(
            "teacher.max_cost counts the rows of the data, and data.views makes others that are paid for too: leave "
            "one out"
        )


def limits_of(recipe: Recipe) -> Limits:
    """What may be spent, and how fast."""
    return Limits(**{name: getattr(recipe.teacher, name) for name in LIMITS})


def question_of(material: Material) -> Question:
    """What is asked about each row."""
    teacher, splits = material.recipe.teacher, material.splits
    return Question(
        url=str(teacher.path),
        model=str(teacher.model),
        labels=splits.label_names,
        fields=splits.fields,
        instruction=teacher.instruction,
        limits=limits_of(material.recipe),
        key_env=teacher.key_env,
    )


def asked(material: Material) -> Loaded:
    """The endpoint, probed on three training rows."""
    journal, splits = material.journal, material.splits
    one = Labeller(question_of(material), material.store, heard=partial(_heard, material), stopping=journal.should_stop)
    one.know(_rows(splits))
    one.probe(list(_of(splits.train, splits.fields, 3)), material.recipe.teacher.quality)
    return settle(labelling(one), splits.label_names, splits.validation.inputs)


def silent(material: Material) -> Loaded:
    """Equal shares in the place of the endpoint: nothing is sent. A key or a URL that cannot be used is refused."""
    question = question_of(material)
    Labeller(question, material.store)
    return settle(unasked(question), material.splits.label_names, material.splits.validation.inputs)


def forecast(material: Material) -> Facts:
    """What a run would ask and at most pay, for ``check``; nothing is sent."""
    question, views = question_of(material), material.recipe.data.views
    found = estimate(question, material.store, _rows(material.splits))
    if views:
        found["requests"] += views * len(material.learnable)
    return {"url": base_url(question.url), "model": question.model, **found}


def said_of(found: Facts) -> str:
    """The forecast in a sentence."""
    cost = found["worst_cost"]
    money = "at most unknown without teacher.price_in and teacher.price_out" if cost is None else f"at most {cost:.4g}"
    return (
        f"nothing was asked of {found['model']} at {found['url']}: equal shares stand in its place, so no score and no "
        f"value of a term above is its own. A run asks about {found['texts']:,} different texts "
        f"({found['answered']:,} are answered already) in at most {found['requests']:,} requests, tries after errors "
        f"not counted; cost: {money}"
    )


def _rows(splits: Splits) -> list[dict[str, Any]]:
    parts = (splits.train, splits.unlabelled, splits.validation, splits.test)
    return [row for part in parts if part is not None for row in _of(part, splits.fields)]


def _of(rows: Examples, fields: tuple[str, ...], most: int | None = None) -> Iterator[dict[str, Any]]:
    columns = (rows.inputs[name][:most] for name in fields)
    return (dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True))


def _heard(material: Material, done: int, total: int, facts: dict[str, float | str]) -> None:
    material.journal.progress.advance(done, total, **facts)
