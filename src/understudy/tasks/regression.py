"""One text or two, one number: a rating, a similarity, a price.

Scores are learnt with mean 0 and deviation 1, those of the training rows, and given back on the scale of the data. They
are not softened: no temperature applies, nothing is right or wrong, and nobody abstains.
"""

from __future__ import annotations

from typing import Any

from understudy.baselines import mean_score, tfidf_ridge
from understudy.data.layouts import PAIRS, Layout
from understudy.objectives import Term, hard_scores
from understudy.objectives import regression as near_scores
from understudy.tasks.task import Task
from understudy.tasks.text_classification import show


def soft_scores(temperature: float, weight: Any) -> Term:
    """The student's score must be the teacher's; a temperature means nothing here."""
    return near_scores(weight)


TASK = Task(
    name="regression",
    layout=Layout((("text",), PAIRS[0]), answer="score", label="score"),
    metrics=("pearson", "spearman", "r2"),
    primary="spearman",
    baselines=(mean_score, tfidf_ridge),
    families=("cut", "static", "ngram", "conv", "gru", "transformer"),
    show=show,
    hard=hard_scores,
    soft=soft_scores,
)
