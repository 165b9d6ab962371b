"""Who gains and who loses: the classes that moved most, with the significant ones marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from understudy.report.charts import dumbbell
from understudy.report.drawing import Axis
from understudy.report.facts import Facts, listed
from understudy.report.formats import clip, number, share, signed

LOSSES, GAINS = 20, 5
RATE = 0.05  # of false discoveries


@dataclass(frozen=True)
class Moved:
    """One class: the teacher's and the exported model's score on its rows."""

    label: str
    teacher: float
    export: float
    significant: bool
    rows: float | None

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
            result.append(Moved(clip(r.get("label", ""), 60), teacher, export, marked, number(r.get("rows"))))
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
    return {
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
