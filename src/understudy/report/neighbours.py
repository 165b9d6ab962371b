"""Texts whose nearest neighbours changed: the three that the teacher puts beside each, and the export's."""

from __future__ import annotations

from typing import Any

from understudy.report import formats
from understudy.report.facts import Facts, listed

ROWS, NEAREST = 12, 3


def section(facts: Facts, evidence: dict[str, Any]) -> list[dict[str, Any]]:
    """What the template draws of each text: whose neighbours they are, and which of them only one model has."""
    found = []
    for raw in listed(evidence, "neighbours")[:ROWS]:
        near = {role: _texts(raw.get(role)) for role in ("teacher", "artefact")}
        if raw.get("text") is None or not all(near.values()):
            continue
        sides = [
            (role, facts.called(role), [(text, text not in near[other]) for text in near[role]])
            for role, other in (("teacher", "artefact"), ("artefact", "teacher"))
        ]
        found.append({"text": formats.clip(raw["text"], 300), "sides": sides})
    return found


def _texts(raw: Any) -> list[str]:
    texts = raw[:NEAREST] if isinstance(raw, list) else []
    return [formats.clip(text, 200) for text in texts if text is not None]
