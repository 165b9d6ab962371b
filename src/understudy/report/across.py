"""Several runs side by side: quality against size and latency, and one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from understudy.report import formats
from understudy.report.drawing import Axis, down, frame, polyline
from understudy.report.facts import Estimate, Facts, Model, dig, read
from understudy.report.formats import number
from understudy.report.labels import Mark, placed
from understudy.report.page import environment, policy, source

HEIGHT = 320.0


def compare(runs: Sequence[tuple[str, dict[str, Any]]]) -> tuple[str, list[dict[str, Any]]]:
    """Runs side by side.

    Args:
        runs: (name, content of run.json), in the order of the table.

    Returns:
        A self-contained page with the metric of every export against its bytes and against its latency, the front that
        no other beats, and one table; and the table's rows as plain values, for ``--json``. Runs with another metric
        than the first are in the table only.
    """
    read_runs = [(name, read(run)) for name, run in runs]
    rows = [_row(name, facts) for name, facts in read_runs]
    page = (
        environment()
        .get_template("compare.html")
        .render(
            style=Markup(source("style.css")),
            policy=policy(""),
            pictures=_pictures(read_runs),
            rows=rows,
            facts=[facts for _, facts in read_runs],
            metric=read_runs[0][1].metric if read_runs else "",
            others=sorted({f.metric for _, f in read_runs[1:]} - {read_runs[0][1].metric}) if read_runs else [],
            read=Estimate.read,
            apart=other_rows([(name, facts.run) for name, facts in read_runs]),
        )
    )
    return page, rows


def other_rows(runs: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """A sentence where runs were tested on other rows than the first, so that their metrics are no match; or nothing.

    >>> other_rows([("a", {"data": {"test": {"fingerprint": "1"}}}), ("b", {"data": {"test": {"fingerprint": "2"}}})])
    'b was tested on other rows than a: their metrics cannot be compared.'
    """
    seen = [(name, dig(run, "data", "test", "fingerprint")) for name, run in runs]
    other = [name for name, fingerprint in seen[1:] if fingerprint and seen[0][1] and fingerprint != seen[0][1]]
    if not other:
        return ""
    were = "was" if len(other) == 1 else "were"
    return f"{', '.join(other)} {were} tested on other rows than {seen[0][0]}: their metrics cannot be compared."


def _row(name: str, facts: Facts) -> dict[str, Any]:
    def score(role: str) -> dict[str, float | None] | None:
        model = facts.models.get(role)
        found = model.metrics.get(facts.metric) if model else None
        return None if found is None else {"value": found.value, "low": found.low, "high": found.high}

    export = facts.models.get("artefact")
    return {
        "name": name,
        "verdict": facts.verdict or None,
        "metric": facts.metric,
        **{role: score(role) for role in ("artefact", "student", "twin", "teacher", "baseline")},
        **{
            key: number(dig(facts.run, "comparison", key))
            for key in ("retention", "gap_closed", "agreement", "negative_flip_rate", "compression", "speedup")
        },
        "bytes": export.bytes if export else None,
        "p50_ms": export.p50 if export else None,
        "throughput_per_s": number(export.throughput.get("value")) if export else None,
        "gates_passed": len(facts.gates) - len(facts.failed),
        "gates": len(facts.gates),
    }


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that no other beats, (cost, quality): cheaper and at least as good, or better and no dearer.

    >>> front([(10.0, 0.90), (4.0, 0.88), (6.0, 0.87), (20.0, 0.90)])
    [1, 0]

    Returns:
        their places, from the cheapest to the best.
    """
    found: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not found or points[i][1] > points[found[-1]][1]:
            found.append(i)
    return found


def _pictures(runs: Sequence[tuple[str, Facts]]) -> list[tuple[str, Markup]]:
    """Quality against what it costs to keep, and against what it costs to ask."""
    drawn = [
        ("Against size", _picture(runs, lambda m: m.bytes, formats.size, "bytes on disk")),
        ("Against latency", _picture(runs, lambda m: m.p50, formats.milliseconds, "median latency of one row")),
    ]
    return [(title, picture) for title, picture in drawn if picture]


def _picture(
    runs: Sequence[tuple[str, Facts]],
    cost: Callable[[Model], float | None],
    written: Callable[[float | None], str],
    title: str,
) -> Markup:
    if not runs:
        return Markup()
    first = runs[0][1]
    shown: list[tuple[str, str, Estimate, float]] = []
    teachers: set[tuple[float, float]] = set()
    for name, facts in runs:
        for role in ("artefact", "teacher"):
            model = facts.models.get(role)
            score = model.metrics.get(first.metric) if model and facts.metric == first.metric else None
            found = cost(model) if model else None
            if score is None or found is None or found <= 0 or (role == "teacher" and (score.value, found) in teachers):
                continue
            if role == "teacher":
                teachers.add((score.value, found))
            shown.append((role, formats.clip(name if role == "artefact" else "teacher", 24), score, found))
    if len(shown) < 2:
        return Markup()
    x = Axis.around([found for *_, found in shown], log=True)
    y = Axis.around([v for *_, e, _ in shown for v in (e.value, e.low, e.high) if v is not None])
    marks = [
        Mark(
            role,
            name,
            x.at(found),
            down(y, e.value, HEIGHT),
            down(y, e.value if e.high is None else e.high, HEIGHT),
            down(y, e.value if e.low is None else e.low, HEIGHT),
        )
        for role, name, e, found in shown
    ]
    sign = -1.0 if first.direction == "lower" else 1.0
    best = front([(found, sign * e.value) for *_, e, found in shown])
    stairs = [(marks[i].x, marks[i].y) for i in best]
    said = "; ".join(f"{name} {first.value(e.value)} at {written(found)}" for _, name, e, found in shown)
    said += ". Nothing is better at less cost than " + ", ".join(shown[i][1] for i in best)
    return frame(
        *([polyline(_steps(stairs), class_="diagonal", height=HEIGHT)] if len(stairs) > 1 else []),
        *placed(marks, HEIGHT),
        x=x,
        y=y,
        height=HEIGHT,
        label=f"{first.metric_name} against {title}: {said}",
        x_title=f"{title} (log scale)",
        x_text=written,
        y_text=lambda v: first.tick(v, y.high - y.low),
    )


def _steps(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Between two models there is none: the line goes across at the cheaper one's quality, then up."""
    found = points[:1]
    for before, after in pairwise(points):
        found += [(after[0], before[1]), after]
    return found
