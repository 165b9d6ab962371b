"""A gradient-boosting teacher for tables: scikit-learn's, fitted where it is needed, for no file holds it safely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from understudy.data import Examples
from understudy.encoding.tables import TableEncoder
from understudy.errors import DataError
from understudy.extras import require
from understudy.files import content_hash
from understudy.teachers.function import FLOOR, RowEncoder, Unrunnable
from understudy.teachers.loaded import Loaded


def boosting(train: Examples, *, classes: int, scores: bool, seed: int = 0) -> Loaded:
    """Histogram-based gradient boosting on the features of a `TableEncoder`, with scikit-learn's own settings.

    It is fitted again by every run that names it: a fitted one could only be kept as a pickle, and the same rows and
    seed give the same trees. Its answers are stored under a fingerprint of both and of scikit-learn's version.

    Args:
        train: labelled rows.
        classes: K; of scores 1.
        scores: whether the labels are scores.
        seed: of the fit.

    Raises:
        DataError: fewer than two classes.
    """
    ensemble = require("sklearn.ensemble", package="scikit-learn", why="a gradient-boosting teacher")
    rows = train.take(np.flatnonzero(train.known))
    if not scores and len(np.unique(rows.labels)) < 2:
        raise DataError("a gradient-boosting teacher needs training rows of at least two classes")
    encoder = TableEncoder.fit(train.inputs)
    kind = ensemble.HistGradientBoostingRegressor if scores else ensemble.HistGradientBoostingClassifier
    model = kind(random_state=seed).fit(encoder.encode(rows.inputs), rows.labels)
    version = require("sklearn", package="scikit-learn", why="a gradient-boosting teacher").__version__

    def ask(inputs: Mapping[str, Sequence[Any]]) -> np.ndarray:
        features = encoder.encode(inputs)
        if not len(features):
            return np.zeros((0, classes), np.float32)
        if scores:
            return np.asarray(model.predict(features), np.float32)[:, None]
        found = np.full((len(features), classes), FLOOR)
        found[:, model.classes_] = model.predict_proba(features)
        return np.log(np.maximum(found, FLOOR)).astype(np.float32)

    trees = [tree for stage in model._predictors for tree in stage]
    return Loaded(
        model=Unrunnable("gradient boosting"),
        encoder=RowEncoder(tuple(train.inputs)),
        alignment=None,
        fresh_head=False,
        description=f"gradient boosting, {len(trees):,} trees",
        fingerprint=content_hash("boosting-1", str(version), str(seed), rows.fingerprint, encoder.fingerprint),
        notes=(f"the teacher is gradient boosting, fitted on {len(rows):,} training rows",),
        ask=ask,
        bytes=sum(tree.nodes.nbytes for tree in trees),
    )
