"""Of decoders: how near student and twin are to the teacher, token by token, and what they write after test prompts."""

from __future__ import annotations

from typing import Any

from understudy.report import formats
from understudy.report.facts import Estimate, Facts, dig, listed
from understudy.report.formats import number

ROWS, LONGEST = 12, 300
BEFORE = "before"
MODELS = ("teacher", "twin", "student")


def section(facts: Facts, evidence: dict[str, Any]) -> dict[str, Any] | None:
    """What the template draws; None for a run that says nothing token by token.

    Keys: ``beside`` (role, name, KL, agreement, each with its interval), ``tokens`` and ``rows`` that these are of,
    ``written`` (role, name, exact match, length, ended, repeated), ``prompts`` and ``longest``, ``shown`` (prompts with
    what the data, teacher and student say).
    """
    beside = [row for row in (_beside(facts, role) for role in ("twin", "student", BEFORE)) if row]
    written = [row for row in (_written(facts, role) for role in ("data", *MODELS)) if row]
    if not beside and not any(role != "data" for role, *_ in written):
        return None
    counts = {key: number(dig(facts.run, "language", *path)) for key, path in _COUNTS.items()}
    return {
        "beside": beside,
        "written": written if any(role != "data" for role, *_ in written) else [],
        **{key: formats.whole(count) for key, count in counts.items()},
        "shown": [row for row in map(_shown, listed(evidence, "written")[:ROWS]) if row],
    }


_COUNTS = {
    "rows": ("rows",),
    "tokens": ("tokens",),
    "prompts": ("written", "rows"),
    "longest": ("written", "longest"),
}


def _beside(facts: Facts, role: str) -> tuple[str, str, str, str] | None:
    kl, same = (Estimate.read(dig(facts.run, "language", "beside", role, name)) for name in _NAMES)
    if kl is None and same is None:
        return None
    name = "student before its training" if role == BEFORE else facts.called(role)
    return role, name, _with_ends(kl, formats.plain), _with_ends(same, formats.share)


_NAMES = ("token_kl", "token_agreement")


def _written(facts: Facts, role: str) -> tuple[str, str, str, str, str, str] | None:
    where = ("language", "written", *((role,) if role == "data" else ("models", role)))
    said = dig(facts.run, *where)
    if not isinstance(said, dict) or number(said.get("tokens")) is None:
        return None
    length, ended, again = (number(said.get(key)) for key in ("tokens", "ended", "repeated"))
    right = Estimate.read(said.get("exact_match"))
    shares = (formats.share(ended), formats.share(again))
    return role, facts.called(role), _with_ends(right, formats.share), formats.plain(length), *shares


def _with_ends(found: Estimate | None, written: Any) -> str:
    if found is None:
        return formats.DASH
    ends = "" if found.low is None else f" ({written(found.low)} to {written(found.high)})"
    return f"{written(found.value)}{ends}"


def _shown(raw: dict[str, Any]) -> dict[str, Any] | None:
    if raw.get("prompt") is None:
        return None
    lines: list[tuple[str, str, bool | None]] = [("data", formats.clip(raw.get("data") or "", LONGEST), None)]
    for role in ("teacher", "student"):
        text, right = dig(raw, role, "text"), dig(raw, role, "right")
        if text is not None:
            lines.append((role, formats.clip(text, LONGEST), right if isinstance(right, bool) else None))
    return {"prompt": formats.clip(raw["prompt"], LONGEST), "lines": lines}
