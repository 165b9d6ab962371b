"""Intervals, tests and calibration: pure functions of numpy arrays. Metrics are shares in [0, 1], not percent.

scipy is imported inside the functions that need it, so that importing this package stays cheap.
"""

from understudy.statistics.calibration import (
    best_thresholds,
    coverage_curve,
    ece,
    fit_binary_temperature,
    fit_temperature,
    log_softmax,
    reliability,
    softmax,
    threshold_for,
)
from understudy.statistics.intervals import Interval, difference, interval, ratio, wilson
from understudy.statistics.metrics import Metric, recall_per_class
from understudy.statistics.named import METRICS, metric_named
from understudy.statistics.scores import average_precision
from understudy.statistics.significance import auroc, auroc_interval, benjamini_hochberg, holm, mcnemar
from understudy.statistics.vectors import different, neighbours, pair_cosines

__all__ = [
    "METRICS",
    "Interval",
    "Metric",
    "auroc",
    "auroc_interval",
    "average_precision",
    "benjamini_hochberg",
    "best_thresholds",
    "coverage_curve",
    "difference",
    "different",
    "ece",
    "fit_binary_temperature",
    "fit_temperature",
    "holm",
    "interval",
    "log_softmax",
    "mcnemar",
    "metric_named",
    "neighbours",
    "pair_cosines",
    "ratio",
    "recall_per_class",
    "reliability",
    "softmax",
    "threshold_for",
    "wilson",
]
