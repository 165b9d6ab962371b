"""Cheap models without a network: what a student has to be compared with before anyone believes in it.

Every baseline is a function ``(splits) -> Baseline``, deterministic, fitted on the labelled training rows, with its one
dial (if any) chosen on validation. Its scores are on no particular scale: like every other model in the table they get
one temperature on validation, elsewhere. The test split is not touched here: ``predict`` is called at evaluation.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.data import Examples, Splits
from understudy.encoding import PixelEncoder
from understudy.errors import DataError

Inputs = Mapping[str, Sequence[Any]]
Array = np.ndarray[Any, Any]

_CHEAP_SVM = 5e7  # non-zero values times classes: about ten seconds for all four fits on one core
_CHEAP_LOGISTIC = 1e9  # pixels times classes: about twenty seconds for all three fits on one core
_CHARACTERS = 20_000_000  # of training text; half a minute of counting n-grams, and under a gigabyte
_VALUES = 60_000_000  # pixels of training rows as float32: a quarter of a gigabyte
_SIDE = 32  # larger images are shrunk for a linear model


@dataclass(frozen=True, eq=False)
class Baseline:
    """A fitted baseline.

    Attributes:
        name: ``majority``, ``tfidf_svm``, ``pixels_logistic``.
        validation: decision scores on the validation rows, float64 [N, K]; the largest wins.
        predict: raw columns -> decision scores, float64 [n, K].
        seconds: what fitting took, choosing included.
        bytes: its parameters as float32 plus its vocabulary, without any container around it.
        parameters: how many numbers it learnt.
        notes: decisions, one sentence each.
    """

    name: str
    validation: Array
    predict: Callable[[Inputs], Array]
    seconds: float
    bytes: int
    parameters: int
    notes: tuple[str, ...] = ()


def majority(splits: Splits) -> Baseline:
    """The shares of the classes in training, whatever the row: log((n_k + 1) / (N + K))."""
    start = time.perf_counter()
    counts = splits.train.counts(len(splits.label_names))
    prior = np.log((counts + 1) / (counts.sum() + len(counts)))

    def predict(inputs: Inputs) -> Array:
        return np.tile(prior, (_rows(inputs), 1))

    return _baseline("majority", splits, predict, start, size=4 * len(prior), parameters=len(prior))


def tfidf_svm(splits: Splits, *, field: str = "text", seed: int = 0) -> Baseline:
    """TF-IDF of words (1-2) and of characters within words (2-5), and a linear SVM per class.

    C is the best of .1, .3, 1, 3 by validation accuracy where that is cheap, 1 otherwise. With two classes and decision
    d the scores are (-d/2, d/2), so that their softmax is the sigmoid of d.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union
    from sklearn.svm import LinearSVC

    start = time.perf_counter()
    classes = len(splits.label_names)
    train, notes = _within([len(text) for text in splits.train.inputs[field]], splits.train, _CHARACTERS, seed)
    vectors = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype=np.float32),
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), min_df=2 if len(train) >= 1000 else 1, sublinear_tf=True,
            dtype=np.float32,
        ),
    )  # fmt: skip
    try:
        features = vectors.fit_transform(train.inputs[field])
    except ValueError as error:  # nothing but stop characters in every row
        raise DataError(f'column "{field}": no words to learn from ({error})') from error

    def fit(strength: float) -> Any:
        return LinearSVC(C=strength, random_state=seed).fit(features, train.labels)

    ours = vectors.transform(splits.validation.inputs[field])
    cheap = features.nnz * (classes if classes > 2 else 1) <= _CHEAP_SVM
    model, strength = _best(fit, ours, splits.validation.labels, (1.0, 0.3, 0.1, 3.0) if cheap else (1.0,))
    notes.append(f"tfidf_svm: C = {strength:g}, {'the best of four on validation' if cheap else 'not tuned'}")

    def predict(inputs: Inputs) -> Array:
        return _columns(model.decision_function(vectors.transform(inputs[field])), model.classes_, classes)

    words = [name for _, part in vectors.transformer_list for name in part.vocabulary_]
    parameters = model.coef_.size + model.intercept_.size + len(words)
    size = 4 * parameters + sum(len(word.encode("utf-8", "replace")) + 1 for word in words)
    return _baseline("tfidf_svm", splits, predict, start, size=size, parameters=parameters, notes=notes)


def pixels_logistic(splits: Splits, *, field: str = "image", seed: int = 0) -> Baseline:
    """Multinomial logistic regression on pixels: each centred on its mean, all divided by their common deviation.

    Images larger than 32 x 32 are shrunk to that; L-BFGS runs for at most 50 iterations. C is the best of .001, .01, .1
    by validation accuracy where that is cheap, .01 otherwise.
    """
    from sklearn.linear_model import LogisticRegression

    start = time.perf_counter()
    classes = len(splits.label_names)
    encoder = _small_pixels(splits.train.inputs[field], field)
    values = encoder.channels * encoder.size[0] * encoder.size[1]
    train, notes = _within([values] * len(splits.train), splits.train, _VALUES, seed)
    pixels = _flat(encoder, train.inputs)
    mean = pixels.mean(0)
    pixels -= mean  # in place: this is the largest array of all
    scale = float(pixels.std()) or 1.0
    pixels /= scale

    def fit(strength: float) -> Any:
        with warnings.catch_warnings():  # the bound on its iterations is meant
            warnings.simplefilter("ignore")
            return LogisticRegression(C=strength, max_iter=50, tol=1e-3).fit(pixels, train.labels)

    ours = (_flat(encoder, splits.validation.inputs) - mean) / scale
    cheap = pixels.size * classes <= _CHEAP_LOGISTIC
    model, strength = _best(fit, ours, splits.validation.labels, (0.01, 0.1, 0.001) if cheap else (0.01,))
    chosen = "the best of three on validation" if cheap else "not tuned"
    notes.append(f"pixels_logistic: C = {strength:g}, {chosen}, {encoder.size[0]} x {encoder.size[1]} pixels")

    def predict(inputs: Inputs) -> Array:
        return _columns(model.decision_function((_flat(encoder, inputs) - mean) / scale), model.classes_, classes)

    parameters = model.coef_.size + model.intercept_.size + mean.size + 1
    return _baseline("pixels_logistic", splits, predict, start, size=4 * parameters, parameters=parameters, notes=notes)


def _baseline(
    name: str,
    splits: Splits,
    predict: Callable[[Inputs], Array],
    start: float,
    *,
    size: int,
    parameters: int,
    notes: Sequence[str] = (),
) -> Baseline:
    seconds = time.perf_counter() - start
    scores = predict(splits.validation.inputs)
    return Baseline(name, scores, predict, seconds, int(size), int(parameters), tuple(notes))


def _rows(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())))


def _within(costs: Sequence[int], rows: Examples, most: int, seed: int) -> tuple[Examples, list[str]]:
    """The labelled rows, or as many of them, drawn with ``seed``, as cost no more than ``most`` in all."""
    labelled = np.flatnonzero(rows.labels >= 0)
    if len(np.unique(rows.labels[labelled])) < 2:
        raise DataError("a baseline needs training rows of at least two classes")
    cost = np.asarray(costs, dtype=np.int64)[labelled]
    if cost.sum() <= most:
        return (rows if len(labelled) == len(rows) else rows.take(labelled)), []
    order = np.random.default_rng(seed).permutation(len(labelled))
    kept = np.sort(order[np.cumsum(cost[order]) <= most])
    note = (
        f"the linear baseline learnt from {len(kept):,} of {len(labelled):,} training rows, drawn at random, for time"
    )
    return rows.take(labelled[kept]), [note]


def _best(fit: Callable[[float], Any], features: Any, labels: Array, strengths: Sequence[float]) -> tuple[Any, float]:
    """The model with the highest validation accuracy; the first of equals."""
    found: tuple[float, Any, float] | None = None
    for strength in strengths:
        model = fit(strength)
        score = float((model.predict(features) == labels).mean()) if len(strengths) > 1 else 0.0
        if found is None or score > found[0]:
            found = (score, model, strength)
    assert found is not None
    return found[1], found[2]


def _columns(decision: Array, present: Array, classes: int) -> Array:
    """Decision scores as [N, K]; a class that training never saw stays a unit below every other score."""
    scores = np.asarray(decision, dtype=np.float64)
    if scores.ndim == 1:
        scores = np.stack([-scores / 2, scores / 2], axis=1)
    if len(present) == classes:
        return scores
    filled = np.repeat(scores.min(axis=1, keepdims=True) - 1.0, classes, axis=1)
    filled[:, present] = scores
    return filled


def _small_pixels(images: Sequence[Any], field: str) -> PixelEncoder:
    """An encoder of the first image's size and channels, at most 32 x 32."""
    from PIL import Image

    first = images[0]
    try:
        picture = Image.open(io.BytesIO(first)) if isinstance(first, bytes) else Image.fromarray(np.asarray(first))
    except Exception as error:
        raise DataError(f'column "{field}", row 1: the image cannot be read ({error})') from error
    side = max(picture.size)
    width, height = (max(1, round(length * min(1.0, _SIDE / side))) for length in picture.size)
    return PixelEncoder((height, width), channels=1 if picture.mode in ("1", "L", "I;16", "I") else 3, fields=(field,))


def _flat(encoder: PixelEncoder, inputs: Inputs) -> Array:
    """float32 [N, pixels]."""
    pixels = encoder.encode(inputs)
    return pixels.reshape(len(pixels), -1).astype(np.float32)
