"""A row of a table, one label or one score: every column but the label's is read, numbers and names alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.baselines import linear_classes, linear_score, majority, mean_score
from understudy.data.layouts import TABLES, TABLES_OF_SCORES
from understudy.objectives import hard_labels, hard_scores, soft_labels
from understudy.tasks.regression import soft_scores
from understudy.tasks.task import Task

_SHOWN = 8  # columns of a row in the report


def show(row: Mapping[str, Any]) -> dict[str, str]:
    """The first columns of a row.

    >>> show({"age": 41.0, "city": "Bern"})
    {'text': 'age 41 · city Bern'}
    """
    parts = [f"{name} {_value(value)}" for name, value in list(row.items())[:_SHOWN]]
    return {"text": " · ".join(parts) + (" …" if len(row) > _SHOWN else "")}


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:40] if value not in (None, "") else "–"


CLASSES = Task(
    name="tabular-classification",
    layout=TABLES,
    metrics=("accuracy", "macro_f1"),
    primary="accuracy",
    baselines=(majority, linear_classes),
    families=("mlp",),
    show=show,
    hard=hard_labels,
    soft=soft_labels,
)
SCORES = Task(
    name="tabular-regression",
    layout=TABLES_OF_SCORES,
    metrics=("r2", "pearson", "spearman"),
    primary="r2",
    baselines=(mean_score, linear_score),
    families=("mlp",),
    show=show,
    hard=hard_scores,
    soft=soft_scores,
)
