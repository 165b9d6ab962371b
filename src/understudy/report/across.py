"""Several runs side by side: one picture, one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from understudy.report import formats
from understudy.report.drawing import Axis, down, frame
from understudy.report.facts import Estimate, Facts, dig, read
from understudy.report.formats import number
from understudy.report.labels import Mark, placed
from understudy.report.page import environment, policy, source

HEIGHT = 320.0


def compare(runs: Sequence[tuple[str, dict[str, Any]]]) -> tuple[str, list[dict[str, Any]]]:
    """Runs side by side.

    Args:
        runs: (name, content of run.json), in the order of the table.

    Returns:
        A self-contained page with one picture (the metric of every export against its bytes) and one table; and the
        table's rows as plain values, for ``--json``. Runs with another metric than the first are in the table only.
    """
    read_runs = [(name, read(run)) for name, run in runs]
    rows = [_row(name, facts) for name, facts in read_runs]
    page = (
        environment()
        .get_template("compare.html")
        .render(
            style=Markup(source("style.css")),
            policy=policy(""),
            picture=_picture(read_runs),
            rows=rows,
            facts=[facts for _, facts in read_runs],
            metric=read_runs[0][1].metric if read_runs else "",
            others=sorted({f.metric for _, f in read_runs[1:]} - {read_runs[0][1].metric}) if read_runs else [],
            read=Estimate.read,
        )
    )
    return page, rows


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


def _picture(runs: Sequence[tuple[str, Facts]]) -> Markup:
    if not runs:
        return Markup()
    first = runs[0][1]
    shown: list[tuple[str, str, Estimate, float]] = []
    teachers: set[tuple[float, float]] = set()
    for name, facts in runs:
        for role in ("artefact", "teacher"):
            model = facts.models.get(role)
            score = model.metrics.get(first.metric) if model and facts.metric == first.metric else None
            if model is None or score is None or not model.bytes or model.bytes <= 0:
                continue
            if role == "teacher" and (score.value, model.bytes) in teachers:
                continue
            if role == "teacher":
                teachers.add((score.value, model.bytes))
            shown.append((role, formats.clip(name if role == "artefact" else "teacher", 24), score, model.bytes))
    if len(shown) < 2:
        return Markup()
    x = Axis.around([b for *_, b in shown], log=True)
    y = Axis.around([v for *_, e, _ in shown for v in (e.value, e.low, e.high) if v is not None])
    marks = [
        Mark(
            role,
            name,
            x.at(size),
            down(y, e.value, HEIGHT),
            down(y, e.value if e.high is None else e.high, HEIGHT),
            down(y, e.value if e.low is None else e.low, HEIGHT),
        )
        for role, name, e, size in shown
    ]
    said = "; ".join(f"{name} {first.value(e.value)} at {formats.size(size)}" for _, name, e, size in shown)
    return frame(
        *placed(marks, HEIGHT),
        x=x,
        y=y,
        height=HEIGHT,
        label=f"{formats.words(first.metric)} against bytes on disk: {said}",
        x_title="bytes on disk (log scale)",
        x_text=formats.size,
        y_text=lambda v: first.tick(v, y.high - y.low),
    )
