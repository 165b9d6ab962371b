"""The sentences that stand above every number. The same words go to the page, the card and the terminal."""

from __future__ import annotations

from understudy.report import formats
from understudy.report.facts import Estimate, Facts, Model, dig
from understudy.report.formats import number

SIGN = {"BEATS": "▲", "NO GAIN": "＝", "INCONCLUSIVE": "?", "HARMS": "▼"}  # never colour alone


def headline(facts: Facts) -> str:
    """The verdict as one plain sentence."""
    said, difference = facts.verdict, facts.difference
    unit = f" of {facts.metric_name}"
    amount = "" if difference is None else facts.delta(abs(difference.value)).lstrip("+")
    if said == "BEATS":
        return f"Distilling paid off: the student beats its twin{f' by {amount}{unit}' if amount else ''}."
    if said == "HARMS":
        return f"Distilling did harm: the student falls behind its twin{f' by {amount}{unit}' if amount else ''}."
    if said == "NO GAIN":
        near = f" by more than {facts.delta(facts.margin).lstrip('+')}{unit}" if facts.margin else ""
        return f"No gain: student and twin do not differ{near}."
    if said == "INCONCLUSIVE":
        return "Inconclusive: this test split cannot tell the student from its twin."
    return "No verdict: the student was not compared with a twin."


def interval(facts: Facts) -> str:
    """The measured difference with its interval and margin, or an empty string."""
    difference = facts.difference
    if difference is None:
        return ""
    text = f"student − twin: {facts.delta(difference.value)}"
    if difference.low is not None and difference.high is not None:
        text += (
            f", 95{formats.SPACE}% interval {facts.delta(difference.low, unit=False)}"
            f" to {facts.delta(difference.high, unit=False)}"
        )
    if facts.margin:
        text += f", margin ±{facts.delta(facts.margin, unit=False).lstrip('+')}"
    return text


def says_numbers(facts: Facts) -> bool:
    """Whether ``why`` already gives the difference with its interval, so that nothing needs to be said twice."""
    return "95 % interval" in str(dig(facts.run, "verdict", "why")).replace(formats.SPACE, " ")


def caption(facts: Facts) -> str:
    """What stands below the verdict's line: the numbers, unless ``why`` says them already, and what is shaded."""
    if facts.difference is None:
        return ""
    if not says_numbers(facts):
        return interval(facts) + (" (shaded)" if facts.margin else "")
    text = f"student − twin, in {'points' if facts.in_points else facts.metric_name}"
    text += ", which are hundredths" if facts.is_fraction else ""
    return text + (
        f"; shaded: the margin of ±{facts.delta(facts.margin, unit=False).lstrip('+')}" if facts.margin else ""
    )


def gates(facts: Facts) -> str:
    """How many gates were passed, and what that allows."""
    if not facts.gates:
        return "No gates were set."
    passed, total = len(facts.gates) - len(facts.failed), len(facts.gates)
    if facts.failed:
        failed = ", ".join(gate.name for gate in facts.failed)
        return f"{len(facts.failed)} of {total} gates failed ({failed}). This export must not ship."
    return f"{passed} of {total} gates passed."


def kept(facts: Facts) -> list[tuple[str, str, str]]:
    """Retention, compression and speedup as (number, what it is, from what to what); only those that were measured."""
    rows: list[tuple[str, str, str]] = []
    teacher, export = facts.models.get("teacher"), facts.models.get("artefact")
    retention = number(dig(facts.run, "comparison", "retention"))
    compression = number(dig(facts.run, "comparison", "compression"))
    speedup = number(dig(facts.run, "comparison", "speedup"))
    metric = facts.metric

    def change(before: str, after: str) -> str:
        return "" if formats.DASH in (before, after) else f"{before} → {after}"

    if retention is not None:
        values = [m.metrics.get(metric) if m else None for m in (teacher, export)]
        before, after = (facts.value(e.value if e else None) for e in values)
        around = Estimate.read(dig(facts.run, "comparison", "intervals", "retention"))
        said = f"of the teacher’s {facts.metric_name} kept"
        moved = change(before, after)
        if around is not None and around.low is not None and around.high is not None:
            low, high = (formats.share(end, facts.digits) for end in (around.low, around.high))
            moved += f"{', ' if moved else ''}interval {low[:-2]} to {high}"
        value = formats.share(retention, facts.digits)
        if facts.direction == "lower":
            value, said = formats.times(1 / retention), f"the teacher’s {facts.metric_name}, of which less is better"
            moved = change(before, after)
        rows.append((value, said, moved))
    if compression is not None:
        sizes = change(*(formats.size(m.bytes if m else None) for m in (teacher, export)))
        said = "smaller on disk" if compression >= 1 else "compression: larger than the teacher"
        rows.append((formats.times(compression), said, sizes))
    if speedup is not None:
        rates = [number(dig(m.throughput, "value")) if m else None for m in (teacher, export)]
        threads = number(dig(export.throughput, "threads")) if export else None
        where = f", {threads:.0f} thread{'s' if threads != 1 else ''}" if threads else ""
        moved = change(*(formats.rate(value) for value in rates))
        said = "the teacher’s throughput"
        rows.append((formats.times(speedup), said, f"{moved}{where}" if moved else ""))
    return rows


def written(facts: Facts, estimate: Estimate | None) -> tuple[str, str]:
    """A value of the primary metric and its interval, as two texts."""
    if estimate is None:
        return formats.DASH, formats.DASH
    if estimate.low is None or estimate.high is None:
        return facts.value(estimate.value), formats.DASH
    ends = [facts.value(end).removesuffix("%").strip(formats.SPACE) for end in (estimate.low, estimate.high)]
    return facts.value(estimate.value), f"{ends[0]} to {ends[1]}"


def together(facts: Facts) -> str:
    """How the export's scores go with the teacher's."""
    found = Estimate.read(dig(facts.run, "comparison", "intervals", "correlation"))
    if found is None:
        return ""
    value, low, high = (formats.fraction(end) for end in (found.value, found.low, found.high))
    between = "" if found.low is None else f" (95{formats.SPACE}% interval {low} to {high})"
    said = {"vector": "cosines", "masked": "losses of texts", "next": "losses of texts"}.get(facts.answer, "scores")
    return f"The {said} of teacher and {facts.export_name} have a Pearson correlation of {value}{between}."


def cells(facts: Facts, model: Model) -> list[str]:
    """Metric, interval, size, latency and throughput of a model, as texts."""
    value, between = written(facts, model.metrics.get(facts.metric))
    throughput = formats.rate(number(model.throughput.get("value")))
    return [value, between, formats.size(model.bytes), formats.milliseconds(model.p50), throughput]
