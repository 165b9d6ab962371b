"""What metrics are called and how their values are written, wherever a person reads them: page, card, terminal, charts.

A metric is a share, written in per cent, or a fraction, such as a correlation, written as it is. A difference of either
is given in points, which are hundredths.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "labels_micro_f1": "micro F1",
        "labels_macro_f1": "macro F1",
        "pearson": "Pearson correlation",
        "spearman": "Spearman correlation",
        "r2": "R²",
        "cosine_spearman": "Spearman correlation of cosines",
        "cosine_pearson": "Pearson correlation of cosines",
        "span_f1": "F1 of answers",
        "span_em": "exact match of answers",
        "masked_loss": "masked loss",
        "token_loss": "loss per token",
        "bits_per_byte": "bits per byte",
    }
)
"""Names that are more than their key with spaces."""
FRACTIONS = frozenset(
    {
        *("pearson", "spearman", "r2", "cosine_spearman", "cosine_pearson"),
        *("masked_loss", "token_loss", "perplexity", "bits_per_byte"),
    }
)
"""Metrics that are no share of anything: 0.873 is not 87.3 %. Losses are in nats for each token."""
_KNOWN = {"f1": "F1", "ece": "ECE", "mb": "MB", "auroc": "AUROC", "int8": "INT8", "onnx": "ONNX", "cpu": "CPU"}


def words(key: str) -> str:
    """A key as words.

    >>> words("macro_f1"), words("max_mb"), words("piece"), words("recall of pin_change")
    ('macro F1', 'max MB', 'piece', 'recall of pin_change')
    """
    if " " in str(key):
        return str(key)  # a phrase already: what looks like a key in it is the name of a label
    return " ".join(_KNOWN.get(part, part) for part in str(key).split("_"))


def metric_name(key: str) -> str:
    """What a metric is called in a sentence.

    >>> metric_name("labels_micro_f1"), metric_name("spearman"), metric_name("entity_f1")
    ('micro F1', 'Spearman correlation', 'entity F1')
    """
    return METRICS.get(str(key), words(key))


def percent(share: float) -> str:
    """A share in per cent, one decimal."""
    return f"{100 * share:.1f} %"


def measured(metric: str, value: float) -> str:
    """A value of a metric.

    >>> measured("accuracy", 0.9712), measured("pearson", 0.9712)
    ('97.1 %', '0.971')
    """
    return f"{value:.3f}" if metric in FRACTIONS else percent(value)


def reached(metric: str, value: float) -> str:
    """A value with the name of its metric, as the object of a sentence.

    >>> reached("labels_micro_f1", 0.9712), reached("spearman", 0.9712)
    ('97.1 % micro F1', 'a Spearman correlation of 0.971')
    """
    name = metric_name(metric)
    article = "an" if name.startswith("R") else "a"
    return f"{article} {name} of {measured(metric, value)}" if metric in FRACTIONS else f"{percent(value)} {name}"
