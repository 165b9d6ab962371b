"""What the data is and how success is measured, as one record per task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from understudy.answers import Answer, answer_named
from understudy.baselines import Baseline
from understudy.data.layouts import EVERY, Layout
from understudy.objectives import Term

Weight = Any


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        name: as in recipes and in ``run.json``.
        layout: columns of a row, and what its labels are.
        metrics: names of the metrics that are measured (``statistics.METRICS``).
        primary: the one that decides unless the recipe says another.
        baselines: cheap models ``(splits) -> Baseline``; the first knows nothing of a row, or of a word only itself.
            Where tokens are hidden ``(splits, encoder) -> Baseline``: another tokenizer hides others.
        families: student families that can learn it.
        show: a raw row -> what the report shows of it, ``{"text": ...}`` or ``{"image": "data:image/png;base64,..."}``.
        hard: builds the term that hears the labels: ``(weight, of=...)``; where rows have none, what can be learnt of
            the rows alone, which only the twin hears.
        soft: builds the term that hears the teacher: ``(temperature, weight)``; scores and vectors have no temperature.
        per: the mask that terms on logits count: rows, or words.
        problem: what transformers call it (``config.problem_type``).
    """

    name: str
    layout: Layout
    metrics: tuple[str, ...]
    primary: str
    baselines: tuple[Callable[..., Baseline], ...]
    families: tuple[str, ...]
    show: Callable[[Mapping[str, Any]], dict[str, str]]
    hard: Callable[..., Term]
    soft: Callable[[float, Weight], Term]
    per: str = "examples"

    @property
    def answer(self) -> Answer:
        """What the logits mean."""
        return answer_named(self.layout.answer)

    @property
    def tabular(self) -> bool:
        """Whether it reads every column of a table."""
        return self.layout.fields == ((EVERY,),)

    def shorthand(self, alpha: float, temperature: float) -> list[Term]:
        """The two-dial objective: ``alpha`` of the labels, the rest of the teacher; a term of weight 0 is left out.

        Where rows have no labels the teacher is all that is heard.
        """
        if not self.answer.labelled:
            return [self.soft(temperature, 1.0)]
        terms = [self.soft(temperature, 1.0 - alpha), self.hard(float(alpha))]
        return [term for term in terms if term.weight]
