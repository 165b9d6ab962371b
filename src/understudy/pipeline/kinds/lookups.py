"""Students that look vectors up: words, pairs and character n-grams, without a sub-word tokenizer."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from understudy import students
from understudy.encoding import WordEncoder
from understudy.encoding.splitting import split
from understudy.pipeline.material import Apprentice, Material
from understudy.tasks.text_classification import word_encoder
from understudy.teachers import Loaded

Vectors = Callable[[], np.ndarray[Any, Any]]


def static(material: Material, teacher: Loaded) -> Apprentice:
    """A bag of vectors that start from the teacher's own outputs for each word."""
    recipe, texts, teacher = material.recipe.student, material.learnable.inputs["text"], teacher.parent
    buckets = recipe.buckets
    encoder = word_encoder(texts, words=recipe.words, buckets=buckets, pairs=recipe.pairs, characters=recipe.characters)
    inherits = recipe.initialise and teacher.tokenizer is not None

    @functools.cache  # asked when the first student is built: a run whose students are all there asks for nothing
    def vectors() -> np.ndarray[Any, Any]:
        found = students.static_vectors(teacher.model, teacher.tokenizer, encoder.words, dimensions=recipe.dimensions)
        return (found / (float(np.linalg.norm(found, axis=1).mean()) or 1.0)).astype(np.float32)

    counts = _counts(texts, encoder)
    hashed = ["pairs"] * recipe.pairs + [f"{recipe.characters}-grams of characters"] * bool(recipe.characters)
    note = f"{len(encoder.words):,} words, {buckets:,} hashed entries for {', '.join([*hashed, 'unknown words'])}"
    start = "their vectors start from the teacher's own outputs" if inherits else "all vectors start at random"
    classes = len(material.splits.label_names)
    build = partial(_new_static, encoder.size, recipe, classes, vectors if inherits else None, counts)
    return Apprentice(encoder, build, "static", (f"{note}; {start}",))


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
