"""A teacher that is several: what each is worth alone, and what the others are without it."""

from __future__ import annotations

from typing import Any

from understudy.report import formats
from understudy.report.facts import Facts, listed
from understudy.report.formats import number


def section(facts: Facts) -> dict[str, Any] | None:
    """What the template draws of an ensemble; None where the teacher is one model."""
    members = listed(facts.run, "ensemble")
    if not members:
        return None
    teacher = facts.models.get("teacher")
    whole = teacher.metrics.get(facts.metric) if teacher else None
    together = None if whole is None else whole.value
    labels = [number(one.get("labels")) for one in members]
    return {
        "rows": [_row(facts, one, together) for one in members],
        "whole": facts.value(together),
        "partial": len({count for count in labels if count is not None}) > 1,
    }


def _row(facts: Facts, raw: dict[str, Any], together: float | None) -> dict[str, Any]:
    alone, without = number(raw.get("metric")), number(raw.get("without"))
    known = None if together is None or without is None else without - together
    return {
        "name": formats.clip(raw.get("name"), 60),
        "weight": formats.plain(number(raw.get("weight"))),
        "temperature": formats.plain(number(raw.get("temperature"))),
        "labels": formats.whole(number(raw.get("labels"))),
        "alone": facts.value(alone),
        "rows": formats.whole(number(raw.get("rows"))),
        "without": facts.value(without),
        "change": "" if known is None else facts.delta(known),
    }
