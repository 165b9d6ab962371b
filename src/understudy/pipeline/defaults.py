"""Dials that depend on the family, the task or the data, filled in and written down before anything is trained."""

from __future__ import annotations

from typing import Any

from understudy.errors import RecipeError, choices
from understudy.pipeline import texts
from understudy.pipeline.objective import SHORTHAND, entries, reads_only_logits
from understudy.pipeline.recipe import Recipe, with_values
from understudy.tasks import TASKS, task_named

AUTO = "auto"
"""The family of a student that is yet to be chosen (`choosing.choose`)."""
_WORDS: dict[str, Any] = {
    "epochs": 20, "batch_size": 64, "learning_rate": 2e-3, "temperature": "auto", "precision": "fp32",
    "feature_dropout": 0.15,
}  # fmt: skip
_DIALS: dict[str, dict[str, Any]] = {
    "static": {**_WORDS, "dimensions": 256, "hidden": 256, "buckets": 16_384},
    "ngram": {**_WORDS, "learning_rate": 1e-2, "dimensions": 64, "buckets": 65_536},
    "conv": {**_WORDS, "width": 128, "dimensions": 64, "hidden": 128, "buckets": 1024},
    "gru": {**_WORDS, "width": 128, "dimensions": 64, "hidden": 128, "buckets": 1024},
    "transformer": {
        **_WORDS, "learning_rate": 1e-3, "width": 128, "dimensions": 128, "hidden": 128, "buckets": 1024
    },
    "cut": {"epochs": 4, "batch_size": 32, "learning_rate": 1e-4, "temperature": 4.0, "precision": "auto"},
    "cnn": {
        "epochs": 20, "batch_size": 64, "learning_rate": 3e-3, "temperature": 4.0, "precision": "auto", "width": 8
    },
    "mlp": {
        "epochs": 30, "batch_size": 64, "learning_rate": 1e-3, "temperature": 4.0, "precision": "auto", "width": 64
    },
}  # fmt: skip
_TABLE = {"epochs": 60, "batch_size": 32, "learning_rate": 3e-3}  # a table of some hundred rows has few batches
_TAGS = {"buckets": 8192}  # beside unknown words they hold the beginnings, ends and shapes of all
_OF_TASK: dict[str, dict[str, dict[str, Any]]] = {
    "sentence-embedding": {"static": {"epochs": 4, "batch_size": 256, "learning_rate": 5e-3, "feature_dropout": 0.0}},
    "question-answering": {"cut": {"epochs": 3, "batch_size": 16, "temperature": 2.0}},
    "token-classification": {"conv": _TAGS, "gru": _TAGS},
    "masked-language-model": {"cut": {"temperature": 2.0, "learning_rate": 5e-4}},
    "causal-lm": {"cut": {"temperature": 1.0, "learning_rate": 5e-4}},
}
"""Dials of a family that are others for one task."""
_DROP = {"masked-language-model": 5.0, "causal-lm": 5.0}
FAMILIES: dict[str, dict[str, dict[str, Any]]] = {
    name: {
        family: _DIALS[family] | (_TABLE if task.tabular else {}) | _OF_TASK.get(name, {}).get(family, {})
        for family in task.families
    }
    for name, task in TASKS.items()
}
"""By task, the dials of each family that can learn it."""
SIZES = ("width", "dimensions", "hidden", "buckets", "feature_dropout")
"""Keys of the student whose default is its family's."""
TEACHERS: dict[str, dict[str, Any]] = {
    "encoder": {"epochs": 5, "learning_rate": 1.5e-4},
    "language model": {"epochs": 3, "learning_rate": 5e-4},
    "cnn": {"epochs": 20, "learning_rate": 3e-3, "width": 32, "dropout": 0.2},
    "mlp": {"epochs": 30, "learning_rate": 1e-3, "width": 1200, "dropout": 0.5},
}
BUILT_IN = ("cnn", "mlp")
"""Teachers of images."""
TREES = "boosting"
"""The built-in teacher of tables, which is fitted and not trained."""


def resolved(recipe: Recipe, task: str, *, metric: str) -> Recipe:
    """The recipe with every None that depends on family and task decided; what a family decides waits for one.

    Raises:
        RecipeError: a family that cannot do the task.
    """
    recipe = with_values(recipe, texts.decided(recipe, task))
    families = {**FAMILIES[task], AUTO: {}}
    if recipe.student.family not in families:
        raise RecipeError(
            f'student "{recipe.student.family}" cannot do {task}: {choices(recipe.student.family, families)}'
        )
    family = families[recipe.student.family]
    usual = "language model" if task_named(task).answer.reduced else "encoder"
    teacher = TEACHERS[recipe.teacher.path if recipe.teacher.path in BUILT_IN else usual]
    precision = recipe.train.precision
    decided: dict[str, Any] = {
        "task": task,
        "train.epochs": recipe.train.epochs or family.get("epochs"),
        "train.batch_size": recipe.train.batch_size or family.get("batch_size"),
        "train.learning_rate": recipe.train.learning_rate or family.get("learning_rate"),
        "train.precision": family.get("precision") if precision == "auto" else precision,
        "objective.temperature": recipe.objective.temperature or _temperature(recipe, task, family.get("temperature")),
        **{f"student.{key}": family.get(key) for key in SIZES if getattr(recipe.student, key) is None},
        "teacher.epochs": recipe.teacher.epochs or teacher["epochs"],
        "teacher.learning_rate": recipe.teacher.learning_rate or teacher["learning_rate"],
        "teacher.width": recipe.teacher.width or teacher.get("width"),
        "teacher.dropout": recipe.teacher.dropout if recipe.teacher.dropout is not None else teacher.get("dropout"),
        "evaluation.metric": recipe.evaluation.metric or metric,
        "evaluation.threads": recipe.evaluation.threads or 1,
        "teacher.targets": _targets(recipe, task),
        "export.max_drop": _DROP.get(task, 0.5) if recipe.export.max_drop is None else recipe.export.max_drop,
    }
    return with_values(recipe, {key: value for key, value in decided.items() if value is not None})


def _targets(recipe: Recipe, task: str) -> str:
    """Stored where the objective reads nothing but logits: each row is asked about once, ever; but live where
    logits are of a whole vocabulary at every token."""
    if recipe.teacher.targets != "auto":
        return recipe.teacher.targets
    if "sampled_tokens" in {name for name, _ in entries(recipe)}:
        return "stored"
    return "stored" if reads_only_logits(recipe) and not task_named(task).answer.reduced else "live"


def _temperature(recipe: Recipe, task: str, usual: Any) -> Any:
    """The family's own, where any training of the run reads the dial; a score is not softened."""
    if not task_named(task).answer.softens:
        return None
    names = {name for name, _ in entries(recipe)}
    for step in recipe.steps:
        terms = step.objective.get("terms")
        for entry in terms if isinstance(terms, list) else ():
            names |= set(entry) if isinstance(entry, dict) else set()
    if names.isdisjoint({SHORTHAND, "sampled_tokens"}):
        return None
    alone = not (recipe.steps or recipe.peers) and SHORTHAND in {name for name, _ in entries(recipe)}
    return usual if alone or usual != "auto" else 1.0  # short runs can only choose for a student that learns alone
