"""What a student inherited, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def part(mine: int, theirs: int, source: list[Any] | None, projected: bool) -> dict[str, Any]:
    """What is kept of one size, how, and from where if it was copied."""
    known = source is not None and None not in source
    how = "whole" if mine == theirs else "copied" if known else "projected" if projected else "fresh"
    return {"kept": mine, "of": theirs, "how": how, "from": source if how == "copied" else None}


def sentence(report: Mapping[str, Any], record: Mapping[str, Any], total: int) -> str:
    """A report in one sentence; ``record`` is what the config remembers, ``total`` counts the teacher's layers."""
    layers, counts = report["layers"], report["parameters"]
    copies = [j for j in layers.values() if j is not None]
    outside = len(report["carried"]) + len(report["fresh"])
    which = ", ".join(map(str, copies)) or "(none)"
    first = f"{len(copies)} of {len(layers)} layers are copies of the teacher's {which} of {total}"
    if record.get("choose") == "pca" and not copies:
        first = f"{len(layers)} layers are the teacher's {', '.join(map(str, record['layers']))} of {total}, projected"
    parts = [first, f"{len(report['carried'])} of {outside} tensors outside them were carried over"]
    units = {"channels": "channels", "heads": "heads", "feed_forward": "feed-forward units"}
    sizes = [_said(report[key], unit) for key, unit in units.items()]
    if any(sizes):
        by = f", by {report['chosen_by']}" if report["chosen_by"] else ""
        parts.append(f"it has {', '.join(filter(None, sizes))}{by}")
    parts += filter(None, [_said(report["vocabulary"], "sub-words")])
    if report["rank"] is not None:
        share, used = report["rank"]["energy"], report["rank"]["used"]
        kept = "which starts at random" if share is None else f"which keeps {share:.1%} of its squares"
        kept += "" if used is None else f" ({used:.1%} weighted by use)"
        parts.append(f"its table of sub-words has rank {report['rank']['rank']} of {report['rank']['of']}, {kept}")
    return f"{', '.join(parts)}; {counts['student']:,} of {counts['teacher']:,} parameters"


def _said(part: Mapping[str, Any] | None, unit: str) -> str:
    if part is None or part["how"] == "whole":
        return ""
    return f"{part['kept']:,} of {part['of']:,} {unit} ({part['how']})"
