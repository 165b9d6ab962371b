"""From a recipe to a kind of student: what it reads, and how one is made from the teacher."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from understudy import students
from understudy.encoding import Encoder, WordEncoder
from understudy.encoding.words import split
from understudy.errors import RecipeError
from understudy.files import content_hash
from understudy.pipeline.defaults import FAMILIES
from understudy.pipeline.material import Apprentice, Build, Material
from understudy.pipeline.recipe import Recipe, Step, with_values
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


def kind_of(material: Material, teacher: Loaded, own: Apprentice | None = None) -> Apprentice:
    """The kind that a step's or a peer's recipe names; a user's own module where the student is one."""
    return own if own is not None and own.identity else apprentice(material, teacher)


def kind_of_step(material: Material, teacher: Loaded, step: Step, own: Apprentice | None = None) -> Apprentice:
    """The kind of a step's student.

    Raises:
        RecipeError: a step that changes a student whose shape only its author knows.
    """
    differs = {key: value for key, value in step.student.items() if key != "start"}
    _refuse_own(own, differs | ({"size": step.size} if step.size != "same" else {}), f"steps, {step.name}")
    return kind_of(material, teacher, own)


def peers(material: Material, teacher: Loaded, *, untaught: Build, own: Apprentice | None = None) -> list[Apprentice]:
    """The kinds of the students that learn beside the student.

    Args:
        material: with the recipe whose ``peers`` say what differs.
        teacher: of the run.
        untaught: a fresh teacher, as it was before it was trained: what ``family: teacher`` is.
        own: the student's kind, where it is a user's own module.
    """
    found = []
    for differs in material.recipe.peers:
        if differs.get("family") == "teacher":
            found.append(Apprentice(teacher.encoder, untaught, "dynamic", ("learns along: the teacher's own kind",)))
            continue
        recipe = with_values(material.recipe, _of_peer(material.recipe, differs))
        _refuse_own(own, differs, "peers")
        found.append(kind_of(material.with_recipe(recipe), teacher, own))
    return found


def _of_peer(recipe: Recipe, differs: Mapping[str, Any]) -> dict[str, Any]:
    """What a peer says of its student; the width of another family is that family's own where it is not said."""
    family = differs.get("family", recipe.student.family)
    width = FAMILIES.get(str(recipe.task), {}).get(family, {}).get("width")
    other = {"student.width": width} if family != recipe.student.family else {}
    return other | {f"student.{key}": value for key, value in differs.items()}


def _refuse_own(own: Apprentice | None, differs: Mapping[str, Any], key: str) -> None:
    if own is not None and own.identity and differs:
        raise RecipeError(
            f"{key}: {', '.join(differs)} of a student of your own cannot be changed: the recipe has no words for its "
            "shape; leave it out, and every training starts from a copy of your module"
        )


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
