"""Cheap models without a network: what a student has to be compared with before anyone believes in it.

Every baseline is a function ``(splits) -> Baseline``, deterministic, fitted on the labelled training rows, with its one
dial (if any) chosen on validation. Its scores are on no particular scale: like every other model in the table they get
one temperature on validation, elsewhere. The test split is not touched here: ``predict`` is called at evaluation.
"""

from understudy.baselines.classes import majority, pixels_logistic, tfidf_svm
from understudy.baselines.fitted import Baseline
from understudy.baselines.masked import unigrams
from understudy.baselines.scores import label_shares, mean_score, tfidf_ridge, tfidf_svms
from understudy.baselines.spans import nearest_words, opening_words
from understudy.baselines.tables import linear_classes, linear_score
from understudy.baselines.tagging import commonest_tags, linear_tags
from understudy.baselines.vectors import same_vector, tfidf_vectors

__all__ = [
    "Baseline",
    "commonest_tags",
    "label_shares",
    "linear_classes",
    "linear_score",
    "linear_tags",
    "majority",
    "mean_score",
    "nearest_words",
    "opening_words",
    "pixels_logistic",
    "same_vector",
    "tfidf_ridge",
    "tfidf_svm",
    "tfidf_svms",
    "tfidf_vectors",
    "unigrams",
]
