"""From the training's facts to whoever listens to the run: progress for people, and accelerate's trackers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from understudy.errors import UsageError, choices
from understudy.pipeline.progress import Progress
from understudy.training import Step
from understudy.training.progress import Watch


def watch(progress: Progress, who: str) -> Watch:
    """A watcher that passes every step on: every term, agreement with the teacher, the best score and the time left."""

    def tell(step: Step) -> None:
        facts: dict[str, float | str] = {"model": who, "epoch": step.epoch, "loss": step.loss, **step.terms}
        if step.agreement is not None:
            facts["agreement"] = step.agreement
        if step.best is not None:
            facts["validation"] = step.best
        progress.advance(step.step, step.steps, **facts)

    return tell


@contextmanager
def watching(progress: Progress, who: str, *, tracker: str | None, folder: Path) -> Iterator[Watch]:
    """``watch``, and beside it one of accelerate's trackers, whose files (if it writes any) lie in ``folder``.

    Raises:
        UsageError: no such tracker, or its package is not installed.
    """
    tell = watch(progress, who)
    if tracker is None:
        yield tell
        return
    check_tracker(tracker)
    accelerator = Accelerator(log_with=tracker, project_dir=folder.parent, mixed_precision="no")
    accelerator.init_trackers(folder.name)

    def both(step: Step) -> None:
        tell(step)
        curves = {"loss": step.loss, "agreement": step.agreement, "validation": step.validation}
        curves |= {f"terms/{name}": value for name, value in step.terms.items()}
        accelerator.log({name: value for name, value in curves.items() if value is not None}, step=step.step)

    try:
        yield both
    finally:
        for one in accelerator.trackers:  # end_training() would take the group of processes along
            one.finish()


def check_tracker(name: str | None) -> None:
    """Raises UsageError where accelerate knows no such tracker, or its package is not installed. None is none."""
    if name is None:
        return
    if name not in LOGGER_TYPE_TO_CLASS:
        raise UsageError(f'train.track: no tracker "{name}": {choices(name, LOGGER_TYPE_TO_CLASS)}')
    if name not in [str(there) for there in get_available_trackers()]:
        package = name.replace("_", "-")
        raise UsageError(f"train.track: {name} needs a package that is not installed: pip install {package}")
