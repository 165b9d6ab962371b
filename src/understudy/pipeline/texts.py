"""A decoder that learns from texts alone: those of a teacher that is not here, as ``understudy generate`` wrote them.

Where nobody else is named the student's own start stands in the teacher's row of every table. It says nothing: the
texts are all that is taught. So the twin, which hears texts alone too, is the same training, and the verdict says so.
"""

from __future__ import annotations

from typing import Any

from understudy.errors import RecipeError
from understudy.pipeline.recipe import Objective, Recipe
from understudy.statistics import METRICS

TASK = "causal-lm"
NOTE = (
    "no teacher is here but its texts: the teacher's row is the student before it learnt, and the twin is the same "
    "training as the student"
)
_VERDICT = " Texts alone were taught: student and twin are one training, and what it gained is over the teacher's row."


def texts_alone(recipe: Recipe) -> bool:
    """Whether nothing but texts teaches, and the student's start stands where the teacher would."""
    folder, objective = recipe.student.folder, recipe.objective
    mine = recipe.task == TASK and folder is not None and recipe.teacher.path == folder
    return mine and objective.terms is None and objective.alpha == 1.0 and not (recipe.steps or recipe.peers)


def decided(recipe: Recipe, task: str) -> dict[str, Any]:
    """What is filled in where a decoder has a start and no teacher; empty anywhere else.

    Raises:
        RecipeError: dials that only mean something beside a teacher.
    """
    teacher, objective = recipe.teacher, recipe.objective
    if task != TASK or teacher.path is not None or teacher.members is not None or recipe.student.folder is None:
        return {}
    said = {
        "objective.terms": objective.terms is not None,
        "objective.alpha": objective.alpha not in (Objective.model_fields["alpha"].default, 1.0),
        "objective.temperature": objective.temperature is not None,
        "teacher.fine_tune": teacher.fine_tune == "always",
        "teacher.targets": teacher.targets == "stored",
        "steps": bool(recipe.steps),
        "peers": bool(recipe.peers),
    }
    for key, wrong in said.items():
        if wrong:
            raise RecipeError(
                f"{key}: no teacher is named, so the student learns from the texts alone, and this is about a teacher: "
                "leave it out, or name a --teacher with the student's tokenizer"
            )
    return {"teacher.path": recipe.student.folder, "teacher.fine_tune": "never", "objective.alpha": 1.0}


def judged(facts: dict[str, Any], recipe: Recipe) -> None:
    """Says in a run's verdict what it means, and what to do next, where texts alone were taught."""
    if not texts_alone(recipe):
        return
    metric = METRICS[str(recipe.evaluation.metric)]
    student, baseline = (facts["models"][who]["metrics"][metric.name]["value"] for who in ("student", "baseline"))
    plain = facts["models"]["baseline"]["model"]
    facts["verdict"]["why"] += _VERDICT
    facts["verdict"]["next"] = (
        f"Train for longer, or on more texts: the student ({student:.3f}) is behind {plain} ({baseline:.3f})."
        if metric.gain(student, baseline) <= 0
        else "Ask for more texts; or name a --teacher that has the student's tokenizer, whose probabilities say more."
    )
