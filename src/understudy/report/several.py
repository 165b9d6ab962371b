"""Rows with several labels of which teacher and export hold others: what the data and both of them say."""

from __future__ import annotations

from typing import Any

from understudy.report import formats
from understudy.report.facts import Facts, listed

ROWS, LABELS = 12, 12
SIGNS = {"": "", "missing": "−", "extra": "+"}  # never colour alone


def section(facts: Facts, evidence: dict[str, Any]) -> list[dict[str, Any]]:
    """What the template draws of each row: its text, and the labels of data, teacher and export.

    Labels that the data has and a model has not are marked as missing, those that only a model has as extra.
    """
    found = []
    for raw in listed(evidence, "apart")[:ROWS] if facts.answer == "labels" else ():
        said = {key: raw.get(key) for key in ("data", "teacher", "artefact")}
        if not all(isinstance(names, list) for names in said.values()):
            continue
        lists = {key: [str(name) for name in names if name is not None] for key, names in said.items()}
        lines = [(key, facts.called(key), _marked(lists["data"], names)) for key, names in lists.items()]
        found.append({"text": formats.clip(raw.get("text", ""), 420), "lines": lines})
    return found


def _marked(truth: list[str], said: list[str]) -> list[tuple[str, str, str]]:
    """(what it is, its sign, name) of each label, in the order of the data and then of the model."""
    kinds = [("" if name in said else "missing", name) for name in truth]
    kinds += [("extra", name) for name in said if name not in truth]
    shown = [(kind, SIGNS[kind], formats.clip(name, 40)) for kind, name in kinds[:LABELS]]
    return shown + ([("more", "", f"and {len(kinds) - LABELS} more")] if len(kinds) > LABELS else [])
