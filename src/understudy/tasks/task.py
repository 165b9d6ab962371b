"""What the data is and how success is measured, as one record per task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from understudy.baselines import Baseline
from understudy.data import Splits


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        name: as in recipes and in ``run.json``.
        fields: raw columns of a row, without the label.
        metrics: names of the metrics that are measured (``statistics.METRICS``).
        primary: the one that decides unless the recipe says another.
        baselines: cheap models ``(splits) -> Baseline``; the first is the majority class.
        families: student families that can learn it.
        show: a raw row -> what the report shows of it, ``{"text": ...}`` or ``{"image": "data:image/png;base64,..."}``.
    """

    name: str
    fields: tuple[str, ...]
    metrics: tuple[str, ...]
    primary: str
    baselines: tuple[Callable[[Splits], Baseline], ...]
    families: tuple[str, ...]
    show: Callable[[Mapping[str, Any]], dict[str, str]]
