"""Intervals, tests and calibration: pure functions of numpy arrays. Metrics are shares in [0, 1], not percent.

scipy is imported inside the functions that need it, so that importing this package stays cheap.
"""

from understudy.statistics.calibration import (
    coverage_curve,
    ece,
    fit_temperature,
    log_softmax,
    reliability,
    softmax,
    threshold_for,
)
from understudy.statistics.intervals import Interval, difference, interval, ratio, wilson
from understudy.statistics.metrics import METRICS, Metric, metric_named, recall_per_class
from understudy.statistics.significance import auroc, auroc_interval, benjamini_hochberg, holm, mcnemar

__all__ = [
    "METRICS",
    "Interval",
    "Metric",
    "auroc",
    "auroc_interval",
    "benjamini_hochberg",
    "coverage_curve",
    "difference",
    "ece",
    "fit_temperature",
    "holm",
    "interval",
    "log_softmax",
    "mcnemar",
    "metric_named",
    "ratio",
    "recall_per_class",
    "reliability",
    "softmax",
    "threshold_for",
    "wilson",
]
