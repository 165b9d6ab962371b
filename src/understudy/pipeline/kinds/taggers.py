"""Students that tag words with an encoder of their own: one row of ids a word, known ones and parts of any."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from understudy import students
from understudy.encoding.affixes import FIRST, PARTS
from understudy.encoding.tokens import FIELD
from understudy.pipeline.kinds.lookups import Vectors, word_vectors
from understudy.pipeline.material import Apprentice, Material
from understudy.tasks.token_classification import affix_encoder, said_of_limit
from understudy.teachers import Loaded


def taggers(material: Material, teacher: Loaded) -> Apprentice:
    """A conv or a gru that says a tag of every word, by the recipe's family."""
    recipe, sentences = material.recipe.student, material.shown.inputs[FIELD]
    encoder = affix_encoder(
        sentences, words=recipe.words, buckets=recipe.buckets or 1, limit=material.recipe.data.limit
    )
    shape: dict[str, Any] = {
        "parts": PARTS, "dimensions": recipe.dimensions, "width": recipe.width, "hidden": recipe.hidden,
        "dropout": recipe.dropout, "word_dropout": recipe.feature_dropout,
    }  # fmt: skip
    kinds: dict[str, Any] = {"conv": students.TagConv, "gru": students.TagGru}
    if recipe.family == "conv":
        shape["layers"] = recipe.depth
    kind = partial(kinds[recipe.family], encoder.size, len(material.splits.label_names), **shape)
    vectors = word_vectors(teacher, encoder.words, recipe)
    start = "their vectors start from the teacher's own outputs" if vectors else "all vectors start at random"
    note = f"{len(encoder.words):,} words, {encoder.buckets:,} hashed entries for unknown ones and parts; {start}"
    read = said_of_limit(encoder, material.splits.train.inputs, "words")
    return Apprentice(encoder, partial(_new, kind, vectors), "dynamic", (note, read))


def _new(kind: Any, vectors: Vectors | None) -> nn.Module:
    student: students.TagConv | students.TagGru = kind()
    if vectors is not None:
        student.words.initialise(vectors(), first=FIRST)
    return student
