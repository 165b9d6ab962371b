"""Tasks: what the data is and how success is measured. Names in recipes are looked up in ``TASKS``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from understudy.data.layouts import Layout
from understudy.errors import UsageError, choices
from understudy.tasks import (
    causal_lm,
    image_classification,
    masked_language_model,
    multi_label,
    pair_classification,
    question_answering,
    regression,
    sentence_embedding,
    tabular,
    text_classification,
    token_classification,
)
from understudy.tasks.task import Task

__all__ = ["LAYOUTS", "TASKS", "Task", "task_named"]

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            *(text_classification.TASK, pair_classification.TASK, multi_label.TASK, regression.TASK),
            *(token_classification.TASK, question_answering.TASK),
            *(sentence_embedding.TASK, masked_language_model.TASK, causal_lm.TASK),
            *(image_classification.TASK, tabular.CLASSES, tabular.SCORES),
        )
    }
)
LAYOUTS: Mapping[str, Layout] = MappingProxyType({name: task.layout for name, task in TASKS.items()})
"""What every task reads, for ``data.load``."""


def task_named(name: str | Task) -> Task:
    """The task of that name.

    Raises:
        UsageError: there is none, with the names that there are.
    """
    if isinstance(name, Task):
        return name
    if name not in TASKS:
        raise UsageError(f'no task "{name}": {choices(name, TASKS)}')
    return TASKS[name]
