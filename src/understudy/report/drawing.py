"""Fluid SVG: across in per cent of the box, down in pixels, so that text keeps its size from a phone to a desk.

A polyline takes no per cents; it lives in a nested, stretched ``<svg>`` whose strokes do not scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Points = Sequence[tuple[float, float]]


def element(name: str, *children: object, **attributes: object) -> Markup:
    """One escaped element. ``class_`` and ``stroke_width`` become ``class`` and ``stroke-width``; None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(str(escape(child)) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def across(fraction: float) -> str:
    """A fraction of the width, as SVG writes it."""
    return f"{100 * fraction:.2f}%"


@dataclass(frozen=True)
class Axis:
    """Where a value lies between ``low`` (0) and ``high`` (1)."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], *, log: bool = False, pad: float = 0.08) -> Axis:
        """An axis that holds every value with some air; never of zero length."""
        low, high = min(values), max(values)
        if log:
            reach = max(math.log(high / low) * pad * 1.5, math.log(1.8))
            return cls(low / math.exp(reach), high * math.exp(reach), log=True)
        reach = (high - low) * pad or abs(high) * 0.05 or 1.0
        return cls(low - reach, high + reach)

    def at(self, value: float) -> float:
        """The place of a value, clamped to the axis."""
        if self.log:
            place = math.log(max(value, 1e-300) / self.low) / math.log(self.high / self.low)
        else:
            place = (value - self.low) / (self.high - self.low)
        return min(max(place, 0.0), 1.0)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values on the axis, at most ``most``."""
        return self._log_ticks(most) if self.log else self._linear_ticks(most)

    def _linear_ticks(self, most: int) -> list[float]:
        raw = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]

    def _log_ticks(self, most: int) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for mantissas in ((1, 2, 5), (1, 3), (1,)):
            found = [m * 10.0**p for p in powers for m in mantissas if self.low <= m * 10.0**p <= self.high]
            if len(found) <= most:
                return found
        return found[:: math.ceil(len(found) / most)]


def polyline(points: Points, *, class_: str, height: float) -> Markup:
    """A line through (fraction across, pixels down)."""
    path = " ".join(f"{1000 * x:.1f},{1000 * y / height:.1f}" for x, y in points)
    line = element("polyline", points=path, class_=class_, vector_effect="non-scaling-stroke")
    return element("svg", line, viewBox="0 0 1000 1000", preserveAspectRatio="none", width="100%", height=height)


def text(content: str, x: float, y: float, *, anchor: str = "middle", class_: str = "tick", dx: float = 0) -> Markup:
    """Text whose anchor lies ``dx`` pixels beside a fraction of the width."""
    place = element(
        "text", content, x=across(x), y=f"{y:.1f}", dx=f"{dx:.1f}" if dx else None, text_anchor=anchor, class_=class_
    )
    return place


def frame(
    *marks: Markup,
    x: Axis,
    y: Axis,
    height: float,
    label: str,
    x_title: str,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
) -> Markup:
    """Grid, ticks and marks in a box; ``label`` is what a screen reader says instead of the picture."""
    grid = [
        element(
            "line", x1="0%", x2="100%", y1=f"{down(y, v, height):.1f}", y2=f"{down(y, v, height):.1f}", class_="grid"
        )
        for v in y.ticks()
    ]
    grid += [text(y_text(v), 0, down(y, v, height) + 4, anchor="end", dx=-8) for v in y.ticks()]
    for v in x.ticks():
        grid.append(element("line", x1=across(x.at(v)), x2=across(x.at(v)), y1=height, y2=height + 4, class_="axis"))
        grid.append(text(x_text(v), x.at(v), height + 18))
    base = element("line", x1="0%", x2="100%", y1=height, y2=height, class_="axis")
    title = text(x_title, 0.5, height + 38, class_="title")
    drawn = element("svg", *grid, base, *marks, title, width="100%", height=height, role="img", aria_label=label)
    return element("div", drawn, class_="plot")


def down(axis: Axis, value: float, height: float) -> float:
    """Pixels from the top."""
    return height * (1 - axis.at(value))


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The same places in the same order, moved apart to at least ``gap`` and kept within [low, high] where they fit.

    >>> spread([10.0, 12.0, 40.0], 14.0, 0.0, 100.0)
    [4.0, 18.0, 40.0]
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [places[i] for i in order]
    for _ in range(50):
        for a in range(len(moved) - 1):
            short = gap - (moved[a + 1] - moved[a])
            if short > 0:
                moved[a], moved[a + 1] = moved[a] - short / 2, moved[a + 1] + short / 2
        moved = [min(max(place, low), high) for place in moved]
    result = [0.0] * len(places)
    for place, i in zip(moved, order, strict=True):
        result[i] = round(place, 3)
    return result
