"""The pictures: verdict line, metric against cost, curves, calibration, coverage, gains and losses per class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from understudy.report import formats
from understudy.report.drawing import Axis, Points, across, down, element, frame, polyline, spread, text
from understudy.report.facts import Facts, Model
from understudy.report.formats import number
from understudy.report.labels import Mark, placed

HEIGHT = 230.0
TIGHT = 0.24  # of the width: numbers that are nearer would lie on each other on a phone


def verdict_line(facts: Facts) -> Markup:
    """The interval of student minus twin on a line with zero and the margin."""
    difference = facts.difference
    if difference is None or difference.low is None or difference.high is None:
        return Markup()
    margin = facts.margin or 0.0
    reach = 1.18 * (max(abs(difference.low), abs(difference.high), abs(difference.value), 1.6 * margin) or 1.0)
    axis = Axis(-reach, reach)
    low, high = axis.at(difference.low), axis.at(difference.high)
    sides = ("twin better", "student better") if facts.direction != "lower" else ("student better", "twin better")
    marks: list[Markup] = []
    if margin:
        left, right = axis.at(-margin), axis.at(margin)
        marks.append(element("rect", x=across(left), width=across(right - left), y=14, height=44, class_="band"))
        sides_of = ("end", "start") if right - left < TIGHT else ("middle", "middle")
        for place, value, anchor in zip((left, right), (-margin, margin), sides_of, strict=True):
            marks.append(text(facts.delta(value, unit=False), place, 76, anchor=anchor))
    marks += [
        element("line", x1="0%", x2="100%", y1=36, y2=36, class_="axis"),
        element("line", x1="50%", x2="50%", y1=8, y2=64, class_="zero"),
        *([text("0", 0.5, 76)] if not margin or axis.at(margin) - axis.at(-margin) > TIGHT / 3 else []),
        element("line", x1=across(low), x2=across(high), y1=36, y2=36, class_="span"),
        *[element("line", x1=across(end), x2=across(end), y1=29, y2=43, class_="cap") for end in (low, high)],
        element("circle", cx=across(axis.at(difference.value)), cy=36, r=7, class_="dot"),
        text(sides[0], 0, 8, anchor="start", class_="title"),
        text(sides[1], 1, 8, anchor="end", class_="title"),
    ]
    ends = f"{facts.delta(difference.low)} to {facts.delta(difference.high)}"
    said = f"Student minus twin {facts.delta(difference.value)}, interval {ends}"
    if margin:
        said += f", margin plus or minus {facts.delta(margin)}"
    return element("svg", *marks, class_="verdict-line", width="100%", height=82, role="img", aria_label=said)


def against(
    facts: Facts, cost: Callable[[Model], float | None], written: Callable[[float | None], str], title: str
) -> Markup:
    """The primary metric against a cost on a log axis; a model without that cost is a dashed line across."""
    shown = [(m, m.metrics[facts.metric], cost(m)) for m in facts.models.values() if facts.metric in m.metrics]
    costs = [c for _, _, c in shown if c is not None and c > 0]
    if len(costs) < 2:
        return Markup()
    x = Axis.around(costs, log=True)
    y = Axis.around([v for _, e, _ in shown for v in (e.value, e.low, e.high) if v is not None])
    marks, lines, said = [], [], []
    for model, estimate, found in shown:
        low = estimate.value if estimate.low is None else estimate.low
        high = estimate.value if estimate.high is None else estimate.high
        said.append(f"{model.name} {facts.value(estimate.value)} at {written(found)}")
        level = down(y, estimate.value, HEIGHT)
        if found is None or found <= 0:
            lines.append(
                element("line", x1="0%", x2="100%", y1=f"{level:.1f}", y2=f"{level:.1f}", class_=f"across {model.role}")
            )
            lines.append(text(model.name, 1, level - 5, anchor="end", class_=f"name {model.role}", dx=-2))
            continue
        marks.append(Mark(model.role, model.name, x.at(found), level, down(y, high, HEIGHT), down(y, low, HEIGHT)))
    label = f"{facts.metric_name} against {title}: " + "; ".join(said)
    return frame(
        *lines,
        *placed(marks, HEIGHT),
        x=x,
        y=y,
        height=HEIGHT,
        label=label,
        x_title=f"{title} (log scale)",
        x_text=written,
        y_text=lambda v: facts.tick(v, y.high - y.low),
    )


def lines_chart(
    series: Mapping[str, Points], *, label: str, x_title: str, y_text: Callable[[float, float], str]
) -> Markup:
    """One line per role, named at its right end."""
    series = {role: points for role, points in series.items() if len(points) > 1}
    if not series:
        return Markup()
    every = [point for points in series.values() for point in points]
    x = Axis(min(p[0] for p in every), max(p[0] for p in every))
    if x.low == x.high:
        return Markup()
    y = Axis.around([p[1] for p in every])
    reach = y.high - y.low
    ends = [down(y, points[-1][1], HEIGHT) for points in series.values()]
    marks: list[Markup] = []
    for (role, points), end in zip(series.items(), spread(ends, 16, 6, HEIGHT - 4), strict=True):
        drawn = [(x.at(px), down(y, py, HEIGHT)) for px, py in points]
        marks.append(polyline(drawn, class_=f"line {role}", height=HEIGHT))
        marks.append(element("circle", cx=across(drawn[-1][0]), cy=f"{drawn[-1][1]:.1f}", r=3.5, class_=f"fill {role}"))
        marks.append(text(role, drawn[-1][0], end + 4, anchor="start", class_=f"name {role}", dx=8))
    said = "; ".join(f"{role} ends at {y_text(points[-1][1], 0.0)}" for role, points in series.items())
    plot = frame(
        *marks,
        x=x,
        y=y,
        height=HEIGHT,
        label=f"{label}: {said}",
        x_title=x_title,
        x_text=formats.plain,
        y_text=lambda v: y_text(v, reach),
    )
    return element("div", plot, class_="named-ends")


def reliability(curves: Mapping[str, list[dict[str, Any]]], names: Mapping[str, str]) -> Markup:
    """Accuracy against confidence; a perfectly calibrated model lies on the diagonal."""
    axis = Axis(0.0, 1.0)
    marks = [polyline([(0, HEIGHT), (1, 0)], class_="diagonal", height=HEIGHT)]
    said = []
    for role, bins in curves.items():
        read = [(number(b.get("confidence")), number(b.get("accuracy")), number(b.get("count"))) for b in bins]
        points = [(c, a, n) for c, a, n in read if c is not None and a is not None and n != 0]
        if not points:
            continue
        most = max(n or 1.0 for *_, n in points)
        drawn = [(axis.at(c), down(axis, a, HEIGHT)) for c, a, _ in points]
        marks.append(polyline(drawn, class_=f"line thin {role}", height=HEIGHT))
        for (px, py), (c, a, n) in zip(drawn, points, strict=True):
            hint = element("title", f"{names.get(role, role)}: confidence {c:.2f}, accuracy {a:.2f}, {n or 0:.0f} rows")
            radius = 1.5 + 6 * ((n or 1.0) / most) ** 0.5
            marks.append(
                element("circle", hint, cx=across(px), cy=f"{py:.1f}", r=f"{radius:.1f}", class_=f"fill {role}")
            )
        said.append(f"{names.get(role, role)} with {len(points)} bins")
    if not said:
        return Markup()
    return frame(
        *marks,
        x=axis,
        y=axis,
        height=HEIGHT,
        label="Reliability diagram: " + "; ".join(said),
        x_title="confidence",
        x_text=lambda v: formats.share(v, 0),
        y_text=lambda v: formats.share(v, 0),
    )


def coverage(points: list[dict[str, Any]], abstain: Any) -> Markup:
    """Accuracy on the rows that are answered, against the share of rows that are answered."""
    read = sorted(
        (c, a)
        for c, a in ((number(p.get("coverage")), number(p.get("accuracy"))) for p in points)
        if c and a is not None
    )
    if len(read) < 2:
        return Markup()
    x = Axis(min(c for c, _ in read), 1.0)
    if x.low >= 1:
        return Markup()
    y = Axis.around([a for _, a in read] + [min(1.0, max(a for _, a in read))])
    drawn = [(x.at(c), down(y, a, HEIGHT)) for c, a in read]
    marks = [polyline(drawn, class_="line artefact", height=HEIGHT)]
    ends = [f"{formats.share(a)} at coverage {formats.share(c)}" for c, a in (read[0], read[-1])]
    said = "Accuracy " + ", ".join(ends)
    chosen = (
        [number(abstain.get(key)) for key in ("coverage", "accuracy")] if isinstance(abstain, dict) else [None, None]
    )
    if chosen[0] is not None and chosen[1] is not None:
        px, py = x.at(chosen[0]), down(y, chosen[1], HEIGHT)
        marks.append(element("line", x1=across(px), x2=across(px), y1=0, y2=HEIGHT, class_="zero"))
        marks.append(element("circle", cx=across(px), cy=f"{py:.1f}", r=6, class_="fill artefact ring"))
        side = "end" if px > 0.45 else "start"
        marks.append(
            text("abstain threshold", px, HEIGHT - 10, anchor=side, class_="title", dx=-8 if side == "end" else 8)
        )
        said += f"; the threshold answers {formats.share(chosen[0])} at {formats.share(chosen[1])}"
    return frame(
        *marks,
        x=x,
        y=y,
        height=HEIGHT,
        label=said,
        x_title="share of rows answered",
        x_text=lambda v: formats.share(v, 0),
        y_text=lambda v: formats.share(v, 0 if y.high - y.low > 0.04 else 1),
    )


def dumbbell(axis: Axis, teacher: float, export: float) -> Markup:
    """One class: the teacher's dot, the exported model's dot, and the way between."""
    a, b = axis.at(teacher), axis.at(export)
    way = "gain" if export > teacher else "loss"
    return element(
        "svg",
        element("line", x1="0%", x2="100%", y1=11, y2=11, class_="grid"),
        element("line", x1=across(a), x2=across(b), y1=11, y2=11, class_=f"way {way}"),
        element("rect", x=across(a), y=5.5, width=11, height=11, transform="translate(-5.5 0)", class_="open teacher"),
        element("circle", cx=across(b), cy=11, r=4.5, class_="fill artefact"),
        width="100%",
        height=22,
        aria_hidden="true",
    )
