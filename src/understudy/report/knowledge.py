"""Examples with both models' distributions, ready for the temperature slider.

Where a task has many classes, evidence.json keeps the logits of a few and the log-sum-exp of all others. Their joint
mass is exact at temperature 1 only. Elsewhere it is taken as spread evenly over the others, ``n exp((lse - log n) /
temperature)``: by Jensen's inequality the most it can be above 1 and the least below 1, so that above 1 the bars of the
classes shown are lower bounds. The page says so beside the slider.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from understudy.report import formats
from understudy.report.formats import number

STOPS = (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10)
TEXTBOOK = (5.0, 1.0, 0.5)
PICTURES = 520_000  # characters of data URIs in all: with everything else the page stays below 1.2 MB
_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+")


def softened(
    logits: Sequence[float | None], temperature: float, rest: float | None = None, others: int = 1
) -> tuple[list[float], float]:
    """Probabilities of the classes shown, and of all others together.

    Args:
        logits: one per class shown; None is a class that the model cannot say.
        temperature: > 0.
        rest: log-sum-exp of the other logits at temperature 1; None where there are no others.
        others: how many others there are.

    >>> [round(p, 3) for p in softened((5, 1, 0.5), 1)[0]], [round(p, 3) for p in softened((5, 1, 0.5), 2)[0]]
    ([0.971, 0.018, 0.011], [0.806, 0.109, 0.085])
    """
    logs = [-math.inf if z is None else z / temperature for z in logits]
    tail = -math.inf if rest is None else math.log(others) + (rest - math.log(others)) / temperature
    top = max([*logs, tail])
    if top == -math.inf:
        return [0.0] * len(logs), 0.0
    masses = [math.exp(z - top) for z in [*logs, tail]]
    total = sum(masses)
    return [mass / total for mass in masses[:-1]], masses[-1] / total


def stops(trained: float | None) -> list[float]:
    """The slider's temperatures: round, about evenly spaced in the logarithm, and the one that the run trained at."""
    extra = {trained} if trained is not None and 0.5 <= trained <= 10 else set()
    return sorted({float(stop) for stop in STOPS} | extra)


def cards(raw: list[dict[str, Any]], *, start: float, classes: int, budget: list[int]) -> list[dict[str, Any]]:
    """What the template draws of each example. ``budget[0]`` is the room left for pictures, in characters."""
    return [card for card in (_card(example, start, classes, budget) for example in raw) if card]


def _card(raw: dict[str, Any], start: float, classes: int, budget: list[int]) -> dict[str, Any] | None:
    names = [formats.clip(name, 60) for name in raw.get("labels") or []]
    sides: dict[str, Any] = {}
    for side in ("teacher", "student"):
        logits = [number(z) for z in raw.get(side) or []]
        if len(logits) != len(names) or all(z is None for z in logits):
            return None
        sides[side] = [None if z is None else round(z, 4) for z in logits]
        rest = number(raw.get(f"{side}_rest"))
        sides[f"{side}_rest"] = None if rest is None else round(rest, 4)
    others = max(classes - len(names), 1)
    teacher, teacher_rest = softened(sides["teacher"], start, sides["teacher_rest"], others)
    student, student_rest = softened(sides["student"], start, sides["student_rest"], others)
    has_rest = sides["teacher_rest"] is not None or sides["student_rest"] is not None
    order = sorted(range(len(names)), key=lambda i: -(sides["teacher"][i] if sides["teacher"][i] is not None else -1e9))
    gold = raw.get("label")
    rows: list[dict[str, Any]] = [
        {"label": names[i], "teacher": teacher[i], "student": student[i], "at": i, "gold": raw["labels"][i] == gold}
        for i in order
    ]
    if has_rest:
        name = f"{others} others" if others > 1 else "all others"
        rows.append({"label": name, "teacher": teacher_rest, "student": student_rest, "at": len(names), "rest": True})
    picture = raw.get("image")
    if not (isinstance(picture, str) and len(picture) <= budget[0] and _PICTURE.fullmatch(picture)):
        picture = None
    budget[0] -= len(picture or "")
    label = raw.get("label")
    return {
        "image": picture,
        "lost_image": picture is None and raw.get("image") is not None,
        "text": None if raw.get("text") is None else formats.clip(raw["text"], 420),
        "label": None if label is None else formats.clip(label, 60),
        "rows": rows,
        "logits": {**sides, "others": others},
        "has_rest": has_rest,
        "says": _says(raw),
        "wide": min(max(len(name) for name in [*names, "10 others" if has_rest else ""]), 17) + 1,
    }


def _says(raw: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    said = []
    for role in ("teacher", "artefact"):
        if raw.get(f"{role}_label") is not None:
            sure = number(raw.get(f"{role}_confidence"))
            said.append(
                (role, formats.clip(raw[f"{role}_label"], 60), None if sure is None else formats.share(sure, 0))
            )
    return said


def script_json(value: Any) -> Markup:
    """JSON that cannot end its script element: ``<``, ``>`` and ``&`` are written as escapes.

    >>> print(script_json("</script>"))
    "\\u003c/script\\u003e"
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
