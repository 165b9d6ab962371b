"""Baselines for one label of several."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from understudy.baselines.fitted import Array, Baseline, Inputs, finished, rows_of, within
from understudy.baselines.texts import CHARACTERS, Texts
from understudy.data import Examples, Splits
from understudy.encoding import PixelEncoder
from understudy.errors import DataError

_CHEAP_SVM = 5e7  # non-zero values times classes: about ten seconds for all four fits on one core
_CHEAP_LOGISTIC = 1e9  # pixels times classes: about twenty seconds for all three fits on one core
_VALUES = 60_000_000  # pixels of training rows as float32: a quarter of a gigabyte
_SIDE = 32  # larger images are shrunk for a linear model


def majority(splits: Splits) -> Baseline:
    """The shares of the classes in training, whatever the row: log((n_k + 1) / (N + K))."""
    start = time.perf_counter()
    counts = splits.train.counts(len(splits.label_names))
    prior = np.log((counts + 1) / (counts.sum() + len(counts)))

    def predict(inputs: Inputs) -> Array:
        return np.tile(prior, (rows_of(inputs), 1))

    return finished("majority", splits, predict, start, size=4 * len(prior), parameters=len(prior))


def tfidf_svm(splits: Splits, *, seed: int = 0) -> Baseline:
    """TF-IDF of words (1-2) and of characters within words (2-5), and a linear SVM per class.

    C is the best of .1, .3, 1, 3 by validation accuracy where that is cheap, 1 otherwise. With two classes and decision
    d the scores are (-d/2, d/2), so that their softmax is the sigmoid of d. Of a pair of texts the features are what
    the two have in common and what they have not (`Texts`).
    """
    from sklearn.svm import LinearSVC

    start = time.perf_counter()
    classes = len(splits.label_names)
    train, notes = within(Texts.costs(splits.train.inputs), splits.train, CHARACTERS, seed)
    _refuse_one_class(train)
    texts = Texts.fit(train.inputs)
    features = texts.features(train.inputs)

    def fit(strength: float) -> Any:
        return LinearSVC(C=strength, random_state=seed).fit(features, train.labels)

    ours = texts.features(splits.validation.inputs)
    cheap = features.nnz * (classes if classes > 2 else 1) <= _CHEAP_SVM
    model, strength = _best(fit, ours, splits.validation.labels, (1.0, 0.3, 0.1, 3.0) if cheap else (1.0,))
    notes.append(f"tfidf_svm: C = {strength:g}, {'the best of four on validation' if cheap else 'not tuned'}")

    def predict(inputs: Inputs) -> Array:
        return columns_of(model.decision_function(texts.features(inputs)), model.classes_, classes)

    parameters, size = texts.size(model.coef_.size + model.intercept_.size)
    return finished("tfidf_svm", splits, predict, start, size=size, parameters=parameters, notes=notes)


def _refuse_one_class(train: Examples) -> None:
    if len(np.unique(train.labels)) < 2:
        raise DataError("a baseline needs training rows of at least two classes")


def pixels_logistic(splits: Splits, *, field: str = "image", seed: int = 0) -> Baseline:
    """Multinomial logistic regression on pixels: each centred on its mean, all divided by their common deviation.

    Images larger than 32 x 32 are shrunk to that; L-BFGS runs for at most 50 iterations. C is the best of .001, .01, .1
    by validation accuracy where that is cheap, .01 otherwise.
    """
    from sklearn.linear_model import LogisticRegression

    start = time.perf_counter()
    classes = len(splits.label_names)
    _refuse_one_class(splits.train.take(np.flatnonzero(splits.train.known)))
    encoder = _small_pixels(splits.train.inputs[field], field)
    values = encoder.channels * encoder.size[0] * encoder.size[1]
    train, notes = within([values] * len(splits.train), splits.train, _VALUES, seed)
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
        return columns_of(model.decision_function((_flat(encoder, inputs) - mean) / scale), model.classes_, classes)

    parameters = model.coef_.size + model.intercept_.size + mean.size + 1
    return finished("pixels_logistic", splits, predict, start, size=4 * parameters, parameters=parameters, notes=notes)


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


def columns_of(decision: Array, present: Array, classes: int) -> Array:
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
