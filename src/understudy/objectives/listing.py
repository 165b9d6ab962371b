"""What there is to match with, as rows: for ``understudy objectives``."""

from __future__ import annotations

from typing import Any

from understudy.objectives import distances, divergences
from understudy.objectives.attention import energy, maps
from understudy.objectives.features import reviewing, states, statistics
from understudy.objectives.relations import contrast, pairs, readings
from understudy.objectives.responses import correlation, decoupled, facts, labels, scores, tokens
from understudy.objectives.term import ZERO

__all__ = ["describe"]

_FAMILIES: tuple[Any, ...] = (
    *(correlation, decoupled, facts, labels, scores, tokens),
    *(reviewing, states, statistics),
    *(energy, maps),
    *(contrast, pairs, readings),
)
"""Modules of terms. Each has ``LISTED``, an example of every builder with its value at equality, and may have
``FORMULAS``, rows of plain functions as below."""

# name, formula, value at equality, source
_DIVERGENCES: tuple[tuple[str, str, str, str], ...] = (
    ("cross_entropy", "-log Q_label", "none: 0 only for a certain and right student", ""),
    ("forward_kl", "KL(P || Q)", ZERO, "Hinton, Vinyals, Dean 2015, arXiv 1503.02531"),
    (
        "forward_kl_top_k",
        "KL(P || Q) on the top k and the rest as one",
        ZERO,
        "Anshumann et al. 2025, arXiv 2503.16870",
    ),
    (
        "jensen_shannon",
        "beta KL(P || M) + (1 - beta) KL(Q || M), M = beta P + (1 - beta) Q",
        ZERO,
        "Agarwal et al. 2024, arXiv 2306.13649",
    ),
    ("reverse_kl", "KL(Q || P)", ZERO, "Gu et al. 2024, arXiv 2306.08543"),
    ("skew_forward_kl", "KL(P || skew P + (1 - skew) Q)", ZERO, "Ko et al. 2024, arXiv 2402.03898"),
    ("skew_reverse_kl", "KL(Q || skew Q + (1 - skew) P)", ZERO, "Ko et al. 2024, arXiv 2402.03898"),
    ("squared_error", "1/D sum (student - teacher)^2", ZERO, ""),
    ("total_variation", "1/2 sum |P - Q|", ZERO, "Wen et al. 2023, arXiv 2307.15190"),
    ("uld", "sum |sort(P) - sort(Q)|", ZERO, "Boizard et al. 2024, arXiv 2402.12030"),
)


def describe() -> list[dict[str, Any]]:
    """One row for each term, then one for each plain function, sorted by name.

    Keys: kind ("term" or "divergence"), name, says (one line), formula, per, needs ({"learner": [...],
    "source": [...]}), source, at_equality, coupled. P is the teacher's distribution, Q the student's.

    >>> next(row["says"].split(";")[0] for row in describe() if row["name"] == "hard_labels")
    'The student must say the label of the data'
    """
    rows: list[dict[str, Any]] = [
        {
            "kind": "term",
            "name": term.name,
            "says": _says(term.name),
            "formula": term.formula,
            "per": term.per,
            "needs": {"learner": sorted(term.needs.learner), "source": sorted(term.needs.source)},
            "source": term.source,
            "at_equality": at_equality,
            "coupled": term.coupled,
        }
        for term, at_equality in sorted(
            (row for family in _FAMILIES for row in family.LISTED), key=lambda row: row[0].name
        )
    ]
    rows += [
        {
            "kind": "divergence",
            "name": name,
            "says": _says(name),
            "formula": formula,
            "per": "position",
            "needs": {"learner": ["logits"], "source": [] if name == "cross_entropy" else ["logits"]},
            "source": source,
            "at_equality": at_equality,
            "coupled": False,
        }
        for name, formula, at_equality, source in sorted(
            (*_DIVERGENCES, *(row for family in _FAMILIES for row in getattr(family, "FORMULAS", ())))
        )
    ]
    return rows


def _says(name: str) -> str:
    """The first line of a builder's or function's own docstring."""
    homes = (*_FAMILIES, divergences, distances)
    home = next(module for module in homes if hasattr(module, name))
    return (getattr(home, name).__doc__ or "").strip().splitlines()[0]
