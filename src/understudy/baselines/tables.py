"""Baselines for rows of a table."""

from __future__ import annotations

import time
import warnings

import numpy as np

from understudy.baselines.classes import columns_of
from understudy.baselines.fitted import Array, Baseline, Inputs, finished
from understudy.data import Splits
from understudy.encoding.tables import TableEncoder


def linear_classes(splits: Splits) -> Baseline:
    """Multinomial logistic regression on the features of a `TableEncoder`; C is the best of .1, 1, 10 on validation."""
    from sklearn.linear_model import LogisticRegression

    start, classes = time.perf_counter(), len(splits.label_names)
    train = splits.train.take(np.flatnonzero(splits.train.known))
    encoder = TableEncoder.fit(splits.train.inputs)
    features, ours = encoder.encode(train.inputs), encoder.encode(splits.validation.inputs)
    found = []
    for strength in (1.0, 0.1, 10.0):
        with warnings.catch_warnings():  # the bound on its iterations is meant
            warnings.simplefilter("ignore")
            model = LogisticRegression(C=strength, max_iter=200).fit(features, train.labels)
        found.append((float((model.predict(ours) == splits.validation.labels).mean()), model, strength))
    _, model, strength = max(found, key=lambda one: one[0])

    def predict(inputs: Inputs) -> Array:
        return columns_of(model.decision_function(encoder.encode(inputs)), model.classes_, classes)

    count, note = model.coef_.size + model.intercept_.size, f"linear_classes: C = {strength:g}, the best of three"
    return finished("linear_classes", splits, predict, start, size=4 * count, parameters=count, notes=[note])


def linear_score(splits: Splits) -> Baseline:
    """Ridge regression on the features of a `TableEncoder`, strength 1."""
    from sklearn.linear_model import Ridge

    start = time.perf_counter()
    train = splits.train.take(np.flatnonzero(splits.train.known))
    encoder = TableEncoder.fit(splits.train.inputs)
    model = Ridge(alpha=1.0).fit(encoder.encode(train.inputs), train.labels)

    def predict(inputs: Inputs) -> Array:
        return np.asarray(model.predict(encoder.encode(inputs)), np.float64)[:, None]

    return finished("linear_score", splits, predict, start, size=4 * (encoder.size + 1), parameters=encoder.size + 1)
