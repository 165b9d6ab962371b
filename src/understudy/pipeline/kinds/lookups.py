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
from understudy.answers import VECTOR
from understudy.encoding import Encoder, PairEncoder, SequenceEncoder, WordEncoder
from understudy.encoding.splitting import split
from understudy.errors import RecipeError
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.vectors import directions
from understudy.tasks.text_classification import word_encoder
from understudy.teachers import Loaded

VIEWS = 0.15  # share of its features that a twin leaves out of a text, so that it reads it in two ways
Vectors = Callable[[], np.ndarray[Any, Any]]


def static(material: Material, teacher: Loaded) -> Apprentice:
    """A bag of vectors that start from the teacher's own outputs for each word."""
    if material.task.answer is VECTOR:
        return bag(material, teacher)
    recipe, texts = material.recipe.student, material.shown.texts
    encoder = _encoder(recipe, texts, words=recipe.words)
    vectors = word_vectors(teacher, encoder.words, recipe)
    shape = {"rows": encoder.size, "classes": len(material.splits.label_names), "texts": 1 + material.splits.pairs}
    build = partial(_new_static, shape, recipe, vectors, _counts(texts, encoder))
    return Apprentice(of_rows(material, encoder), build, "static", (_note(encoder, inherits=vectors is not None),))


def bag(material: Material, teacher: Loaded) -> Apprentice:
    """A mean of vectors that start from the teacher's outputs for each word, in the directions that are to be learnt.

    The twin leaves words out while it is trained, for want of another way to read a text twice.
    """
    recipe, texts = material.recipe.student, material.shown.texts
    encoder = _encoder(recipe, texts, words=recipe.words)
    vectors, counts = directed_vectors(material, teacher, encoder.words), _counts(texts, encoder)
    new = partial(_new_bag, encoder.size, material.outputs, vectors, counts)
    dropped, notes = recipe.feature_dropout or 0.0, (_note(encoder, inherits=vectors is not None),)
    alone = partial(new, max(dropped, VIEWS))
    return Apprentice(encoder, partial(new, dropped), "static", notes, alone=alone)


def ngram(material: Material, teacher: Loaded) -> Apprentice:
    """A mean of hashed vectors; those of words that occur in training start from the teacher's outputs for them."""
    recipe, texts = material.recipe.student, material.shown.texts
    if not recipe.buckets:
        raise RecipeError("student.buckets is 0, but an ngram student hashes everything; try 65536")
    encoder = _encoder(recipe, texts, words=0)
    common = word_encoder(texts, words=recipe.words)
    vectors = word_vectors(teacher, common.words, recipe)
    rows = np.array([encoder.ids_of(word)[0] for word in common.words], np.int64)
    shape = {"rows": encoder.size, "classes": len(material.splits.label_names), "texts": 1 + material.splits.pairs}
    build = partial(_new_ngram, shape, recipe, vectors, rows, _counts(texts, common))
    return Apprentice(of_rows(material, encoder), build, "static", (_note(encoder, inherits=vectors is not None),))


def of_rows(material: Material, encoder: WordEncoder | SequenceEncoder) -> Encoder:
    """What reads the rows with an encoder of texts: itself, or both texts of a pair."""
    return PairEncoder(encoder, fields=material.splits.fields) if material.splits.pairs else encoder


def _encoder(recipe: Any, texts: list[str], *, words: int) -> WordEncoder:
    return word_encoder(texts, words=words, buckets=recipe.buckets, pairs=recipe.pairs, characters=recipe.characters)


def _note(encoder: WordEncoder, *, inherits: bool) -> str:
    known = f"{len(encoder.words):,} words, " if encoder.words else ""
    hashed = ["pairs"] * encoder.pairs + [f"{encoder.characters}-grams of characters"] * bool(encoder.characters)
    hashed.append("unknown words" if encoder.words else "words")
    start = "words start from the teacher's own outputs" if inherits else "all vectors start at random"
    return f"{known}{encoder.buckets:,} hashed entries for {', '.join(hashed)}; {start}"


def word_vectors(teacher: Loaded, words: Sequence[str], recipe: Any) -> Vectors | None:
    """What the teacher says of each word, fp32 [W, dimensions] of mean length 1; None where it is not to be asked."""
    teacher = teacher.parent
    if not (recipe.initialise and teacher.tokenizer is not None and words):
        return None

    @functools.cache  # asked when the first student is built: a run whose students are all there asks for nothing
    def vectors() -> np.ndarray[Any, Any]:
        found = students.static_vectors(teacher.model, teacher.tokenizer, words, dimensions=recipe.dimensions)
        return (found / (float(np.linalg.norm(found, axis=1).mean()) or 1.0)).astype(np.float32)

    return vectors


def directed_vectors(material: Material, teacher: Loaded, words: Sequence[str]) -> Vectors | None:
    """What the teacher says of each word, along the directions that its vectors are learnt in, of mean length 1."""
    if not (material.recipe.student.initialise and teacher.tokenizer is not None and words):
        return None

    @functools.cache
    def vectors() -> np.ndarray[Any, Any]:
        found, spoken = students.word_outputs(teacher.model, teacher.tokenizer, words)
        along = directions(material, teacher, material.outputs)
        found = np.where(spoken[:, None], found if along is None else found @ along, 0.0)
        return (found / (float(np.linalg.norm(found, axis=1).mean()) or 1.0)).astype(np.float32)

    return vectors


def _new_bag(rows: int, dimensions: int, vectors: Vectors | None, counts: Any, word_dropout: float) -> nn.Module:
    student = students.Bag(rows, dimensions, word_dropout=word_dropout)
    if vectors is not None:
        student.initialise(vectors(), counts=counts)
    return student


def _new_static(shape: dict[str, int], recipe: Any, vectors: Vectors | None, counts: Any) -> nn.Module:
    student = students.Static(
        **shape,
        dimensions=recipe.dimensions,
        hidden=recipe.hidden,
        dropout=recipe.dropout,
        word_dropout=recipe.feature_dropout,
    )
    if vectors is not None:
        student.initialise(vectors(), counts=counts)
    return student


def _new_ngram(shape: dict[str, int], recipe: Any, vectors: Vectors | None, rows: Any, counts: Any) -> nn.Module:
    student = students.Ngram(**shape, dimensions=recipe.dimensions, word_dropout=recipe.feature_dropout)
    if vectors is not None:
        student.initialise(vectors(), rows=rows, counts=counts)
    return student


def _counts(texts: list[str], encoder: WordEncoder) -> np.ndarray[Any, Any]:
    found: Counter[str] = Counter()
    for text in texts:
        found.update(split(text))
    return np.array([found[word] for word in encoder.words], dtype=np.int64)
