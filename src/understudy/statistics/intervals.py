"""95 % intervals: Wilson for rates, the percentile bootstrap for every other metric, paired for differences.

How a metric is resampled is the metric's own affair (`Metric.resampled`). For scores and several labels it is a plain
bootstrap over rows; for classes a little more.

A plain bootstrap cannot imagine what it has not seen: two models that agree on 40 rows would differ by 0 +- 0, and four
wins against no loss would be significant (the exact test says p = .125). So each draw takes N + 1 rows from the N rows
and two half rows, one for and one against (the idea of Agresti and Min 2005 for matched pairs). On 1,000 rows the half
rows are invisible.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from understudy.errors import DataError
from understudy.statistics.metrics import Array, Metric
from understudy.statistics.named import metric_named


@dataclass(frozen=True)
class Interval:
    """A measured value between the two ends of its interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """``{"value", "low", "high"}`` for ``run.json``."""
        return asdict(self)


def wilson(successes: int, rows: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a rate; never wider than [0, 1], never of zero width.

    Args:
        successes: rows that count, 0 to ``rows``.
        rows: all rows, at least 1.
        level: probability that the interval is to cover.

    Raises:
        DataError: no rows, or more successes than rows.

    Source: Wilson 1927.

    >>> wilson(9, 10).low > 0.55
    True
    """
    from scipy.special import ndtri

    if rows < 1 or not 0 <= successes <= rows:
        raise DataError(f"a rate needs 0 <= successes <= rows and a row at least, got {successes} of {rows}")
    z2 = float(ndtri(0.5 + level / 2)) ** 2
    rate = successes / rows
    centre = (rate + z2 / (2 * rows)) / (1 + z2 / rows)
    half = np.sqrt(z2 * (rate * (1 - rate) / rows + z2 / (4 * rows**2))) / (1 + z2 / rows)
    low = 0.0 if successes == 0 else max(0.0, float(centre - half))
    high = 1.0 if successes == rows else min(1.0, float(centre + half))
    return Interval(rate, low, high)


def interval(
    metric: str | Metric,
    labels: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The metric of one model with its interval: Wilson for accuracy, the percentile bootstrap otherwise."""
    metric = metric_named(metric)
    truth, said = metric.checked(labels, predicted)
    if metric.name == "accuracy":
        return wilson(int((truth == said).sum()), len(truth), level=level)
    values = metric.resampled(truth, said[None], favoured=[[True], [False]], rng=_generator(seed), draws=draws)
    return _percentiles(metric.function(truth, said), values[0], level)


def difference(
    metric: str | Metric,
    labels: npt.ArrayLike,
    ours: npt.ArrayLike,
    theirs: npt.ArrayLike,
    *,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Metric of ours minus metric of theirs on the same rows: paired bootstrap over rows, and over seeds if several.

    With S seeds the value is the mean of the S differences, and each draw resamples seeds too (one of ours together
    with its one of theirs). A mean of S resampled seeds has (S - 1) / S of the variance that it should have, so its
    deviation is scaled by sqrt(S / (S - 1)). Two or three seeds still say little about the luck of training.

    Args:
        metric: a metric or its name.
        labels: [N], or [N, K] of several labels.
        ours: what was said of them, or with an axis [S, ...] for S seeds before it.
        theirs: of the same shape.
        seed: of the resampling.
        draws: resamples.
        level: probability that the interval is to cover.

    Returns:
        The signed difference; the metric's direction says whether positive is better. Equal predictions have value 0
        and a width that shrinks with the rows.

    Raises:
        DataError: shapes that do not fit.
    """
    metric = metric_named(metric)
    mine, other = (
        one if one.ndim > metric.dimensions(labels) else one[None] for one in map(np.asarray, (ours, theirs))
    )
    if mine.shape[:2] != other.shape[:2]:  # vectors may differ in width
        raise DataError(
            f"a paired difference needs the same rows and seeds on both sides, got {mine.shape} and {other.shape}"
        )
    truth, *said = metric.checked(labels, *mine, *other)
    seeds = len(mine)
    rng = _generator(seed)
    favoured = [[True] * seeds + [False] * seeds, [False] * seeds + [True] * seeds]
    values = metric.resampled(truth, np.stack(said), favoured=favoured, rng=rng, draws=draws)
    per_seed = values[:seeds] - values[seeds:]
    drawn = per_seed.mean(0)
    if seeds > 1:
        chosen = rng.integers(seeds, size=per_seed.shape)
        resampled = np.take_along_axis(per_seed, chosen, axis=0).mean(0)
        drawn = drawn + np.sqrt(seeds / (seeds - 1)) * (resampled - drawn)
    scores = [metric.function(truth, one) for one in said]
    return _percentiles(float(np.mean(scores[:seeds]) - np.mean(scores[seeds:])), drawn, level)


def ratio(
    metric: str | Metric,
    labels: npt.ArrayLike,
    ours: npt.ArrayLike,
    theirs: npt.ArrayLike,
    *,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> Interval | None:
    """Metric of ours / metric of theirs on the same rows, paired bootstrap; None where theirs may be 0."""
    metric = metric_named(metric)
    truth, mine, other = metric.checked(labels, ours, theirs)
    below = metric.function(truth, other)
    values = metric.resampled(
        truth,
        np.stack([mine, other]),
        favoured=[[True, False], [False, True]],
        rng=_generator(seed),
        draws=draws,
    )
    if below == 0 or (values[1] == 0).any():
        return None
    return _percentiles(metric.function(truth, mine) / below, values[0] / values[1], level)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _percentiles(value: float, drawn: Array, level: float) -> Interval:
    """The value and the outer percentiles; rounded, so that a mean of seeds that should be 0 is not 1e-17 above it."""
    low, high = np.round(np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2]), 12)
    return Interval(float(np.round(value, 12)), float(low), float(high))
