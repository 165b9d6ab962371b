"""Texts without labels: what stands where a token is hidden. The student is a smaller general encoder.

Nobody labels anything: of every text some tokens are hidden (`encoding.masked`), and a text is its own label. Teacher
and student read the same hidden text, anew in every epoch, so that the teacher is asked while the student learns.

The twin is the same cut student, from the same start, which hears the hidden tokens alone.
"""

from __future__ import annotations

from functools import partial

from understudy.baselines import unigrams
from understudy.data.corpus import LAYOUT
from understudy.objectives import hard_labels, soft_labels
from understudy.tasks.task import Task
from understudy.tasks.text_classification import show

TASK = Task(
    name="masked-language-model",
    layout=LAYOUT,
    metrics=("masked_loss", "masked_accuracy"),
    primary="masked_loss",
    baselines=(unigrams,),
    families=("cut",),
    show=show,
    hard=hard_labels,
    soft=partial(soft_labels, per="words"),
    per="words",
)
