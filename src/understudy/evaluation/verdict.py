"""Was distilling worth it: the student against its twin, by one fixed rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from understudy.errors import UsageError
from understudy.evaluation.advice import Facts, Measured, advice
from understudy.statistics import Interval, Metric, difference, metric_named
from understudy.wording import FRACTIONS, reached

Outcome = Literal["BEATS", "NO GAIN", "INCONCLUSIVE", "HARMS"]

__all__ = ["Facts", "decide", "gate", "verdict"]


def decide(gain: Interval, *, margin: float) -> Outcome:
    """The rule: lower end > 0 BEATS; upper end < 0 HARMS; interval inside the margin NO GAIN; otherwise INCONCLUSIVE.

    Args:
        gain: student - twin, turned so that positive is better for the student.
        margin: differences up to here do not matter; in the unit of the metric.

    >>> decide(Interval(0.01, 0.002, 0.018), margin=0.005)
    'BEATS'
    >>> decide(Interval(0.0, -0.004, 0.004), margin=0.005)
    'NO GAIN'
    """
    if gain.low > 0:
        return "BEATS"
    if gain.high < 0:
        return "HARMS"
    if -margin <= gain.low and gain.high <= margin:
        return "NO GAIN"
    return "INCONCLUSIVE"


def verdict(
    student_predictions: npt.ArrayLike,
    twin_predictions: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    facts: Facts,
    metric: str | Metric = "accuracy",
    margin: float = 0.005,
    gates: Sequence[dict[str, Any]] = (),
    seed: int = 0,
    draws: int = 2000,
) -> dict[str, Any]:
    """The ``verdict`` of ``run.json``.

    Args:
        student_predictions: [S, N] or [N], one row of predictions per seed.
        twin_predictions: of the same shape, in the order of the seeds.
        labels: [N].
        facts: what else was measured; only ``next`` depends on it.
        metric: the primary metric.
        margin: in the unit of the metric: 0.005 is half a point.
        gates: made by :func:`gate`.
        seed: of the bootstrap; the same as in ``compare`` gives the same interval.
        draws: of the bootstrap.

    Returns:
        ``{"distillation", "margin", "seeds", "difference", "why", "next", "gates"}``; ``difference`` is student - twin.

    Raises:
        DataError: shapes that do not fit, or rows without a label.
        UsageError: a margin below 0.
    """
    if not margin >= 0:
        raise UsageError(f"a margin must be 0 or more, got {margin}")
    metric = metric_named(metric)
    ours, theirs = np.atleast_2d(np.asarray(student_predictions)), np.atleast_2d(np.asarray(twin_predictions))
    found = difference(metric, labels, ours, theirs, seed=seed, draws=draws)
    gain = found if metric.direction == "higher" else Interval(-found.value, -found.high, -found.low)
    measured = Measured(
        outcome=decide(gain, margin=margin),
        metric=metric,
        student=float(np.mean([metric.function(labels, one) for one in ours])),
        twin=float(np.mean([metric.function(labels, one) for one in theirs])),
        difference=found,
        margin=margin,
        rows=len(metric.checked(labels, ours[0])[0]),
    )
    return {
        "distillation": measured.outcome,
        "margin": margin,
        "seeds": len(ours),
        "difference": found.as_dict(),
        "why": _why(measured, seeds=len(ours)),
        "next": advice(measured, facts, gates),
        "gates": list(gates),
    }


def gate(
    name: str, limit: float, value: float | None, *, at_most: bool = False, at_least: bool = False
) -> dict[str, Any]:
    """A limit that the artefact must meet. A value that is missing or not a number does not meet it.

    Returns:
        ``{"name", "limit", "value", "passed"}``.

    Raises:
        UsageError: not exactly one of ``at_most`` and ``at_least``.

    >>> gate("max_ms", 5.0, 3.2, at_most=True)["passed"]
    True
    """
    if at_most == at_least:
        raise UsageError(f'gate "{name}" needs exactly one of at_most and at_least')
    number = None if value is None or not math.isfinite(value) else float(value)
    passed = number is not None and (number <= limit if at_most else number >= limit)
    return {"name": name, "limit": float(limit), "value": number, "passed": bool(passed)}


def _why(measured: Measured, *, seeds: int) -> str:
    found = measured.difference
    margin = f"{100 * measured.margin:g} points"
    meaning = {
        "BEATS": "distilling helped",
        "HARMS": "the teacher made this student worse",
        "NO GAIN": f"no difference beyond the margin of {margin}",
        "INCONCLUSIVE": f"whether it helped cannot be told at a margin of {margin}",
    }[measured.outcome]
    covers = (
        "One seed: the interval covers the sampling of the test rows only, not the luck of training."
        if seeds == 1
        else f"The interval covers the sampling of the test rows and of the {seeds} seeds."
    )
    name = measured.metric.name
    unit = "points (hundredths; " if name in FRACTIONS else "points ("
    return (
        f"The student reaches {reached(name, measured.student)}, its twin without the teacher "
        f"{measured.said(measured.twin)}: {_points(found.value)} {unit}95 % interval "
        f"{_points(found.low)} to {_points(found.high)}, {measured.rows:,} test rows), {meaning}. {covers}"
    )


def _points(share: float) -> str:
    """Signed points with two decimals; nothing that is not 0 reads as 0.00, for the sign decides."""
    text = f"{100 * share:+.2f}"
    return text if float(text) or share == 0 else f"{100 * share:+.1g}"
