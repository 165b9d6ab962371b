"""Direct labels for a handful of points: no legend to look up, no label on top of another."""

from __future__ import annotations

from dataclasses import dataclass, replace

from markupsafe import Markup

from understudy.report.drawing import across, element, text

NARROW = 270.0  # pixels across on a phone: what fits there fits everywhere
CLOSE = 0.035  # points nearer than this stand side by side
STEP = 13.0


@dataclass(frozen=True)
class Mark:
    """A point with its interval: ``x`` a fraction of the width, the rest in pixels from the top."""

    role: str
    name: str
    x: float
    y: float
    top: float
    bottom: float
    shift: float = 0.0  # pixels aside, so that points of equal cost do not hide each other


Box = tuple[float, float, float, float]


def side_by_side(marks: list[Mark]) -> list[Mark]:
    """Marks of (nearly) the same x moved a few pixels apart."""
    result: list[Mark] = []
    group: list[Mark] = []
    for mark in [*sorted(marks, key=lambda m: m.x), None]:
        if mark is not None and (not group or mark.x - group[0].x < CLOSE):
            group.append(mark)
            continue
        middle = (len(group) - 1) / 2
        result += [replace(m, shift=STEP * (i - middle)) for i, m in enumerate(group)]
        group = [] if mark is None else [mark]
    return result


def shape(role: str) -> Markup:
    """A form per role around (0, 0), so that colour is never the only difference."""
    forms = {
        "teacher": element("rect", x=-5.5, y=-5.5, width=11, height=11),
        "twin": element("path", d="M0-7L6.5 5.5H-6.5Z"),
        "student": element("path", d="M0-7.5L7.5 0 0 7.5-7.5 0Z"),
        "artefact": element("circle", r=6.5),
        "baseline": element("path", d="M-5-5L5 5M-5 5L5-5", class_="cross"),
    }
    return forms.get(role, element("circle", r=5))


def placed(marks: list[Mark], height: float) -> list[Markup]:
    """Intervals, shapes and names; each name where it overlaps least at phone width."""
    marks = side_by_side(marks)
    taken: list[Box] = []
    for m in marks:
        centre = m.x * NARROW + m.shift
        taken += [(centre - 8, m.y - 8, centre + 8, m.y + 8), (centre - 3, m.top, centre + 3, m.bottom)]
    drawn: list[Markup] = []
    names: list[Markup] = []
    for m in marks:
        at = f"translate({m.shift:.1f} 0)"
        drawn.append(
            element(
                "line",
                x1=across(m.x),
                x2=across(m.x),
                y1=f"{m.top:.1f}",
                y2=f"{m.bottom:.1f}",
                class_=f"bar {m.role}",
                transform=at,
            )
        )
        point = element(
            "svg",
            element("g", shape(m.role), class_=f"fill {m.role}", transform=f"translate({m.shift:.1f} {m.y:.1f})"),
            x=across(m.x),
            overflow="visible",
        )
        drawn.append(point)
        anchor, dx, y, box = _best(m, taken, height)
        taken.append(box)
        names.append(text(m.name, m.x, y, anchor=anchor, class_=f"name {m.role}", dx=dx + m.shift))
    return drawn + names


def _best(mark: Mark, taken: list[Box], height: float) -> tuple[str, float, float, Box]:
    wide, centre = 7.4 * len(mark.name) + 4, mark.x * NARROW + mark.shift
    options: list[tuple[float, str, float, float, Box]] = []
    for dy in (0, -14, 14, -28, 28, -42, 42):
        for anchor, dx, left in (("start", 12.0, centre + 10), ("end", -12.0, centre - 10 - wide)):
            options.append(_option(anchor, dx, mark.y + dy + 4, left, wide, abs(dy), taken, height))
    for y in (mark.top - 7, mark.bottom + 15):
        options.append(_option("middle", 0.0, y, centre - wide / 2, wide, 10, taken, height))
    _, anchor, dx, y, box = min(options, key=lambda option: option[0])
    return anchor, dx, y, box


def _option(
    anchor: str, dx: float, y: float, left: float, wide: float, far: float, taken: list[Box], height: float
) -> tuple[float, str, float, float, Box]:
    box = (left, y - 12, left + wide, y + 3)
    overlap = sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in taken
    )
    outside = max(0.0, -8 - box[0]) + max(0.0, box[2] - NARROW - 12) + max(0.0, -box[1]) + max(0.0, box[3] - height)
    return overlap + 40 * outside + 1.5 * far, anchor, dx, y, box
