"""Entities: which types are taken for which, and sentences whose entities the teacher finds and the export loses."""

from __future__ import annotations

from typing import Any

from understudy.report import formats
from understudy.report.facts import Facts, dig, listed
from understudy.report.formats import number

TYPES, ROWS, WORDS = 20, 12, 60
NONE = "no entity"
Span = tuple[int, int, str]


def section(facts: Facts, evidence: dict[str, Any]) -> dict[str, Any] | None:
    """What the template draws; None for a run without entities.

    Keys: ``tables`` (role, name, confusion), ``left_out`` (types that are too many for a table) and ``lost`` (sentences
    as pieces: words with the entity that they are).
    """
    raw = dig(evidence, "spans", "types")
    types = [formats.clip(name, 30) for name in raw] if isinstance(raw, list) else []
    grids = {role: _grid(dig(evidence, "spans", "confusion", role), len(types) + 1) for role in ("teacher", "artefact")}
    grids = {role: grid for role, grid in grids.items() if grid and types}
    lost = [row for row in (_sentence(facts, one) for one in listed(evidence, "spans", "lost")[:ROWS]) if row]
    if not grids and not lost:
        return None
    shown = _commonest(next(iter(grids.values())), len(types)) if grids else []
    names = [types[i] for i in shown] + [NONE]
    return {
        "tables": [
            (role, facts.called(role), _table(grid, [*shown, len(types)], names)) for role, grid in grids.items()
        ],
        "columns": names,
        "left_out": len(types) - len(shown),
        "lost": lost,
    }


def _grid(raw: Any, size: int) -> list[list[float]]:
    """Counts [size, size]; empty where they are not that."""
    rows = [row for row in raw if isinstance(row, list) and len(row) == size] if isinstance(raw, list) else []
    if len(rows) != size:
        return []
    return [[number(count) or 0.0 for count in row] for row in rows]


def _commonest(grid: list[list[float]], types: int) -> list[int]:
    """The types with the most entities, in their own order."""
    order = sorted(range(types), key=lambda i: -sum(grid[i]))
    return sorted(order[:TYPES])


def _table(grid: list[list[float]], shown: list[int], names: list[str]) -> list[dict[str, Any]]:
    """A row per gold type; ``weight`` is a cell's share of its row, for its tint."""
    rows = []
    for i, name in zip(shown, names, strict=True):
        whole = sum(grid[i]) or 1.0
        cells = []
        for j in shown:
            nothing = i == j == len(grid) - 1  # where neither has an entity there is nothing to count
            kind = "none" if nothing or not grid[i][j] else "right" if i == j else "wrong"
            count = "" if nothing else formats.whole(grid[i][j])
            cells.append({"count": count, "kind": kind, "weight": f"{100 * grid[i][j] / whole:.0f}"})
        rows.append({"name": name, "cells": cells})
    return rows


def _sentence(facts: Facts, raw: dict[str, Any]) -> dict[str, Any] | None:
    words = raw.get("words")
    if not isinstance(words, list) or not words:
        return None
    said = {role: _spans(raw.get(role), len(words)) for role in ("gold", "teacher", "artefact")}
    lost = [span for span in said["gold"] if span in said["teacher"] and span not in said["artefact"]]
    texts = [formats.clip(word, 40) for word in words]
    return {
        "pieces": _pieces(texts, said["gold"], lost),
        "says": [
            (role, facts.called(role), _written(texts, said[role], said["gold"])) for role in ("teacher", "artefact")
        ],
    }


def _spans(raw: Any, words: int) -> list[Span]:
    """[first word, word behind the last, type] that lie within the sentence, in order."""
    found = []
    for one in raw if isinstance(raw, list) else ():
        if isinstance(one, list) and len(one) == 3 and number(one[0]) is not None and number(one[1]) is not None:
            start, end = int(one[0]), int(one[1])
            if 0 <= start < end <= words:
                found.append((start, end, formats.clip(one[2], 30)))
    return sorted(found)


def _pieces(words: list[str], gold: list[Span], lost: list[Span]) -> list[dict[str, str]]:
    """The sentence, cut where an entity of the data begins or ends; at most ``WORDS`` words of it."""
    found, at = [], 0
    for start, end, kind in gold:
        if start < at or end > WORDS:
            continue
        found.append({"text": " ".join(words[at:start]), "kind": ""})
        fate = "gone" if (start, end, kind) in lost else ""
        found.append({"text": " ".join(words[start:end]), "kind": kind, "fate": fate})
        at = end
    tail = " ".join(words[at:WORDS]) + (" …" if len(words) > WORDS else "")
    return [piece for piece in [*found, {"text": tail, "kind": ""}] if piece["text"].strip()]


def _written(words: list[str], spans: list[Span], gold: list[Span]) -> list[dict[str, Any]]:
    """What a model found, and whether the data has it too."""
    return [
        {"text": formats.clip(" ".join(words[start:end]), 60), "kind": kind, "right": (start, end, kind) in gold}
        for start, end, kind in spans[:WORDS]
    ]
