"""Tasks: what the data is and how success is measured. Names in recipes are looked up in ``TASKS``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from understudy.errors import UsageError, choices
from understudy.tasks import image_classification, text_classification
from understudy.tasks.task import Task

__all__ = ["TASKS", "Task", "infer", "task_named"]

TASKS: Mapping[str, Task] = MappingProxyType(
    {task.name: task for task in (text_classification.TASK, image_classification.TASK)}
)


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


def infer(columns: Iterable[str]) -> Task:
    """The one task whose columns are all there.

    >>> infer(["text", "label"]).name
    'text-classification'

    Raises:
        UsageError: none fits, or several do.
    """
    there = list(columns)
    fitting = [task for task in TASKS.values() if set(task.fields) <= set(there)]
    if len(fitting) != 1:
        wanted = "; ".join(f"{task.name} reads {', '.join(task.fields)}" for task in TASKS.values())
        problem = "several tasks fit" if fitting else "no task fits"
        raise UsageError(f"{problem} the columns {', '.join(there) or '(none)'} ({wanted}); name one with --task")
    return fitting[0]
