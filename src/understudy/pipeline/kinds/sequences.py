"""Students that read words in order, with an encoder of their own instead of the teacher's sub-words."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from understudy import students
from understudy.answers import TAGS
from understudy.encoding.sequences import FIRST
from understudy.pipeline.kinds.lookups import Vectors, of_rows, word_vectors
from understudy.pipeline.kinds.taggers import taggers
from understudy.pipeline.material import Apprentice, Material
from understudy.tasks.text_classification import sequence_encoder
from understudy.teachers import Loaded


def sequences(material: Material, teacher: Loaded) -> Apprentice:
    """A conv, a gru or a transformer, by the recipe's family; of words that are to be tagged see `taggers`."""
    if material.task.answer is TAGS:
        return taggers(material, teacher)
    recipe, texts = material.recipe.student, material.shown.texts
    encoder = sequence_encoder(texts, words=recipe.words, buckets=recipe.buckets or 0, limit=material.recipe.data.limit)
    shape: dict[str, Any] = {
        "dimensions": recipe.dimensions, "width": recipe.width, "hidden": recipe.hidden,
        "dropout": recipe.dropout, "word_dropout": recipe.feature_dropout, "texts": 1 + material.splits.pairs,
    }  # fmt: skip
    kinds: dict[str, Any] = {"conv": students.Conv, "gru": students.Gru, "transformer": students.Transformer}
    if recipe.family == "transformer":
        shape |= {"layers": recipe.depth, "positions": encoder.limit}
    kind = partial(kinds[recipe.family], encoder.size, material.outputs, **shape)
    vectors = word_vectors(teacher, encoder.words, recipe)
    start = "their vectors start from the teacher's own outputs" if vectors else "all vectors start at random"
    note = f"{len(encoder.words):,} words, {encoder.buckets:,} hashed entries for unknown ones; {start}"
    read = f"texts are read up to {encoder.limit} words"
    return Apprentice(of_rows(material, encoder), partial(_new, kind, vectors), "dynamic", (note, read))


def _new(kind: Any, vectors: Vectors | None) -> nn.Module:
    student: students.Conv | students.Gru | students.Transformer = kind()
    if vectors is not None:
        student.words.initialise(vectors(), first=FIRST)
    return student
