"""Every metric by its name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from understudy.errors import UsageError, choices
from understudy.statistics.entities import ENTITIES
from understudy.statistics.language import TOKENS
from understudy.statistics.masked import MASKED
from understudy.statistics.metrics import CLASSES, Metric
from understudy.statistics.scores import SCORES, SEVERAL
from understudy.statistics.spans import SPANS
from understudy.statistics.vectors import VECTORS

EVERY = (*CLASSES, *SCORES, *SEVERAL, *VECTORS, *ENTITIES, *SPANS, *MASKED, *TOKENS)
METRICS: Mapping[str, Metric] = MappingProxyType({one.name: one for one in EVERY})


def metric_named(name: str | Metric) -> Metric:
    """The metric of that name.

    Raises:
        UsageError: there is none.
    """
    if isinstance(name, Metric):
        return name
    if name not in METRICS:
        raise UsageError(f'no metric "{name}": {choices(name, METRICS)}')
    return METRICS[name]
