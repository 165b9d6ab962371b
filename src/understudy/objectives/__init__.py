"""What must match: plain functions of tensors, and the terms that weigh and count them.

>>> from understudy import objectives as match
>>> objective = [match.soft_labels(temperature=4.0, weight=0.7), match.hard_labels(weight=0.3)]
>>> [term.name for term in objective]
['soft_labels', 'hard_labels']
"""

from understudy.objectives import schedules
from understudy.objectives.distances import squared_error
from understudy.objectives.divergences import (
    cross_entropy,
    forward_kl,
    forward_kl_top_k,
    jensen_shannon,
    reverse_kl,
    skew_forward_kl,
    skew_reverse_kl,
    total_variation,
    uld,
)
from understudy.objectives.listing import describe
from understudy.objectives.term import Needs, Term
from understudy.objectives.terms import hard_labels, hidden_states, logit_mse, shorthand, soft_labels

__all__ = [
    "Needs",
    "Term",
    "cross_entropy",
    "describe",
    "forward_kl",
    "forward_kl_top_k",
    "hard_labels",
    "hidden_states",
    "jensen_shannon",
    "logit_mse",
    "reverse_kl",
    "schedules",
    "shorthand",
    "skew_forward_kl",
    "skew_reverse_kl",
    "soft_labels",
    "squared_error",
    "total_variation",
    "uld",
]
