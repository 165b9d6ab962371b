"""Two texts, one label: paraphrases, entailment, questions and their answers."""

from __future__ import annotations

from understudy.baselines import majority, tfidf_svm
from understudy.data.layouts import PAIRS, Layout
from understudy.objectives import hard_labels, soft_labels
from understudy.tasks.task import Task
from understudy.tasks.text_classification import show

TASK = Task(
    name="pair-classification",
    layout=Layout((PAIRS[0],)),
    metrics=("accuracy", "f1"),
    primary="accuracy",
    baselines=(majority, tfidf_svm),
    families=("cut", "static", "ngram", "conv", "gru", "transformer"),
    show=show,
    hard=hard_labels,
    soft=soft_labels,
)
