"""One text or two, several labels at once: topics, what is asked for, what a sentence contains.

Every label is a yes or no of its own. A label holds where its probability reaches its threshold, which is chosen on
validation, for each label, and ships with the artefact.
"""

from __future__ import annotations

from understudy.baselines import label_shares, tfidf_svms
from understudy.data.layouts import PAIRS, Layout
from understudy.objectives import hard_multi_label
from understudy.objectives import multi_label as near_labels
from understudy.tasks.task import Task
from understudy.tasks.text_classification import show

TASK = Task(
    name="multi-label",
    layout=Layout((("text",), PAIRS[0]), answer="labels", labels=("label", "labels")),
    metrics=("labels_micro_f1", "labels_macro_f1", "exact_match"),
    primary="labels_micro_f1",
    baselines=(label_shares, tfidf_svms),
    families=("static", "ngram", "conv", "cut", "gru", "transformer"),
    show=show,
    hard=hard_multi_label,
    soft=near_labels,
)
