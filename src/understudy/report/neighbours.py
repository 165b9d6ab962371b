"""Texts whose nearest neighbours changed: the three that the teacher puts beside each, and the export's."""

from __future__ import annotations

from typing import Any

from understudy.report import formats
from understudy.report.facts import Facts, listed
from understudy.report.formats import number

ROWS, NEAREST = 12, 3


def section(facts: Facts, evidence: dict[str, Any]) -> list[dict[str, Any]]:
    """What the template draws of each text: its neighbours, which of them only one model has, and how near they are.

    A neighbour is a text, or ``{"text", "cosine"}``; ``shared`` says how many of the ten nearest are the same.
    """
    found = []
    for raw in listed(evidence, "neighbours")[:ROWS]:
        near = {role: _near(raw.get(role)) for role in ("teacher", "artefact")}
        if raw.get("text") is None or not all(near.values()):
            continue
        texts = {role: [text for text, _ in pairs] for role, pairs in near.items()}
        sides = [
            (role, facts.called(role), [(text, cosine, text not in texts[other]) for text, cosine in near[role]])
            for role, other in (("teacher", "artefact"), ("artefact", "teacher"))
        ]
        shared = number(raw.get("shared"))
        said = "" if shared is None else f"{shared:.0f} of the ten nearest are the same"
        found.append({"text": formats.clip(raw["text"], 300), "shared": said, "sides": sides})
    return found


def _near(raw: Any) -> list[tuple[str, str]]:
    """(text, cosine or nothing) of the nearest."""
    found = []
    for one in raw[:NEAREST] if isinstance(raw, list) else ():
        text, cosine = (one.get("text"), number(one.get("cosine"))) if isinstance(one, dict) else (one, None)
        if text is not None:
            found.append((formats.clip(text, 200), "" if cosine is None else formats.fraction(cosine, 2)))
    return found
