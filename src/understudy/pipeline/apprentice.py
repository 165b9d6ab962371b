"""From a recipe to a kind of student: what it reads, and how one is made from the teacher."""

from __future__ import annotations

import copy
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from understudy import students
from understudy.encoding import Encoder, WordEncoder
from understudy.encoding.words import split
from understudy.errors import UsageError
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.teach import family
from understudy.tasks.image_classification import pixel_encoder
from understudy.tasks.text_classification import word_encoder
from understudy.teachers import Loaded


def apprentice(material: Material, teacher: Loaded) -> Apprentice:
    """The kind of student that the recipe names.

    Raises:
        UsageError: a family that cannot be made from this teacher.
    """
    build = {"static": _static, "cut": _cut, "cnn": _images, "mlp": _images}[material.recipe.student.family]
    return build(material, teacher)


def own_module(module: nn.Module, encoder: Encoder) -> Apprentice:
    """A student that the user wrote: every training starts from a copy of it as it was given."""
    return Apprentice(encoder, partial(copy.deepcopy, module), "dynamic")


def _cut(material: Material, teacher: Loaded) -> Apprentice:
    recipe = material.recipe.student
    layers = list(recipe.layers) if isinstance(recipe.layers, tuple) else recipe.layers
    trial = students.cut(teacher.model, layers)
    note = students.inheritance(trial, teacher.model)["sentence"]
    order = teacher.label_order
    if order is not None:
        raise UsageError(
            "a student cut from the teacher keeps the teacher's head, and its labels are in another order than the "
            "data's: fine-tune the teacher (--set teacher.fine_tune=always), or use another family"
        )
    build = partial(students.cut, teacher.model, layers, initialise=recipe.initialise)
    return Apprentice(teacher.encoder, build, "dynamic", (note if recipe.initialise else "layers start at random",))


def _static(material: Material, teacher: Loaded) -> Apprentice:
    recipe, texts = material.recipe.student, material.learnable.inputs["text"]
    buckets = recipe.buckets
    encoder = word_encoder(texts, words=recipe.words, buckets=buckets, pairs=recipe.pairs, characters=recipe.characters)
    vectors = None
    if recipe.initialise and teacher.tokenizer is not None:
        vectors = students.static_vectors(teacher.model, teacher.tokenizer, encoder.words, dimensions=recipe.dimensions)
        vectors = (vectors / (float(np.linalg.norm(vectors, axis=1).mean()) or 1.0)).astype(np.float32)
    counts = _counts(texts, encoder)
    hashed = ["pairs"] * recipe.pairs + [f"{recipe.characters}-grams of characters"] * bool(recipe.characters)
    note = f"{len(encoder.words):,} words, {buckets:,} hashed entries for {', '.join([*hashed, 'unknown words'])}"
    start = (
        "their vectors start from the teacher's own outputs" if vectors is not None else "all vectors start at random"
    )
    classes = len(material.splits.label_names)
    build = partial(_new_static, encoder.size, recipe, classes, vectors, counts)
    return Apprentice(encoder, build, "static", (f"{note}; {start}",))


def _new_static(rows: int, recipe: Any, classes: int, vectors: Any, counts: Any) -> nn.Module:
    student = students.Static(
        rows,
        recipe.dimensions,
        classes,
        hidden=recipe.hidden,
        dropout=recipe.dropout,
        word_dropout=recipe.feature_dropout,
    )
    if vectors is not None:
        student.initialise(vectors, counts=counts)
    return student


def _counts(texts: list[str], encoder: WordEncoder) -> np.ndarray[Any, Any]:
    found: Counter[str] = Counter()
    for text in texts:
        found.update(split(text))
    return np.array([found[word] for word in encoder.words], dtype=np.int64)


def _images(material: Material, teacher: Loaded) -> Apprentice:
    recipe, images = material.recipe.student, material.splits.train.inputs["image"]
    encoder = pixel_encoder(images)
    classes = len(material.splits.label_names)
    build = partial(
        family, recipe.family, encoder, images, classes,
        width=recipe.width or 32, dropout=recipe.dropout, layers=recipe.depth,
    )  # fmt: skip
    return Apprentice(encoder, build, "calibrated" if recipe.family == "cnn" else "dynamic")
