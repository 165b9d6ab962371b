"""Where rows leave a student with exits: what that saves, and what it costs."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from understudy.report import formats
from understudy.report.charts import HEIGHT
from understudy.report.drawing import Axis, across, down, element, frame, polyline, text
from understudy.report.facts import Facts, dig, listed
from understudy.report.formats import number


def section(facts: Facts, evidence: dict[str, Any]) -> dict[str, Any] | None:
    """What the template draws; None for a run without exits.

    Keys: ``sentence``, ``picture``, ``rows`` (one per exit, with the test split's beside validation's), ``measured``.
    """
    exits = found(facts)
    if exits is None:
        return None
    test = {one.get("exit"): one for one in listed(evidence, "exits", "per_exit")}
    each = listed(exits, "per_exit")
    rows = [
        {
            "name": "the end" if one is each[-1] else f"exit {formats.plain(number(one.get('exit')))}",
            "cost": formats.share(number(one.get("cost")), 0),
            "validation": _gone(one),
            "test": _gone(test.get(one.get("exit"), {})),
        }
        for one in each
    ]
    return {
        "sentence": sentence(facts),
        "picture": picture(facts),
        "rows": rows,
        "has_test": bool(test),
        "test_cost": formats.share(number(dig(evidence, "exits", "mean_cost")), 0),
        "measured": str(exits.get("measured") or ""),
    }


def found(facts: Facts) -> dict[str, Any] | None:
    """What run.json says about exits; None where it says nothing that can be drawn."""
    exits = dig(facts.run, "exits") or dig(facts.run, "export", "exits")
    return exits if isinstance(exits, dict) and listed(exits, "per_exit") else None


def sentence(facts: Facts) -> str:
    """How many rows leave early, what that saves and what it costs, on validation; empty for a run without exits."""
    exits = found(facts)
    if exits is None:
        return ""
    early = sum(number(one.get("share_of_rows")) or 0.0 for one in listed(exits, "per_exit")[:-1])
    if not early:
        return "No row leaves early: no threshold stayed within the limit on validation."
    cost, threshold = number(exits.get("mean_cost")), number(exits.get("threshold"))
    here, whole = (number(dig(exits, "metric", key)) for key in ("with_exits", "full_depth"))
    said = f"{formats.share(early)} of the validation rows leave early"
    if threshold is not None:
        said += f", from a confidence of {formats.plain(threshold)} on"
    if cost is not None:
        said += f": a row costs {formats.share(cost, 0)} of the full depth on average"
    if here is not None and whole is not None:
        said += f", at {facts.value(here)} {facts.metric_name} instead of {facts.value(whole)}"
    return f"{said}."


def picture(facts: Facts) -> Markup:
    """The metric against the mean cost over all thresholds, and the threshold that ships."""
    exits = found(facts) or {}
    read = [
        (number(p.get("cost")), number(p.get("metric")), number(p.get("threshold"))) for p in listed(exits, "curve")
    ]
    points = sorted({(c, m, t) for c, m, t in read if c is not None and m is not None}, key=lambda p: p[:2])
    here = tuple(number(value) for value in (exits.get("mean_cost"), dig(exits, "metric", "with_exits")))
    if len({c for c, _, _ in points}) < 2:
        return Markup()
    costs, levels = [c for c, _, _ in points], [m for _, m, _ in points]
    x = Axis.around([*costs, *(c for c in here[:1] if c is not None)], pad=0.04)
    y = Axis.around([*levels, *(m for m in here[1:] if m is not None)])
    line = [(x.at(c), down(y, m, HEIGHT)) for c, m, _ in points]
    marks = [polyline(line, class_="line artefact", height=HEIGHT)]
    for (px, py), (c, m, t) in zip(line, points, strict=True):
        who = "nobody leaves early" if t is None else f"threshold {formats.plain(t)}"
        hint = element("title", f"{who}: cost {formats.share(c, 0)}, {facts.value(m)}")
        marks.append(element("circle", hint, cx=across(px), cy=f"{py:.1f}", r=2.75, class_="fill artefact"))
    said = f"{facts.metric_name} against mean cost over {len(points)} thresholds"
    said += f": {facts.value(points[0][1])} at {formats.share(points[0][0], 0)} of the full depth"
    said += f", {facts.value(points[-1][1])} at {formats.share(points[-1][0], 0)}"
    if here[0] is not None and here[1] is not None:
        px, py = x.at(here[0]), down(y, here[1], HEIGHT)
        # More costs more and knows more: right of and below a point there is room, but for the right edge.
        right = px < 0.75
        marks += [
            element("line", x1=across(px), x2=across(px), y1=0, y2=HEIGHT, class_="zero"),
            element("circle", cx=across(px), cy=f"{py:.1f}", r=6, class_="fill artefact ring"),
            text(
                "what ships",
                px,
                min(py + 22, HEIGHT - 8) if right else HEIGHT - 8,
                class_="name artefact",
                anchor="start" if right else "end",
                dx=9 if right else -9,
            ),
        ]
        said += f"; what ships reaches {facts.value(here[1])} at {formats.share(here[0], 0)}"
    return frame(
        *marks,
        x=x,
        y=y,
        height=HEIGHT,
        label=said,
        x_title="mean cost of a row, of the full depth",
        x_text=lambda v: formats.share(v, 0),
        y_text=lambda v: facts.tick(v, y.high - y.low),
    )


def _gone(one: dict[str, Any]) -> tuple[str, str]:
    return (
        formats.share(number(one.get("share_of_rows"))),
        formats.share(number(one.get("accuracy_of_those_who_left"))),
    )
