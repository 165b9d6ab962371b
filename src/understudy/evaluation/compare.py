"""The ``comparison`` and the ``metrics`` of ``run.json``: plain dictionaries, intervals beside every number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from understudy.answers import VECTOR, agree
from understudy.errors import DataError
from understudy.evaluation.harm import out_of_scope as scope_of
from understudy.evaluation.harm import per_class
from understudy.evaluation.scored import Scored, values_of
from understudy.statistics import (
    METRICS,
    Metric,
    difference,
    ece,
    interval,
    mcnemar,
    metric_named,
    pair_cosines,
    ratio,
    wilson,
)
from understudy.statistics.metrics import Array


def measure(
    scored: Scored, *, metrics: Sequence[str] | None = None, seed: int = 0, draws: int = 1000
) -> dict[str, Any]:
    """The quality part of ``models.NAME``: every metric with its 95 % interval, and the calibration.

    Args:
        scored: of the model.
        metrics: names; None: all that its answer has.
        seed: of the bootstrap.
        draws: of the bootstrap.

    Returns:
        ``{"metrics": {name: {"value", "low", "high"}}, "ece_before", "ece_after", "temperature"}``; the last three are
        None where the logits are no probabilities.
    """
    if metrics is None:
        metrics = [name for name, metric in METRICS.items() if metric.answer == scored.answer.name]
    softens = scored.answer.calibrates
    return {
        "metrics": {
            name: interval(name, scored.labels, scored.predicted, seed=seed, draws=draws).as_dict() for name in metrics
        },
        "ece_before": ece(*scored.judged_before) if softens else None,
        "ece_after": ece(*scored.judged) if softens else None,
        "temperature": scored.temperature if softens else None,
        **({"thresholds": list(scored.thresholds)} if scored.thresholds else {}),
    }


def compare(
    *,
    teacher: Scored,
    baseline: Scored | None,
    twin: Sequence[Scored],
    student: Sequence[Scored],
    artefact: Scored,
    label_names: Sequence[str],
    metric: str | Metric = "accuracy",
    out_of_scope: str | None = None,
    seed: int = 0,
    draws: int = 2000,
) -> dict[str, Any]:
    """Everything of ``comparison`` that follows from scores; the caller adds ``compression`` and ``speedup``.

    Args:
        teacher: scores of the teacher.
        baseline: scores of the best baseline.
        twin: scores of the twin, one per seed.
        student: scores of the student, one per seed, in the order of the twins.
        artefact: scores of what ships; all but ``gap_closed`` and ``difference`` are about it.
        label_names: [K].
        metric: the primary metric.
        out_of_scope: name of the label that means "none of the others", if there is one.
        seed: of the bootstrap.
        draws: of the bootstrap.

    Returns:
        ``run.json``'s ``comparison``. Shares are in [0, 1]; ``difference`` (student - twin) and
        ``artefact_minus_teacher`` are in the unit of the metric; ``gap_closed`` is None where the teacher is
        not better than the twin.

    Raises:
        DataError: models that were not scored on the same rows, or not one twin per student.
        LabelError: no label of the name ``out_of_scope``.
    """
    metric = metric_named(metric)
    _same_rows([teacher, artefact, *student, *twin, *([baseline] if baseline else [])], label_names)
    labels, rows = teacher.labels, rows_of(metric, teacher)
    ours, theirs = _stacked(student), _stacked(twin)
    # what was kept is at most the whole in either direction: of a loss the teacher's share of the artefact's
    whole, part = (teacher, artefact) if metric.direction == "higher" else (artefact, teacher)
    kept = ratio(metric, labels, part.predicted, whole.predicted, seed=seed, draws=draws)
    base = metric.function(labels, whole.predicted)
    decided = _decided(teacher, artefact) if teacher.answer.decides else _undecided(teacher, artefact)
    result: dict[str, Any] = {
        "metric": metric.name,
        "direction": metric.direction,
        "rows": rows,
        "seeds": len(student),
        "retention": metric.function(labels, part.predicted) / base if base else None,
        "gap_closed": _gap_closed(metric, labels, metric.function(labels, teacher.predicted), ours, theirs),
        **{key: value for key, value in decided.items() if key != "intervals"},
        "difference": difference(metric, labels, ours, theirs, seed=seed, draws=draws).as_dict(),
        "artefact_minus_teacher": difference(
            metric, labels, artefact.predicted, teacher.predicted, seed=seed, draws=draws
        ).as_dict(),
        "intervals": {
            "retention": kept.as_dict() if kept else None,
            **decided["intervals"],
        },
        "per_class": per_class(teacher, artefact, label_names=label_names),
        "abstain": _abstain(artefact),
        "out_of_scope": None,
        "in_scope": None,
    }
    if out_of_scope is not None:
        models = {"teacher": teacher, "twin": twin[0], "student": student[0], "artefact": artefact}
        models |= {"baseline": baseline} if baseline else {}
        result["out_of_scope"], result["in_scope"] = scope_of(
            models, label=out_of_scope, label_names=label_names, metric=metric, seed=seed, draws=draws
        )
        inside = labels != list(label_names).index(out_of_scope)
        if inside.any():
            gain = difference(metric, labels[inside], ours[:, inside], theirs[:, inside], seed=seed, draws=draws)
            result["in_scope"]["difference"] = gain.as_dict()
    return result


def rows_of(metric: Metric, scored: Scored) -> int:
    """What a metric counts: rows, or pairs of them."""
    return len(metric.checked(scored.labels, scored.predicted)[0])


def _decided(teacher: Scored, artefact: Scored) -> dict[str, Any]:
    """How often the two say the same, and who is right where they do not."""
    rows = len(teacher.labels)
    lost, won = teacher.correct & ~artefact.correct, ~teacher.correct & artefact.correct
    agreement = wilson(int(agree(teacher.predicted, artefact.predicted).sum()), rows)
    flips = wilson(int(lost.sum()), rows)
    return {
        "agreement": agreement.value,
        "negative_flip_rate": flips.value,
        "positive_flip_rate": float(won.mean()),
        "ece": ece(*artefact.judged),
        "mcnemar_p": mcnemar(int(lost.sum()), int(won.sum())),
        "intervals": {"agreement": agreement.as_dict(), "negative_flip_rate": flips.as_dict()},
    }


def _undecided(teacher: Scored, artefact: Scored) -> dict[str, Any]:
    """Of scores, cosines and losses, which are neither right nor wrong: only how the two go together."""
    nothing = dict.fromkeys(("agreement", "negative_flip_rate", "positive_flip_rate", "ece", "mcnemar_p"))
    said = [_of_rows(one) for one in (teacher, artefact)]
    together = interval("pearson", *said)
    return {**nothing, "correlation": together.value, "intervals": {"correlation": together.as_dict()}}


def _of_rows(scored: Scored) -> Array:
    """One number for each row, or pair of them."""
    if scored.answer is VECTOR:
        return pair_cosines(scored.predicted)
    if scored.answer.reduced:
        return np.asarray(scored.predicted[:, 1] / np.maximum(scored.predicted[:, 0], 1))
    return scored.predicted


def _same_rows(models: Sequence[Scored], label_names: Sequence[str]) -> None:
    first = models[0]
    for scored in models:
        columns = values_of(scored.logits).shape[1]
        if scored.answer is not VECTOR and not scored.answer.reduced and columns != len(label_names):
            raise DataError(f"{scored.name} scores {columns} labels, the data has {len(label_names)}")
        if scored.labels.shape != first.labels.shape or not agree(scored.labels, first.labels).all():
            raise DataError(
                f"{scored.name} and {first.name} were scored on other rows ({len(scored.labels)} and "
                f"{len(first.labels)}, or in another order): score every model on the test split as it is"
            )


def _stacked(models: Sequence[Scored]) -> Array:
    """Predictions [S, N]."""
    if not models:
        raise DataError("a comparison needs a student and its twin: every claim about distilling is against the twin")
    return np.stack([scored.predicted for scored in models])


def _gap_closed(metric: Metric, labels: Array, teacher: float, ours: Array, theirs: Array) -> float | None:
    """(student - twin) / (teacher - twin), means over seeds; None where the teacher is not better than the twin."""
    student = float(np.mean([metric.function(labels, one) for one in ours]))
    twin = float(np.mean([metric.function(labels, one) for one in theirs]))
    gap = metric.gain(teacher, twin)
    return metric.gain(student, twin) / gap if gap > 1e-12 else None


def _abstain(artefact: Scored) -> dict[str, Any] | None:
    """What the threshold that was chosen on validation does on test."""
    if artefact.threshold is None:
        return None
    kept = artefact.confidence >= artefact.threshold
    return {
        "threshold": artefact.threshold,
        "coverage": float(kept.mean()),
        "accuracy": float(artefact.correct[kept].mean()) if kept.any() else None,
    }
