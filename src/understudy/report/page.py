"""run.json and evidence.json -> one HTML file that needs nothing else: no network, no font, no library."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from understudy.report import (
    charts,
    choice,
    classes,
    ensembles,
    exits,
    formats,
    inherited,
    knowledge,
    neighbours,
    questions,
    residuals,
    sentences,
    several,
    spans,
    speech,
    taught,
)
from understudy.report.drawing import Points
from understudy.report.facts import MEANING, ROLES, Estimate, Facts, dig, listed, read
from understudy.report.formats import number
from understudy.wording import metric_name, words

POINTS = 160  # of a curve
RECIPE = 40_000  # characters of the recipe that are printed


def html(run: dict[str, Any], evidence: dict[str, Any]) -> str:
    """The report of one run as a self-contained page of at most 1.2 MB.

    The verdict comes first; parts that were not measured leave no trace; the temperature slider starts at
    ``#temperature=2`` of the address where there is one, so that a view can be shared.

    Args:
        run: the content of run.json. Missing keys, None and NaN are allowed everywhere.
        evidence: the content of evidence.json, or an empty mapping.

    Returns:
        UTF-8 text of the page. Text of the data set is escaped; the page's own script is the only one that its
        content policy lets run.
    """
    facts, evidence = read(run), formats.clean(evidence)
    script = source("report.js")
    return (
        environment()
        .get_template("report.html")
        .render(
            facts=facts,
            run=facts.run,
            style=Markup(source("style.css")),
            script=Markup(script),
            policy=policy(script),
            verdict=_verdict(facts),
            charts=_cost_charts(facts),
            table=_table(facts),
            scope=_scope(facts),
            ensemble=ensembles.section(facts),
            exits=exits.section(facts, evidence),
            choice=choice.section(facts),
            inherited=inherited.section(facts),
            taught=taught.section(facts, evidence),
            curves=_curves(facts, evidence),
            classes=classes.table(facts),
            calibration=_calibration(facts, evidence),
            residuals=residuals.section(facts, evidence),
            several=several.section(facts, evidence),
            spans=spans.section(facts, evidence),
            neighbours=neighbours.section(facts, evidence),
            questions=questions.section(facts, evidence),
            speech=speech.section(facts, evidence),
            knowledge=_knowledge(facts, evidence) if facts.answer == "label" else None,
            made=_made(facts, evidence),
        )
    )


@cache
def environment() -> jinja2.Environment:
    """The templates, with autoescape on whatever they are called, and the number formats as filters."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    names = (
        "share",
        "signed",
        "size",
        "count",
        "milliseconds",
        "seconds",
        "times",
        "rate",
        "plain",
        "whole",
        "probability",
        "clip",
    )
    made.filters.update({name: getattr(formats, name) for name in names} | {"words": words, "metric": metric_name})
    made.globals.update(
        dig=dig,
        listed=listed,
        number=number,
        headline=sentences.headline,
        written=sentences.written,
        gates_sentence=sentences.gates,
    )
    return made


def source(name: str) -> str:
    """One file of this package's ``templates`` folder."""
    return resources.files("understudy.report").joinpath("templates", name).read_text(encoding="utf-8")


def policy(script: str) -> str:
    """A content policy: nothing from outside, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _verdict(facts: Facts) -> dict[str, Any]:
    return {
        "code": facts.verdict or "NO VERDICT",
        "sign": sentences.SIGN.get(facts.verdict, "–"),
        "tone": {"BEATS": "good", "HARMS": "bad", "INCONCLUSIVE": "unsure"}.get(facts.verdict, "flat"),
        "interval": sentences.caption(facts),
        "line": charts.verdict_line(facts),
        "kept": sentences.kept(facts),
        "why": dig(facts.run, "verdict", "why"),
        "next": dig(facts.run, "verdict", "next"),
    }


def _cost_charts(facts: Facts) -> list[tuple[str, Markup]]:
    bits = [
        ("Against size", charts.against(facts, lambda m: m.bytes, formats.size, "bytes on disk")),
        ("Against latency", charts.against(facts, lambda m: m.p50, formats.milliseconds, "median latency of one row")),
    ]
    return [(title, picture) for title, picture in bits if picture]


def _table(facts: Facts) -> dict[str, Any] | None:
    if not facts.models:
        return None
    models = [facts.models[role] for role in ROLES if role in facts.models]
    metrics = [facts.metric] if any(facts.metric in m.metrics for m in models) else []
    metrics += [k for k in dict.fromkeys(key for m in models for key in m.metrics) if k != facts.metric][
        : 4 - len(metrics)
    ]
    baselines = []
    for raw in listed(facts.run, "baselines"):
        scores = {key: Estimate.read(dig(raw, "metrics", key)) for key in metrics}
        best = facts.models.get("baseline")
        if any(scores.values()) and not (best and scores.get(facts.metric) == best.metrics.get(facts.metric)):
            baselines.append((formats.clip(raw.get("name", ""), 80), scores))
    return {
        "models": models,
        "metrics": metrics,
        "baselines": baselines,
        "meaning": [(m.name, m.role, MEANING[m.name]) for m in models],
        "has_parameters": any(m.parameters is not None for m in models),
        "has_ece": any(m.ece_before is not None or m.ece_after is not None for m in models),
        "has_latency": any(m.p50 is not None for m in models),
        "has_rate": any(number(m.throughput.get("value")) is not None for m in models),
    }


def _scope(facts: Facts) -> dict[str, Any] | None:
    inside, outside = (dig(facts.run, "comparison", key, "models") or {} for key in ("in_scope", "out_of_scope"))
    rows = [(m, Estimate.read(inside.get(r)), Estimate.read(outside.get(r))) for r, m in facts.models.items()]
    rows = [row for row in rows if row[1] or row[2]]
    label = dig(facts.run, "comparison", "out_of_scope", "label")
    return {"label": formats.clip(label, 60), "rows": rows} if rows and label is not None else None


def thin(points: Points, most: int = POINTS) -> list[tuple[float, float]]:
    """At most ``most`` points: means of neighbours, so that a noisy loss keeps its level."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    bins = [points[a:b] for a, b in itertools.pairwise(edges)]
    return [(sum(p[0] for p in b) / len(b), sum(p[1] for p in b) / len(b)) for b in bins]


def _curves(facts: Facts, evidence: dict[str, Any]) -> list[tuple[str, Markup]]:
    raw = {role: listed(evidence, "curves", role) for role in ("student", "twin", "teacher")}
    by = "epoch" if any(number(p.get("epoch")) for points in raw.values() for p in points) else "step"

    def series(key: str) -> dict[str, Points]:
        read = {r: [(number(p.get(by)), number(p.get(key))) for p in points] for r, points in raw.items()}
        return {r: thin([(x, y) for x, y in points if x is not None and y is not None]) for r, points in read.items()}

    metric = facts.metric_name
    drawn = [
        (
            f"Validation {metric}",
            charts.lines_chart(series("validation"), label=f"validation {metric}", x_title=by, y_text=facts.tick),
        ),
        (
            "Training loss",
            charts.lines_chart(series("loss"), label="training loss", x_title=by, y_text=lambda v, _: formats.plain(v)),
        ),
    ]
    return [(title, picture) for title, picture in drawn if picture]


def _calibration(facts: Facts, evidence: dict[str, Any]) -> dict[str, Any]:
    curves = {role: listed(evidence, "reliability", role) for role in ("teacher", "twin", "student", "artefact")}
    curves = {role: bins for role, bins in curves.items() if bins and not (role == "student" and curves["artefact"])}
    names = {role: facts.export_name if role == "artefact" else role for role in curves}
    diagram = charts.reliability(curves, names)
    abstain = dig(facts.run, "comparison", "abstain")
    covered = charts.coverage(listed(evidence, "coverage"), abstain)
    return {"diagram": diagram, "legend": [(names[r], r) for r in curves], "coverage": covered, "abstain": abstain}


def _knowledge(facts: Facts, evidence: dict[str, Any]) -> dict[str, Any]:
    trained = _trained_temperature(facts)
    places = knowledge.stops(trained)
    start = trained if trained is not None and trained != 1 and trained in places else 2.0
    classes_ = len(dig(evidence, "labels") or dig(facts.run, "labels", "names") or [])
    room = [knowledge.PICTURES]
    shown = {
        key: knowledge.cards(listed(evidence, key)[:most], start=start, classes=classes_, budget=room)
        for key, most in (("examples", 24), ("disagreements", 12))
    }
    logits = [card["logits"] for key in ("examples", "disagreements") for card in shown[key]]
    return {
        **shown,
        "start": start,
        "trained": trained,
        "stops": places,
        "textbook": list(zip(knowledge.TEXTBOOK, knowledge.softened(knowledge.TEXTBOOK, start)[0], strict=True)),
        "has_rest": any(card["has_rest"] for key in shown for card in shown[key]),
        "json": knowledge.script_json({"stops": places, "examples": logits, "textbook": list(knowledge.TEXTBOOK)}),
    }


def _trained_temperature(facts: Facts) -> float | None:
    for path in (("temperature",), ("objective", "temperature"), ("train", "temperature"), ("training", "temperature")):
        found = number(dig(facts.run, "recipe", *path))
        if found is not None and found > 0:
            return found
    return None


def _exact(key: str, value: Any) -> tuple[str, Any]:
    name = words(key)
    return (name.removesuffix(" bytes"), formats.size(number(value))) if name.endswith(" bytes") else (name, value)


def _made(facts: Facts, evidence: dict[str, Any]) -> dict[str, Any]:
    recipe = json.dumps(dig(facts.run, "recipe") or {}, indent=2, ensure_ascii=False, default=str)
    environment_ = dig(facts.run, "environment") or {}
    return {
        "recipe": formats.clip(recipe, RECIPE) if dig(facts.run, "recipe") else "",
        "environment": [_exact(k, v) for k, v in environment_.items() if v not in (None, "", [], {})],
        "how": [(metric_name(k), v) for k, v in (dig(evidence, "how") or {}).items() if v],
        "notes": [str(note) for note in dig(facts.run, "notes") or [] if note],
        "stages": listed(facts.run, "stages"),
        "ladder": listed(facts.run, "export", "ladder"),
        "timed": any(number(rung.get("rows_per_s")) for rung in listed(facts.run, "export", "ladder")),
        "objective": listed(facts.run, "objective"),
        "data": [
            (name, number(dig(facts.run, "data", name, "rows")))
            for name in ("train", "validation", "test", "unlabelled")
            if number(dig(facts.run, "data", name, "rows")) is not None
        ],
    }
