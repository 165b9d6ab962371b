"""From a recipe to a kind of student: what it reads, and how one is made from the teacher."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from understudy import students
from understudy.encoding import Encoder, WordEncoder
from understudy.encoding.words import split
from understudy.files import content_hash
from understudy.pipeline.material import Apprentice, Build, Material
from understudy.pipeline.recipe import with_values
from understudy.pipeline.teach import family
from understudy.tasks.image_classification import pixel_encoder
from understudy.tasks.text_classification import word_encoder
from understudy.teachers import Loaded, weights_hash

Vectors = Callable[[], np.ndarray[Any, Any]]


def apprentice(material: Material, teacher: Loaded) -> Apprentice:
    """The kind of student that the recipe names, with the exits that it asks for."""
    build = {"static": _static, "cut": _cut, "cnn": _images, "mlp": _images}[material.recipe.student.family]
    kind = build(material, teacher)
    exits = material.recipe.student.exits
    if exits is None:
        return kind
    after = "every layer" if exits == "all" else f"layers {', '.join(map(str, exits))}"
    note = f"it may answer after {after}, and goes on where it is unsure"
    return replace(kind, build=partial(_with_exits, kind.build, exits), notes=(*kind.notes, note))


def peers(material: Material, teacher: Loaded, *, untaught: Build) -> list[Apprentice]:
    """The kinds of the students that learn beside the student.

    Args:
        material: with the recipe whose ``peers`` say what differs.
        teacher: of the run.
        untaught: a fresh teacher, as it was before it was trained: what ``family: teacher`` is.
    """
    found = []
    for differs in material.recipe.peers:
        if differs.get("family") == "teacher":
            found.append(Apprentice(teacher.encoder, untaught, "dynamic", ("learns along: the teacher's own kind",)))
            continue
        recipe = with_values(material.recipe, {f"student.{key}": value for key, value in differs.items()})
        found.append(apprentice(material.with_recipe(recipe), teacher))
    return found


def _with_exits(build: Build, exits: Any) -> nn.Module:
    return students.with_exits(build(), exits)


def own_module(module: nn.Module, encoder: Encoder) -> Apprentice:
    """A student that the user wrote: every training starts from a copy of it as it was given."""
    identity = content_hash(weights_hash(module), encoder.fingerprint)
    return Apprentice(encoder, partial(copy.deepcopy, module), "dynamic", identity=identity)


def _cut(material: Material, teacher: Loaded) -> Apprentice:
    recipe, teacher = material.recipe.student, teacher.parent
    layers = list(recipe.layers) if isinstance(recipe.layers, tuple) else recipe.layers
    trial = students.cut(teacher.model, layers)
    note = students.inheritance(trial, teacher.model)["sentence"]
    build = partial(_cut_one, teacher, layers, recipe.initialise, material.splits.label_names)
    return Apprentice(teacher.encoder, build, "dynamic", (note if recipe.initialise else "layers start at random",))


def _cut_one(teacher: Loaded, layers: Any, initialise: bool, names: tuple[str, ...]) -> nn.Module:
    student = students.cut(teacher.model, layers, initialise=initialise)
    if teacher.label_order is not None:  # the student answers in the data's order; its teacher keeps its own
        students.reorder_labels(student, teacher.label_order, names)
    return student


def _static(material: Material, teacher: Loaded) -> Apprentice:
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


def _images(material: Material, teacher: Loaded) -> Apprentice:
    recipe, images = material.recipe.student, material.splits.train.inputs["image"]
    encoder = pixel_encoder(images)
    classes = len(material.splits.label_names)
    build = partial(
        family, recipe.family, encoder, images, classes,
        width=recipe.width or 32, dropout=recipe.dropout, layers=recipe.depth,
    )  # fmt: skip
    return Apprentice(encoder, build, "calibrated" if recipe.family == "cnn" else "dynamic")
