"""Students that look vectors up: words, pairs and character n-grams, without a sub-word tokenizer."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from understudy import students
from understudy.encoding import WordEncoder
from understudy.encoding.words import split
from understudy.pipeline.material import Apprentice, Material
from understudy.tasks.text_classification import word_encoder
from understudy.teachers import Loaded

Vectors = Callable[[], np.ndarray[Any, Any]]


def static(material: Material, teacher: Loaded) -> Apprentice:
    """A bag of vectors that start from the teacher's own outputs for each word."""
    recipe, texts, teacher = material.recipe.student, material.learnable.inputs["text"], teacher.parent
    buckets, dimensions = recipe.buckets or 0, recipe.dimensions or 256
    encoder = word_encoder(texts, words=recipe.words, buckets=buckets, pairs=recipe.pairs, characters=recipe.characters)
    vectors = word_vectors(teacher, encoder.words, dimensions=dimensions) if recipe.initialise else None
    counts = _counts(texts, encoder)
    hashed = ["pairs"] * recipe.pairs + [f"{recipe.characters}-grams of characters"] * bool(recipe.characters)
    note = f"{len(encoder.words):,} words, {buckets:,} hashed entries for {', '.join([*hashed, 'unknown words'])}"
    start = "their vectors start from the teacher's own outputs" if vectors else "all vectors start at random"
    classes = len(material.splits.label_names)
    build = partial(_new_static, encoder.size, recipe, classes, vectors, counts)
    return Apprentice(encoder, build, "static", (f"{note}; {start}",))


def word_vectors(teacher: Loaded, words: Sequence[str], *, dimensions: int) -> Vectors | None:
    """The teacher's own outputs for each word, fp32 [W, dimensions] of mean length 1; None where it has no tokenizer.

    They are asked for when the first student is built: a run whose students are all there asks for nothing.
    """
    if teacher.tokenizer is None:
        return None

    @functools.cache
    def vectors() -> np.ndarray[Any, Any]:
        found = students.static_vectors(teacher.model, teacher.tokenizer, words, dimensions=dimensions)
        return (found / (float(np.linalg.norm(found, axis=1).mean()) or 1.0)).astype(np.float32)

    return vectors


def _new_static(rows: int, recipe: Any, classes: int, vectors: Vectors | None, counts: Any) -> nn.Module:
    student = students.Static(
        rows,
        recipe.dimensions,
        classes,
        hidden=recipe.hidden,
        dropout=recipe.dropout,
        word_dropout=recipe.feature_dropout,
    )
    if vectors is not None:
        student.initialise(vectors(), counts=counts)
    return student


def _counts(texts: list[str], encoder: WordEncoder) -> np.ndarray[Any, Any]:
    found: Counter[str] = Counter()
    for text in texts:
        found.update(split(text))
    return np.array([found[word] for word in encoder.words], dtype=np.int64)
