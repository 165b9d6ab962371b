"""How ``student: auto`` came to its student: every candidate that was looked at, and why it was not taken."""

from __future__ import annotations

from typing import Any

from understudy.report import formats
from understudy.report.facts import Facts, dig, listed
from understudy.report.formats import number


def section(facts: Facts) -> dict[str, Any] | None:
    """What the template draws; None for a student that was named, or where the first candidate was simply taken.

    Keys: ``why``, ``measured``, and ``rows``: (candidate, why it cannot be made, size, p95, what became of it).
    """
    candidates = listed(facts.run, "choice", "candidates")
    measured = any(number(one.get("bytes")) is not None for one in candidates)
    if not measured and len(candidates) < 2:
        return None
    why = formats.clip(dig(facts.run, "choice", "why"), 400)
    return {"why": why, "measured": measured, "rows": [_row(one) for one in candidates]}


def _row(one: dict[str, Any]) -> tuple[str, str, str, str, str]:
    skipped = one.get("skipped")
    return (
        formats.clip(one.get("name"), 60),
        formats.clip(skipped, 200) if skipped else "",
        formats.size(number(one.get("bytes"))),
        formats.milliseconds(number(one.get("p95_ms"))),
        "chosen" if one.get("fits") is True else "cannot be made" if skipped else "over a limit",
    )
