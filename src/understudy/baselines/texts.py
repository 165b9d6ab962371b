"""Texts, and pairs of them, as sparse features of a linear model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.baselines.fitted import Array, Inputs
from understudy.errors import DataError

CHARACTERS = 20_000_000  # of training text; half a minute of counting n-grams, and under a gigabyte


@dataclass(frozen=True, eq=False)
class Texts:
    """TF-IDF of words (1-2) and of characters within words (2-5).

    Of a pair a and b: a * b and |a - b| of every feature, and five dense ones, without which no linear model sees how
    near the two are: the cosine of the words, that of the characters, the shares of words that each has in common with
    the other, and how much the lengths differ.

    Attributes:
        vectors: the two fitted vectorisers, words first.
    """

    vectors: Any

    @classmethod
    def fit(cls, inputs: Inputs) -> Texts:
        """Learns the n-grams of some rows, of both texts of a pair alike.

        Raises:
            DataError: there are no words.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        columns = list(inputs.values())
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype=np.float32)
        few = 2 if len(columns[0]) >= 1000 else 1
        letters = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), min_df=few, sublinear_tf=True, dtype=np.float32
        )
        every = [text for column in columns for text in column]
        try:
            return cls((words.fit(every), letters.fit(every)))
        except ValueError as error:  # nothing but stop characters in every row
            raise DataError(f'column "{next(iter(inputs))}": no words to learn from ({error})') from error

    @staticmethod
    def costs(inputs: Inputs) -> list[int]:
        """Characters of each row."""
        return [sum(map(len, row)) for row in zip(*inputs.values(), strict=True)]

    def features(self, inputs: Inputs) -> Any:
        """A sparse matrix [N, F]."""
        from scipy.sparse import csr_matrix, hstack

        columns = list(inputs.values())
        parts = [[vector.transform(column) for vector in self.vectors] for column in columns]
        if len(columns) == 1:
            return hstack(parts[0]).tocsr()
        found, dense = [], []
        for left, right in zip(*parts, strict=True):
            both = left.multiply(right).tocsr()
            found += [both, abs(left - right)]
            dense.append(np.asarray(both.sum(axis=1)).ravel())
        dense += _overlap(*columns)
        return hstack([*found, csr_matrix(np.stack(dense, 1).astype(np.float32))]).tocsr()

    def size(self, weights: int) -> tuple[int, int]:
        """Parameters, and bytes as float32 with the vocabulary, of a linear model with so many weights."""
        words = [name for part in self.vectors for name in part.vocabulary_]
        parameters = weights + len(words)
        return parameters, 4 * parameters + sum(len(word.encode("utf-8", "replace")) + 1 for word in words)


def _overlap(left: Sequence[str], right: Sequence[str]) -> list[Array]:
    """Shares of each side's words that the other has too, and the difference of the lengths / their sum."""
    found = np.zeros((3, len(left)))
    for row, (a, b) in enumerate(zip(left, right, strict=True)):
        mine, theirs = set(a.lower().split()), set(b.lower().split())
        both = len(mine & theirs)
        found[:, row] = both / max(len(mine), 1), both / max(len(theirs), 1), abs(len(a) - len(b)) / (len(a) + len(b))
    return list(found)
