"""Metrics of tags: what is counted are whole entities, begin, end and type right, or single words.

Counts are sums over sentences, so that a bootstrap resamples sentences: words of one sentence are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from understudy import tags
from understudy.answers import known
from understudy.errors import DataError
from understudy.statistics.metrics import Array
from understudy.statistics.scores import RowMetric


@dataclass(frozen=True)
class TagMetric(RowMetric):
    """A metric of five counts of each sentence: words, words that are right, entities, those said, those right."""

    def checked(self, labels: npt.ArrayLike, *predictions: npt.ArrayLike) -> tuple[Array, ...]:
        """Labels and predictions as object arrays [N] of the numbers of tags (`understudy.tags`).

        Raises:
            DataError: no rows, unequal numbers of them, or a row without tags.
        """
        truth, *said = (np.asarray(one, object) for one in (labels, *predictions))
        if truth.ndim != 1 or not len(truth):
            raise DataError(f"{self.name} needs the tags of each row and a row, got {truth.shape}")
        for one in said:
            if one.shape != truth.shape:
                raise DataError(f"{self.name} needs tags said of every row: {truth.shape} and {one.shape}")
        bare = int((~known(truth)).sum())
        if bare:
            raise DataError(f"{bare} of {len(truth)} rows have no tags: measure on labelled rows only")
        return (truth, *said)


def sentence_counts(labels: Array, predicted: Array) -> Array:
    """float64 [N, 5]: words, words that are right, entities, those said, those right."""
    truth, said = tags.side_by_side(labels, predicted)
    there, given = tags.spans(truth), tags.spans(said)
    words, types = (
        int(truth.lengths.max(initial=1)),
        1 + int(max(there[:, 3].max(initial=0), given[:, 3].max(initial=0))),
    )
    right = there[np.isin(tags.keys(there, words, types), tags.keys(given, words, types))]
    owners, rows = truth.owners, len(truth)
    same = owners[truth.values == said.values]
    parts = (owners, same, there[:, 0], given[:, 0], right[:, 0])
    return np.stack([np.bincount(one, minlength=rows) for one in parts], axis=1).astype(np.float64)


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


def _accuracy(sums: Array) -> Array:
    return _share(sums[..., 1], sums[..., 0])


def _recall(sums: Array) -> Array:
    return _share(sums[..., 4], sums[..., 2])


def _precision(sums: Array) -> Array:
    return _share(sums[..., 4], sums[..., 3])


def _f1(sums: Array) -> Array:
    """2 right / (there + said); 0 where there are none and none is said."""
    return _share(2 * sums[..., 4], sums[..., 2] + sums[..., 3])


ENTITIES: tuple[TagMetric, ...] = (
    TagMetric("entity_f1", "higher", "tags", sentence_counts, _f1),
    TagMetric("entity_precision", "higher", "tags", sentence_counts, _precision),
    TagMetric("entity_recall", "higher", "tags", sentence_counts, _recall),
    TagMetric("tag_accuracy", "higher", "tags", sentence_counts, _accuracy),
)
"""Of a tag for every word: micro averages over all types, as conlleval counts them."""
