"""Who loses: classes, single rows, and rows that belong to no class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from understudy.answers import SPAN, TAGS, agree
from understudy.errors import LabelError, choices
from understudy.evaluation.entities import per_type
from understudy.evaluation.scored import Scored
from understudy.statistics import (
    Metric,
    auroc_interval,
    average_precision,
    benjamini_hochberg,
    interval,
    mcnemar,
)
from understudy.statistics.metrics import Array


def per_class(teacher: Scored, artefact: Scored, *, label_names: Sequence[str]) -> list[dict[str, Any]]:
    """Recall of teacher and artefact per class, the greatest loss first; of several labels and of entities their F1; of
    scores and of answers in a text nothing.

    ``p_value`` is the exact McNemar test on the rows of that class, adjusted over the classes (Benjamini-Hochberg).
    Classes without test rows have no recall and are left out.

    Returns:
        ``{"label", "teacher", "artefact", "p_value", "rows"}`` per class; of several labels ``threshold`` and
        ``average_precision`` {"teacher", "artefact"} too, and ``measure`` says what was measured where it is no recall.
    """
    if not teacher.answer.decides or teacher.answer is SPAN:
        return []
    if teacher.answer is TAGS:
        return per_type(teacher, artefact, label_names=label_names)
    if teacher.labels.ndim == 2:
        return _per_label(teacher, artefact, label_names)
    classes = len(label_names)

    def rows_where(kept: Array) -> Array:
        return np.bincount(teacher.labels[kept], minlength=classes)

    rows = np.bincount(teacher.labels, minlength=classes)
    kept, found = rows_where(teacher.correct), rows_where(artefact.correct)
    lost, won = rows_where(teacher.correct & ~artefact.correct), rows_where(~teacher.correct & artefact.correct)
    present = np.flatnonzero(rows).tolist()
    adjusted = benjamini_hochberg([mcnemar(int(lost[c]), int(won[c])) for c in present])
    table = [
        {
            "label": label_names[c],
            "teacher": float(kept[c] / rows[c]),
            "artefact": float(found[c] / rows[c]),
            "p_value": float(p),
            "rows": int(rows[c]),
        }
        for c, p in zip(present, adjusted, strict=True)
    ]
    return sorted(table, key=lambda line: line["artefact"] - line["teacher"])


def _per_label(teacher: Scored, artefact: Scored, label_names: Sequence[str]) -> list[dict[str, Any]]:
    """F1 of each label that some row has; the test compares who is right about the label, row by row."""
    truth = teacher.labels
    present = np.flatnonzero(truth.sum(0)).tolist()
    right, left = teacher.predicted == truth, artefact.predicted == truth
    lost, won = (right & ~left).sum(0), (~right & left).sum(0)
    adjusted = benjamini_hochberg([mcnemar(int(lost[k]), int(won[k])) for k in present])
    precision = [average_precision(truth, one.logits) for one in (teacher, artefact)]
    table = [
        {
            "label": label_names[k],
            "teacher": _f1(truth[:, k], teacher.predicted[:, k]),
            "artefact": _f1(truth[:, k], artefact.predicted[:, k]),
            "p_value": float(p),
            "rows": int(truth[:, k].sum()),
            "measure": "f1",
            "threshold": 0.5 if artefact.thresholds is None else artefact.thresholds[k],
            "average_precision": {"teacher": float(precision[0][k]), "artefact": float(precision[1][k])},
        }
        for k, p in zip(present, adjusted, strict=True)
    ]
    return sorted(table, key=lambda line: line["artefact"] - line["teacher"])


def _f1(truth: Array, said: Array) -> float:
    return float(2 * (truth * said).sum() / max(int((truth + said).sum()), 1))


def disagreements(teacher: Scored, artefact: Scored, *, most: int = 12) -> list[int]:
    """Rows where the two disagree, those first where the less sure of the two is surest; scores that are farthest."""
    if not teacher.answer.decides:
        return np.argsort(-np.abs(teacher.predicted - artefact.predicted), kind="stable")[:most].tolist()
    rows = np.flatnonzero(~agree(teacher.predicted, artefact.predicted))
    sureness = np.minimum(teacher.confidence[rows], artefact.confidence[rows])
    return [int(row) for row in rows[np.argsort(-sureness, kind="stable")][:most]]


def out_of_scope(
    models: Mapping[str, Scored],
    *,
    label: str,
    label_names: Sequence[str],
    metric: Metric,
    seed: int,
    draws: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How well rows that belong to no class are told apart, and the metric on the rows that do.

    The score of a row is 1 - the highest calibrated probability among the in-scope labels, so that a model without the
    label can be scored too. In scope means: rows whose label is not ``label``, plain argmax over all labels.

    Args:
        models: name -> scores on the same rows; ``artefact`` and ``teacher`` must be there.
        label: name of the label that means "none of the others".
        label_names: [K].
        metric: of the in-scope rows.
        seed: of the bootstrap.
        draws: of the bootstrap.

    Returns:
        ``{"label", "score", "rows", "auroc": {"value", "low", "high"} or None, "models": {name: ...}}`` and
        ``{"metric", "rows", "value", "low", "high", "retention", "models": {name: {"value", "low", "high"}}}``;
        the numbers outside ``models`` are the artefact's.

    Raises:
        LabelError: no such label.
    """
    if label not in label_names:
        raise LabelError(f'no label "{label}" to mean out of scope: {choices(label, label_names)}')
    index = list(label_names).index(label)
    outside = models["artefact"].labels == index
    areas = {name: auroc_interval(_scope_score(scored, index), outside) for name, scored in models.items()}
    told = {name: area.as_dict() if area else None for name, area in areas.items()}
    scope = {
        "label": label,
        "score": "1 - highest calibrated in-scope probability",
        "rows": int(outside.sum()),
        "auroc": told["artefact"],
        "models": told,
    }
    if outside.all():
        return scope, {"metric": metric.name, "rows": 0, "value": None, "low": None, "high": None, "retention": None}
    inside = {
        name: interval(metric, s.labels[~outside], s.predicted[~outside], seed=seed, draws=draws)
        for name, s in models.items()
    }
    kept, whole = inside["artefact"], inside["teacher"].value
    return scope, {
        "metric": metric.name,
        "rows": int((~outside).sum()),
        **kept.as_dict(),
        "retention": kept.value / whole if whole else None,
        "models": {name: one.as_dict() for name, one in inside.items()},
    }


def _scope_score(scored: Scored, index: int) -> Array:
    return 1 - np.delete(scored.probabilities, index, axis=1).max(axis=1)
