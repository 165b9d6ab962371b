"""What must match: plain functions of tensors, and the terms that weigh and count them.

>>> from understudy import objectives as match
>>> objective = [match.soft_labels(temperature=4.0, weight=0.7), match.hard_labels(weight=0.3)]
>>> [term.name for term in objective]
['soft_labels', 'hard_labels']
"""

from understudy.objectives import schedules
from understudy.objectives.attention.energy import attention_transfer
from understudy.objectives.attention.maps import attention_maps, self_attention_relations
from understudy.objectives.distances import cosine_distance, squared_error
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
from understudy.objectives.features.layers import layer_map
from understudy.objectives.features.reviewing import review
from understudy.objectives.features.states import embeddings, hidden_states, hints, patient
from understudy.objectives.features.statistics import neuron_selectivity, probabilistic, variational_information
from understudy.objectives.listing import describe
from understudy.objectives.relations.contrast import contrastive
from understudy.objectives.relations.pairs import correlation_congruence, rkd_angle, rkd_distance, similarity_preserving
from understudy.objectives.relations.readings import two_readings
from understudy.objectives.responses.correlation import correlation_distance, dist, logit_standardisation, standardise
from understudy.objectives.responses.decoupled import decoupled_kd, decoupled_kl
from understudy.objectives.responses.facts import hard_multi_label, hard_scores
from understudy.objectives.responses.labels import hard_labels, logit_mse, shorthand, soft_labels
from understudy.objectives.responses.scores import binary_kl, multi_label, regression, virtual_teacher
from understudy.objectives.responses.tokens import hard_tokens, sampled_tokens, soft_tokens
from understudy.objectives.term import Needs, Term

__all__ = [
    "Needs",
    "Term",
    "attention_maps",
    "attention_transfer",
    "binary_kl",
    "contrastive",
    "correlation_congruence",
    "correlation_distance",
    "cosine_distance",
    "cross_entropy",
    "decoupled_kd",
    "decoupled_kl",
    "describe",
    "dist",
    "embeddings",
    "forward_kl",
    "forward_kl_top_k",
    "hard_labels",
    "hard_multi_label",
    "hard_scores",
    "hard_tokens",
    "hidden_states",
    "hints",
    "jensen_shannon",
    "layer_map",
    "logit_mse",
    "logit_standardisation",
    "multi_label",
    "neuron_selectivity",
    "patient",
    "probabilistic",
    "regression",
    "reverse_kl",
    "review",
    "rkd_angle",
    "rkd_distance",
    "sampled_tokens",
    "schedules",
    "self_attention_relations",
    "shorthand",
    "similarity_preserving",
    "skew_forward_kl",
    "skew_reverse_kl",
    "soft_labels",
    "soft_tokens",
    "squared_error",
    "standardise",
    "total_variation",
    "two_readings",
    "uld",
    "variational_information",
    "virtual_teacher",
]
