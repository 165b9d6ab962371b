"""One text, one vector: cosines of the student's vectors must mean what the teacher's mean.

Nobody labels vectors: the teacher alone says what is to be learnt, of any texts. What is known of the data are scores
of pairs of texts, to measure on; without these the teacher's own cosines are what is agreed with.

The twin, the same student without the teacher, cannot hear labels that are not there. It hears the texts themselves
(`two_readings`: a text read twice with other words left out must know itself among the others), for as many steps, from
the same start. Of a static or cut student that start is the teacher's own words or layers, so that the twin is what
they are worth without a single target.
"""

from __future__ import annotations

from typing import Any

from understudy.baselines import same_vector, tfidf_vectors
from understudy.data.sentences import LAYOUT
from understudy.objectives import Term, hidden_states, two_readings
from understudy.tasks.task import Task
from understudy.tasks.text_classification import show


def _soft(temperature: float, weight: Any) -> Term:
    """The student's vector must point where the teacher's points; a temperature means nothing here."""
    return hidden_states({"logits": "logits"}, weight, distance="cosine", per="examples", name="vectors")


TASK = Task(
    name="sentence-embedding",
    layout=LAYOUT,
    metrics=("cosine_spearman", "cosine_pearson", "recall@10"),
    primary="cosine_spearman",
    baselines=(same_vector, tfidf_vectors),
    families=("static", "cut", "conv", "gru", "transformer"),
    show=show,
    hard=two_readings,
    soft=_soft,
)
