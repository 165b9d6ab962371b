"""What the student was taught, term by term: who taught it, what each term was worth, and the trainings before."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from understudy.report import charts, formats
from understudy.report.facts import Facts, dig, listed
from understudy.report.formats import number

Points = list[tuple[float, float]]


def section(facts: Facts, evidence: dict[str, Any]) -> dict[str, Any] | None:
    """What the template draws; None where run.json names no terms.

    Keys: ``terms`` (name, formula, weight, first and last value, share of the last loss), ``pictures`` (title, the
    course of a term, unweighted and weighted), ``steps`` and ``cohort``, both possibly empty.
    """
    named = [term for term in listed(facts.run, "objective") if isinstance(term.get("name"), str)]
    epochs = listed(evidence, "curves", "student")
    if not named:
        return None
    values = {str(term.get("name")): _course(epochs, str(term.get("name"))) for term in named}
    weights = {name: _course(epochs, name, "weights") for name in values}
    weighed = {name: _product(values[name], weights[name]) for name in values}
    whole = sum(points[-1][1] for points in weighed.values() if points)
    terms = [_row(term, values, weighed, whole) for term in named]
    pictures = [(name, _picture(name, values[name], weighed[name])) for name in values]
    return {
        "terms": terms,
        "pictures": [(name, drawn) for name, drawn in pictures if drawn],
        "steps": [_step(facts, step) for step in listed(facts.run, "steps")],
        "learns_from": _word(dig(facts.run, "learns_from") or "teacher"),
        "cohort": _cohort(facts),
    }


def _course(epochs: list[dict[str, Any]], name: str, of: str = "terms") -> Points:
    """(epoch, value) of one term, where both are numbers."""
    read = [(number(one.get("epoch")), number(dig(one, of, name))) for one in epochs]
    return [(epoch, value) for epoch, value in read if epoch is not None and value is not None]


def _product(values: Points, weights: Points) -> Points:
    at = dict(weights)
    return [(epoch, value * at[epoch]) for epoch, value in values if epoch in at]


def _row(term: dict[str, Any], values: dict[str, Points], weighed: dict[str, Points], whole: float) -> dict[str, str]:
    name = str(term.get("name"))
    course, worth = values[name], weighed[name]
    weight = number(term.get("weight"))
    return {
        "name": name,
        "formula": _word(term.get("formula")),
        "weight": formats.plain(weight) if weight is not None else _word(term.get("weight")),
        "first": formats.plain(course[0][1]) if course else formats.DASH,
        "last": formats.plain(course[-1][1]) if course else formats.DASH,
        "share": formats.share(worth[-1][1] / whole, 0) if worth and whole > 0 else formats.DASH,
    }


def _picture(name: str, values: Points, weighed: Points) -> Markup:
    series = {"value": values}
    if weighed and any(abs(a - b) > 1e-9 for (_, a), (_, b) in zip(values, weighed, strict=False)):
        series["weighted"] = weighed
    return charts.lines_chart(series, label=name, x_title="epoch", y_text=lambda value, _: formats.plain(value))


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value else formats.DASH


def _step(facts: Facts, step: dict[str, Any]) -> dict[str, str]:
    return {
        "name": _word(step.get("name")),
        "learns_from": _word(step.get("learns_from")),
        "terms": ", ".join(_word(term.get("name")) for term in listed(step, "objective")),
        "best": facts.value(number(step.get("best"))),
        "steps": formats.count(number(step.get("steps"))),
        "seconds": formats.seconds(number(step.get("seconds"))),
    }


def _cohort(facts: Facts) -> list[tuple[str, str, bool]]:
    """(name, best on validation, whether it ships) of everybody who learnt together."""
    found = dig(facts.run, "cohort")
    ships = dig(facts.run, "ships") or "student"
    best = found.items() if isinstance(found, dict) else ()
    return [(name, facts.value(number(score)), name == ships) for name, score in best]
