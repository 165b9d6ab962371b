"""What a task that gives vectors needs of its teacher: a width, directions to learn along, and scores of pairs.

A teacher of width T teaches a student of width D < T along the D directions in which its own vectors of the training
texts are longest: cosines change least so, and no trained map stands between what is learnt and what ships. Metrics
compare with the teacher's whole vectors all the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from understudy import students
from understudy.answers import VECTOR
from understudy.data import Examples
from understudy.errors import RecipeError
from understudy.pipeline.label import open_store
from understudy.pipeline.material import Material
from understudy.pipeline.recipe import with_values
from understudy.statistics import pair_cosines
from understudy.teachers import Live, Loaded, Mixed, Narrowed, Sampling, Stored, StoredTokens

USUAL = 256  # dimensions of an embedding
_STORED, _ASKED = 20_000, 2_000  # training texts that directions are found on, stored and asked for

Array = np.ndarray[Any, Any]


def fitted(material: Material, teacher: Loaded) -> Material:
    """The material with the width of the student's vectors decided; the same where the task gives none.

    It is ``student.embedding``, or 256, and never more than the teacher's. A static student's words are as wide; a
    student that is cut gives vectors as wide as its layers.

    Raises:
        RecipeError: a static student whose dimensions are to be others than its embedding's.
    """
    if material.task.answer is not VECTOR:
        return material
    student, theirs = material.recipe.student, width_of(teacher, material.splits.validation)
    if student.family == "cut":
        wanted = student.width or theirs
    elif student.family == "static":
        wanted = student.embedding or student.dimensions or USUAL
        if student.embedding and student.dimensions not in (None, student.embedding):
            raise RecipeError(
                f"student.embedding is {student.embedding} and student.dimensions {student.dimensions}: a static "
                "student's embedding is as wide as its words; say one of them"
            )
    else:
        wanted = student.embedding or USUAL
    width = min(wanted, theirs)
    decided = {"student.embedding": width} | ({"student.dimensions": width} if student.family == "static" else {})
    return material.with_recipe(with_values(material.recipe, decided))


def width_of(teacher: Loaded, rows: Examples) -> int:
    """How wide a teacher's vectors are."""
    model = teacher.model
    return model.width if isinstance(model, students.Embedder) else int(teacher.scores(rows.take([0]).inputs).shape[1])


def heard(rows: Examples, vectors: Array) -> Examples:
    """Rows in pairs with what the teacher says of each text; pairs without a score get the teacher's own cosine.

    Args:
        rows: two by two.
        vectors: of the teacher, [N, T].
    """
    scores = rows.labels[:, 0]
    scores = np.where(np.isfinite(scores), scores, np.repeat(pair_cosines(vectors), 2))
    return replace(rows, labels=np.concatenate([scores[:, None], vectors], axis=1).astype(np.float32))


def with_heard(material: Material, split: str, vectors: Array) -> Material:
    """The material with what the teacher says of a split beside its scores; the same where the task gives no vectors.

    Args:
        split: validation or test.
        vectors: of the teacher, [N, T].
    """
    if material.task.answer is not VECTOR:
        return material
    changed: dict[str, Any] = {split: heard(getattr(material.splits, split), vectors)}
    return replace(material, splits=replace(material.splits, **changed))


def directions(material: Material, teacher: Loaded, width: int) -> Array | None:
    """float64 [T, width]: where the teacher's vectors of training texts are longest; None where it is no wider.

    Found on texts whose vectors are stored, 20,000 at most, or on 2,000 that the teacher is asked about.
    """
    rows = material.shown
    if width_of(teacher, rows) <= width:
        return None
    if material.recipe.teacher.targets == "stored":
        store, some = open_store(material, teacher), rows.take(_evenly(len(rows), _STORED))
        if not store.missing(some.keys):
            vectors: Any = store.read(some.keys)["logits"]
            return students.principal_directions(vectors.astype(np.float64), width)
    vectors = teacher.scores(rows.take(_evenly(len(rows), _ASKED)).inputs)
    return students.principal_directions(vectors.astype(np.float64), width)


def listened(
    material: Material, teacher: Loaded, source: Live | Stored | StoredTokens | Sampling | Mixed
) -> Live | Stored | StoredTokens | Sampling | Mixed | Narrowed:
    """The source as the student hears it: along `directions`, where the task gives vectors and it is narrower."""
    width = material.recipe.student.embedding
    if material.task.answer is not VECTOR or width is None or isinstance(source, StoredTokens | Sampling):
        return source
    found = directions(material, teacher, width)
    return source if found is None else Narrowed(source, found)


def some_rows(material: Material, most: int) -> Examples:
    """At most so many validation rows, evenly taken; pairs stay together."""
    rows = material.splits.validation
    if not material.splits.couples:
        return rows.take(_evenly(len(rows), most))
    pairs = _evenly(len(rows) // 2, most // 2)
    return rows.take(np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel())


def _evenly(rows: int, most: int) -> Array:
    return np.linspace(0, rows - 1, min(most, rows)).astype(np.int64)
