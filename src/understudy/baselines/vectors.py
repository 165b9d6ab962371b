"""Baselines for vectors of texts."""

from __future__ import annotations

import time

import numpy as np

from understudy.baselines.fitted import Array, Baseline, Inputs, finished, rows_of
from understudy.data import Splits

_WORDS = 1 << 16  # hashed words, each with a weight of its own
_COLUMNS = 4096  # that words are hashed into: vectors stay short enough to be held for every row


def same_vector(splits: Splits) -> Baseline:
    """The same vector whatever the text: every cosine is 1."""
    start = time.perf_counter()
    return finished("same_vector", splits, lambda inputs: np.ones((rows_of(inputs), 1)), start, size=4, parameters=1)


def tfidf_vectors(splits: Splits) -> Baseline:
    """TF-IDF of words (lower case, sublinear), fitted on the training texts and hashed into 4,096 signed columns.

    Words that no training text has count as the rarest do. Products of hashed vectors are those of the vectors
    themselves but for chance (Weinberger et al. 2009, arXiv 0902.2206).
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    start = time.perf_counter()
    words = HashingVectorizer(n_features=_WORDS, alternate_sign=False, norm=None)
    weigh = TfidfTransformer(sublinear_tf=True).fit(words.transform(splits.train.inputs["text"]))
    draw = np.random.default_rng(0)
    column, sign = draw.integers(_COLUMNS, size=_WORDS), draw.choice(np.array([-1.0, 1.0], np.float32), size=_WORDS)

    def predict(inputs: Inputs) -> Array:
        found = weigh.transform(words.transform(list(inputs["text"]))).tocoo()
        vectors = np.zeros((rows_of(inputs), _COLUMNS), np.float32)
        np.add.at(vectors, (found.row, column[found.col]), found.data * sign[found.col])
        return vectors

    seen = int((weigh.idf_ < weigh.idf_.max()).sum())
    return finished("tfidf_vectors", splits, predict, start, size=4 * seen, parameters=seen)
