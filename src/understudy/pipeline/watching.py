"""From the training's facts to whoever listens to the run."""

from __future__ import annotations

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
