"""How far scores are from the truth: points, errors, and the rows on which teacher and export differ most."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from understudy.report import formats, sentences
from understudy.report.charts import HEIGHT
from understudy.report.drawing import Axis, across, down, element, frame, polyline
from understudy.report.facts import Facts, dig, listed
from understudy.report.formats import number

POINTS, ROWS = 400, 12
WIDE = 0.9  # of a bin that its bar fills
Pairs = list[tuple[float, float]]


def section(facts: Facts, evidence: dict[str, Any]) -> dict[str, Any] | None:
    """What the template draws; None for a run whose answer is no score.

    Keys: ``pictures`` (title, what a model says against the data), ``errors`` (their distribution), ``means`` (role,
    name, mean absolute error), ``together`` (how teacher and export go together) and ``apart`` (rows).
    """
    points = _points(evidence)
    means = [
        (role, facts.called(role), formats.plain(mean))
        for role in ("teacher", "twin", "artefact")
        if (mean := number(dig(evidence, "residuals", "mean_absolute", role))) is not None
    ]
    rows = _apart(evidence)
    if not (points or means or rows):
        return None
    every = Axis.around([value for pairs in points.values() for pair in pairs for value in pair] or [0.0])
    lane = Axis.around([row[key] for row in rows for key in ("data", "teacher", "artefact")] or [0.0])
    return {
        "pictures": [(facts.called(role), scatter(every, pairs, role, facts)) for role, pairs in points.items()],
        "errors": errors(facts, evidence),
        "means": means,
        "together": sentences.together(facts),
        "apart": [_row(row, lane) for row in rows],
    }


def _points(evidence: dict[str, Any]) -> dict[str, Pairs]:
    """(truth, said) of teacher and export."""
    names, raw = dig(evidence, "residuals", "models"), dig(evidence, "residuals", "points")
    if not isinstance(names, list) or not isinstance(raw, list):
        return {}
    rows = [[number(value) for value in row] for row in raw[:POINTS] if isinstance(row, list)]
    found: dict[str, Pairs] = {}
    for role in ("teacher", "artefact"):
        at = names.index(role) + 1 if role in names else 0
        read = [(row[0], row[at]) for row in rows if at and len(row) > at]
        found[role] = [(truth, said) for truth, said in read if truth is not None and said is not None]
    return {role: pairs for role, pairs in found.items() if pairs}


def scatter(axis: Axis, pairs: Pairs, role: str, facts: Facts) -> Markup:
    """What a model says against the data; a model that is always right lies on the diagonal."""
    spots = []
    for truth, said in pairs:
        x, y = across(axis.at(truth)), down(axis, said, HEIGHT)
        if role == "teacher":  # a square, as everywhere on the page
            spots.append(element("rect", x=x, y=f"{y - 2.5:.1f}", width=5, height=5, transform="translate(-2.5 0)"))
        else:
            spots.append(element("circle", cx=x, cy=f"{y:.1f}", r=2.8))
    return frame(
        polyline([(0, HEIGHT), (1, 0)], class_="diagonal", height=HEIGHT),
        element("g", *spots, class_=f"fill spots {role}"),
        x=axis,
        y=axis,
        height=HEIGHT,
        label=f"What the {facts.called(role)} says against the data, {len(pairs)} test rows; the diagonal is perfect",
        x_title="score in the data",
        x_text=formats.plain,
        y_text=formats.plain,
    )


def errors(facts: Facts, evidence: dict[str, Any]) -> Markup:
    """Shares of rows by error: the teacher's as bars, the export's as a line around its own."""
    raw = dig(evidence, "residuals", "edges")
    edges = [number(edge) for edge in raw] if isinstance(raw, list) else []
    ends = [edge for edge in edges if edge is not None]
    shares = {role: _shares(evidence, role, len(edges) - 1) for role in ("teacher", "artefact")}
    shares = {role: found for role, found in shares.items() if found}
    if not shares or len(ends) < len(edges) or len(ends) < 2 or ends[0] >= ends[-1]:
        return Markup()
    x = Axis(ends[0], ends[-1])
    y = Axis(0.0, 1.08 * max(share for found in shares.values() for share in found))
    marks = []
    for low, high, share in zip(ends, ends[1:], shares.get("teacher", ()), strict=False):
        left, wide = x.at(low), WIDE * (x.at(high) - x.at(low))
        top = down(y, share, HEIGHT)
        marks.append(element("rect", x=across(left), width=across(wide), y=f"{top:.1f}", height=f"{HEIGHT - top:.1f}"))
    drawn = [element("g", *marks, class_="fill pale teacher")]
    if "artefact" in shares:
        stairs = [(ends[0], 0.0)]
        for low, high, share in zip(ends, ends[1:], shares["artefact"], strict=False):
            stairs += [(low, share), (high, share)]
        line = [(x.at(px), down(y, py, HEIGHT)) for px, py in [*stairs, (ends[-1], 0.0)]]
        drawn.append(polyline(line, class_="line artefact", height=HEIGHT))
    if x.low < 0 < x.high:
        zero = across(x.at(0.0))
        drawn.append(element("line", x1=zero, x2=zero, y1=0, y2=HEIGHT, class_="zero"))
    return frame(
        *drawn,
        x=x,
        y=y,
        height=HEIGHT,
        label="Errors of " + " and ".join(facts.called(role) for role in shares) + ", as shares of the test rows",
        x_title="what it says minus the data",
        x_text=formats.plain,
        y_text=lambda v: f"{formats.plain(100 * v)}{formats.SPACE}%",
    )


def _shares(evidence: dict[str, Any], role: str, bins: int) -> list[float]:
    raw = dig(evidence, "residuals", "counts", role)
    counts = [number(count) or 0.0 for count in raw] if isinstance(raw, list) else []
    whole = sum(counts)
    return [count / whole for count in counts] if whole > 0 and len(counts) == bins else []


def _apart(evidence: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows with three scores."""
    found = []
    for raw in listed(evidence, "apart")[:ROWS]:
        scores = {key: number(raw.get(key)) for key in ("data", "teacher", "artefact")}
        if None not in scores.values():
            found.append({"text": formats.clip(raw.get("text", ""), 420), **scores})
    return found


def _row(row: dict[str, Any], axis: Axis) -> dict[str, Any]:
    data, teacher, export = (axis.at(row[key]) for key in ("data", "teacher", "artefact"))
    lane = element(
        "svg",
        element("line", x1="0%", x2="100%", y1=11, y2=11, class_="grid"),
        element("line", x1=across(teacher), x2=across(export), y1=11, y2=11, class_="way loss"),
        element("line", x1=across(data), x2=across(data), y1=1, y2=21, class_="truth"),
        element(
            "rect", x=across(teacher), y=5.5, width=11, height=11, transform="translate(-5.5 0)", class_="open teacher"
        ),
        element("circle", cx=across(export), cy=11, r=4.5, class_="fill artefact"),
        width="100%",
        height=22,
        aria_hidden="true",
    )
    written = {key: formats.plain(row[key]) for key in ("data", "teacher", "artefact")}
    return {"text": row["text"], "lane": lane, "apart": formats.plain(abs(row["teacher"] - row["artefact"])), **written}
