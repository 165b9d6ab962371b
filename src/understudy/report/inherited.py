"""A student that is cut from its teacher: what it has from there, and how much of it."""

from __future__ import annotations

from typing import Any

from understudy.report import formats
from understudy.report.facts import Facts, dig
from understudy.report.formats import number

PARTS = (
    ("channels", "channels"),
    ("heads", "attention heads, of a layer"),
    ("feed_forward", "feed-forward units, of a layer"),
    ("vocabulary", "sub-words"),
)


def section(facts: Facts) -> dict[str, Any] | None:
    """What the template draws; None for a student that was not cut.

    Keys: ``parameters`` (student's and teacher's, as text), ``chosen_by``, ``rows``: (part, kept, of, how).
    """
    found = dig(facts.run, "models", "student", "inheritance")
    layers = dig(found, "layers")
    if not isinstance(found, dict) or not isinstance(layers, dict) or not layers:
        return None
    from_ = [number(one) for one in layers.values()]
    known = [formats.whole(one) for one in from_ if one is not None]
    of = number(dig(found, "teacher_layers"))
    rows = [("layers", formats.whole(float(len(layers))), formats.whole(of), _copies(known))]
    for key, name in PARTS:
        kept, whole = number(dig(found, key, "kept")), number(dig(found, key, "of"))
        if kept is not None and whole is not None:
            rows.append((name, formats.whole(kept), formats.whole(whole), formats.clip(dig(found, key, "how"), 20)))
    rank, energy = number(dig(found, "rank", "rank")), number(dig(found, "rank", "energy"))
    if rank is not None:
        kept_ = f"two factors, {formats.share(energy)} of its squares" if energy is not None else "two factors"
        rows.append(
            (
                "rank of the sub-words’ table",
                formats.whole(rank),
                formats.whole(number(dig(found, "rank", "of"))),
                kept_,
            )
        )
    return {
        "parameters": [formats.count(number(dig(found, "parameters", who))) for who in ("student", "teacher")],
        "chosen_by": formats.clip(dig(found, "chosen_by"), 120),
        "rows": rows,
    }


def _copies(known: list[str]) -> str:
    """Which of the teacher's layers, counted from 0; projected ones are equal to none."""
    return f"copies of {', '.join(known)}" if known else "none is a plain copy"
