"""Baselines for a score, and for several labels at once."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from understudy.baselines.fitted import Array, Baseline, Inputs, finished, rows_of, within
from understudy.baselines.texts import CHARACTERS, Texts
from understudy.data import Splits

_STRENGTHS = (1.0, 10.0, 0.1)  # of a ridge; the first where tuning would be dear
_CHEAP = 5e7  # non-zero values times fits


def mean_score(splits: Splits) -> Baseline:
    """The mean of the training scores, whatever the row: 0, since scores have mean 0."""
    start = time.perf_counter()
    mean = float(splits.train.labels[splits.train.known].mean())
    return finished(
        "mean_score", splits, lambda inputs: np.full((rows_of(inputs), 1), mean), start, size=4, parameters=1
    )


def tfidf_ridge(splits: Splits, *, seed: int = 0) -> Baseline:
    """`Texts` and a ridge regression; its strength is the best of 1, 10 and .1 by squared error on validation."""
    from sklearn.linear_model import Ridge

    start = time.perf_counter()
    train, notes = within(Texts.costs(splits.train.inputs), splits.train, CHARACTERS, seed)
    texts = Texts.fit(train.inputs)
    features, ours = texts.features(train.inputs), texts.features(splits.validation.inputs)
    cheap = features.nnz * len(_STRENGTHS) <= _CHEAP
    fitted = {
        strength: Ridge(alpha=strength, solver="sag" if features.nnz > _CHEAP else "auto", random_state=seed).fit(
            features, train.labels
        )
        for strength in (_STRENGTHS if cheap else _STRENGTHS[:1])
    }
    errors = {s: float(np.square(model.predict(ours) - splits.validation.labels).mean()) for s, model in fitted.items()}
    strength = min(errors, key=errors.__getitem__)
    model = fitted[strength]
    notes.append(f"tfidf_ridge: strength {strength:g}, {'the best of three on validation' if cheap else 'not tuned'}")

    def predict(inputs: Inputs) -> Array:
        return np.asarray(model.predict(texts.features(inputs)), np.float64)[:, None]

    parameters, size = texts.size(features.shape[1] + 1)
    return finished("tfidf_ridge", splits, predict, start, size=size, parameters=parameters, notes=notes)


def label_shares(splits: Splits) -> Baseline:
    """How often each label holds in training, whatever the row: log(p_k / (1 - p_k)), p_k = (n_k + 1) / (N + 2)."""
    start = time.perf_counter()
    share = (splits.train.counts(len(splits.label_names)) + 1) / (int(splits.train.known.sum()) + 2)
    scores = np.log(share / (1 - share))

    def predict(inputs: Inputs) -> Array:
        return np.tile(scores, (rows_of(inputs), 1))

    return finished("label_shares", splits, predict, start, size=4 * len(scores), parameters=len(scores))


def tfidf_svms(splits: Splits, *, seed: int = 0) -> Baseline:
    """`Texts` and a linear SVM for each label, C = 1; a label that no training row has scores below all others."""
    from sklearn.svm import LinearSVC

    start = time.perf_counter()
    train, notes = within(Texts.costs(splits.train.inputs), splits.train, CHARACTERS, seed)
    texts = Texts.fit(train.inputs)
    features = texts.features(train.inputs)
    models: list[Any] = [
        LinearSVC(C=1.0, random_state=seed).fit(features, column) if 0 < column.sum() < len(column) else None
        for column in train.labels.T
    ]
    always = train.labels.mean(0)

    def predict(inputs: Inputs) -> Array:
        mine = texts.features(inputs)
        columns = [
            np.full(mine.shape[0], 10.0 if share == 1 else -10.0) if model is None else model.decision_function(mine)
            for model, share in zip(models, always, strict=True)
        ]
        return np.stack(columns, axis=1)

    parameters, size = texts.size(sum(one.coef_.size + 1 for one in models if one is not None))
    return finished("tfidf_svms", splits, predict, start, size=size, parameters=parameters, notes=notes)
