"""Who gains and who loses: the classes that moved most, with the significant ones marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from understudy.report.charts import dumbbell
from understudy.report.drawing import Axis
from understudy.report.facts import Facts, dig, listed
from understudy.report.formats import clip, number, share, signed
from understudy.wording import metric_name

LOSSES, GAINS = 20, 5
RATE = 0.05  # of false discoveries
NOUNS = {"label": ("class", "classes"), "labels": ("label", "labels")}
RECALL = "recall: the share of a class’s rows that get its label"


@dataclass(frozen=True)
class Moved:
    """One class: the teacher's and the exported model's score on its rows, and what else is known of it."""

    label: str
    teacher: float
    export: float
    significant: bool
    rows: float | None
    threshold: float | None = None
    precision: tuple[float | None, float | None] = (None, None)  # average precision of teacher and export

    @property
    def change(self) -> float:
        """Exported model minus teacher."""
        return self.export - self.teacher


def moved(facts: Facts) -> list[Moved]:
    """Every class with two scores, the greatest loss first.

    ``p_value`` of run.json is already adjusted over the classes (Benjamini-Hochberg), so it is compared with the rate
    as it stands.
    """
    result = []
    for r in listed(facts.run, "comparison", "per_class"):
        teacher, export, p_value = (number(r.get(key)) for key in ("teacher", "artefact", "p_value"))
        if teacher is not None and export is not None:
            marked = p_value is not None and p_value <= RATE
            precision = tuple(number(dig(r, "average_precision", role)) for role in ("teacher", "artefact"))
            label, rows, threshold = clip(r.get("label", ""), 60), number(r.get("rows")), number(r.get("threshold"))
            result.append(Moved(label, teacher, export, marked, rows, threshold, (precision[0], precision[1])))
    return sorted(result, key=lambda m: m.change)


def table(facts: Facts) -> dict[str, Any] | None:
    """What the template draws: up to 20 classes by loss, then up to 5 by gain where there are more."""
    every = moved(facts)
    if not every:
        return None
    losses = every[:LOSSES]
    gains = [m for m in reversed(every[LOSSES:]) if m.change > 0][:GAINS]
    shown = losses + gains
    low = min(min(m.teacher, m.export) for m in shown)
    axis = Axis(max(0.0, low - 0.04), 1.0 if low < 1 else 1.04)
    draw = [(m, dumbbell(axis, m.teacher, m.export)) for m in losses]
    measure = next((str(r["measure"]) for r in listed(facts.run, "comparison", "per_class") if r.get("measure")), "")
    one, several = NOUNS.get(facts.answer, ("type", "types"))
    return {
        "measured": metric_name(measure) if measure else RECALL,
        "short": metric_name(measure) if measure else "recall",
        "one": one,
        "several": several,
        "each": [_known(m) for m in shown] if any(m.threshold is not None for m in shown) else [],
        "losses": [_row(m, lane) for m, lane in draw],
        "gains": [_row(m, dumbbell(axis, m.teacher, m.export)) for m in gains],
        "low": share(axis.low, 0),
        "high": share(min(axis.high, 1.0), 0),
        "worse": sum(m.change < 0 for m in every),
        "better": sum(m.change > 0 for m in every),
        "total": len(every),
        "shown": len(shown),
        "wide": min(max(5, *(len(m.label) for m in shown)), 22) + 1,
        "marked": sum(m.significant for m in every),
    }


def _row(moved: Moved, lane: Markup) -> dict[str, Any]:
    return {
        "label": moved.label,
        "lane": lane,
        "teacher": share(moved.teacher),
        "export": share(moved.export),
        "change": signed(moved.change),
        "way": "gain" if moved.change > 0 else "loss" if moved.change < 0 else "",
        "significant": moved.significant,
        "rows": moved.rows,
    }


def _known(moved: Moved) -> dict[str, Any]:
    """One of several labels: from which probability it holds, and how well its scores are in order."""
    return {
        "label": moved.label,
        "rows": moved.rows,
        "threshold": moved.threshold,
        "scores": (share(moved.teacher), share(moved.export)),
        "precision": tuple(share(value) for value in moved.precision),
    }
