"""Questions whose answers moved: what the data, the teacher and the export take out of the text."""

from __future__ import annotations

from typing import Any

from understudy.report import formats
from understudy.report.facts import Facts, listed

ROWS, AROUND = 12, 170  # characters of the text that are shown on each side of an answer


def section(facts: Facts, evidence: dict[str, Any]) -> list[dict[str, Any]]:
    """What the template draws of each question on which teacher and export differ.

    Keys of each: ``question``, ``before``, ``found``, ``after`` (the text around the answer of the data) and ``says``.
    """
    rows = []
    for raw in listed(evidence, "answers"):
        said = {role: raw.get(role) for role in ("teacher", "artefact")}
        if raw.get("question") is None or said["teacher"] == said["artefact"]:
            continue
        gold = [str(text) for text in raw["gold"] if text is not None] if isinstance(raw.get("gold"), list) else []
        truth = [formats.clip(text, 120) for text in dict.fromkeys(gold)][:3]
        lines = [("data", "data", truth)]
        lines += [(role, facts.called(role), [formats.clip(text, 120)] if text else []) for role, text in said.items()]
        rows.append(
            {"question": formats.clip(raw["question"], 300), **_around(raw.get("context"), gold), "says": lines}
        )
    return rows[:ROWS]


def _around(context: Any, gold: list[str]) -> dict[str, str]:
    """The part of the text that holds the first answer of the data; its beginning where there is none."""
    text = context if isinstance(context, str) else ""
    answer = next((one for one in gold if one and one in text), "")
    if not answer:
        return {"before": formats.clip(text, 2 * AROUND) if text else "", "found": "", "after": ""}
    at = text.index(answer)
    start, end = max(0, at - AROUND), at + len(answer) + AROUND
    return {
        "before": ("…" if start else "") + text[start:at],
        "found": formats.clip(answer, 200),
        "after": text[at + len(answer) : end] + ("…" if end < len(text) else ""),
    }
