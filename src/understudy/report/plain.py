"""The same facts without pictures: lines for the terminal, and the card that ships beside the model."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from understudy.report import exits, formats, sentences
from understudy.report.facts import ROLES, Facts, Model, dig, listed, read
from understudy.report.formats import number
from understudy.wording import words

WIDTH = 100


def summary(run: dict[str, Any]) -> str:
    """About fifteen aligned lines for a terminal: the verdict, what was kept, one line per model, gates, advice.

    Args:
        run: the content of run.json; whatever is missing leaves no line.

    Returns:
        Plain text without colours, at most 100 columns where labels and names allow it, without a newline at the end.
    """
    facts = read(run)
    indent = " " * (len(facts.verdict or "NO VERDICT") + 2)
    lines = [f"{facts.verdict or 'NO VERDICT'}  {sentences.headline(facts)}"]
    why = dig(run, "verdict", "why")
    if facts.difference is not None and not sentences.says_numbers(facts):
        lines.append(indent + sentences.interval(facts))
    if why:
        lines += textwrap.wrap(str(why), WIDTH, initial_indent=indent, subsequent_indent=indent)
    kept = [f"{value} {said}" for value, said, _ in sentences.kept(facts)]
    if kept:
        lines += ["", " · ".join(kept)]
    lines += ["", *_columns(facts)]
    leaving = exits.sentence(facts)
    if leaving:
        lines += ["", *_wrapped("exits", leaving)]
    if facts.gates:
        lines += ["", *_wrapped("gates", sentences.gates(facts))]
    advice = dig(run, "verdict", "next")
    if advice:
        lines += _wrapped("next", str(advice))
    return "\n".join(line.rstrip() for line in lines).replace(formats.SPACE, " ").replace("\n\n\n", "\n\n").strip()


def _wrapped(head: str, said: str) -> list[str]:
    return textwrap.wrap(said, WIDTH, initial_indent=f"{head:<11}", subsequent_indent=" " * 11)


def _columns(facts: Facts) -> list[str]:
    if not facts.models:
        return []
    rows = [["", facts.metric_name, "95 % interval", "size", "p50", "throughput"]]
    for role in ROLES:
        model = facts.models.get(role)
        if model is not None:
            rows.append([model.name, *_cells(facts, model)])
    keep = [c for c in range(len(rows[0])) if c == 0 or any(row[c] != formats.DASH for row in rows[1:])]
    wide = {c: max(len(row[c]) for row in rows) for c in keep}
    return ["  ".join(row[c].ljust(max(wide[c], 9)) if c == 0 else row[c].rjust(wide[c]) for c in keep) for row in rows]


def _cells(facts: Facts, model: Model) -> list[str]:
    value, between = sentences.written(facts, model.metrics.get(facts.metric))
    throughput = formats.rate(number(model.throughput.get("value")))
    return [value, between, formats.size(model.bytes), formats.milliseconds(model.p50), throughput]


def card(run: dict[str, Any]) -> str:
    """The Markdown card of the exported model: what it is, how to use it, what was measured, where it ends.

    Args:
        run: the content of run.json; whatever is missing leaves no heading.

    Returns:
        Markdown that ends with a newline. Names from the data set are escaped for Markdown and HTML alike. An export
        with a failed gate is called a candidate throughout.
    """
    facts = read(run)
    parts = [_opening(facts), _use(facts), _measured(facts), _limits(facts), _gates(facts), _labels(facts), _how(facts)]
    return "\n\n".join(part for part in parts if part).replace(formats.SPACE, " ") + "\n"


def safe(text: Any) -> str:
    """Text of a data set for Markdown: nothing in it is markup, and it stays on one line.

    >>> print(safe("<b>|*"))
    &lt;b&gt;\\|\\*
    """
    flat = (
        " ".join((formats.DASH if text is None else str(text)).split())
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", flat)


def _opening(facts: Facts) -> str:
    task = facts.task or "a task"
    if facts.failed:
        title = f"# A candidate for {safe(task)} that failed its gates"
        first = f"**Do not ship this.** {safe(sentences.gates(facts))}"
    else:
        title, first = f"# A distilled model for {safe(task)}", ""
    teacher, student = (facts.models[role].line if role in facts.models else "" for role in ("teacher", "student"))
    what = f"A small model ({safe(student)})" if student else "A small model"
    what += f", taught by a large one ({safe(teacher)})." if teacher else ", taught by a large one."
    kept = [f"**{value}** {said}" for value, said, _ in sentences.kept(facts)]
    lines = [title, first, f"{what} It runs without PyTorch.", f"{'; '.join(kept)}." if kept else ""]
    lines.append(f"**{facts.verdict}.** {sentences.headline(facts)}" if facts.verdict else "")
    return "\n\n".join(line for line in lines if line)


def _use(facts: Facts) -> str:
    image = "image" in facts.task
    rows = '[{"image": "example.png"}]' if image else '["where is my card?"]'
    line = '{"image": "example.png"}' if image else '{"text": "where is my card?"}'
    needs = "numpy, onnxruntime and pillow" if image else "numpy, onnxruntime and tokenizers"
    return (
        f"## Use\n\n```python\nfrom understudy import runtime\n"
        f'model = runtime.load("path/to/this/folder")\nprint(model.predict({rows}))\n```\n\n'
        f"```sh\necho '{line}' | understudy predict path/to/this/folder -\n```\n\nNeeds {needs} at most; never torch."
    )


def _measured(facts: Facts) -> str:
    if not facts.models:
        return ""
    head = ["", facts.metric_name, "95 % interval", "size", "latency p50", "throughput", "ECE"]
    rows = [
        [m.name, *_cells(facts, m), formats.share(m.ece_after)]
        for m in (facts.models.get(role) for role in ("artefact", "student", "twin", "teacher", "baseline"))
        if m is not None
    ]
    table = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    said = [_conditions(facts)]
    for key, text in (
        ("agreement", "of the test rows get the teacher’s answer"),
        ("negative_flip_rate", "of them the teacher had right and this model has wrong"),
    ):
        value = number(dig(facts.run, "comparison", key))
        if value is not None:
            said.append(f"{formats.share(value, facts.digits)} {text}.")
    said.append(exits.sentence(facts))
    return "## Measured\n\n" + "\n".join(table) + "\n\n" + " ".join(text for text in said if text)


def _conditions(facts: Facts) -> str:
    export = facts.models.get("artefact")
    bits = []
    for name, found in (("Latency", export.latency), ("throughput", export.throughput)) if export else ():
        batch, threads = number(found.get("batch")), number(found.get("threads"))
        if batch is not None and threads is not None:
            bits.append(f"{name} at batch {batch:.0f}, threads {threads:.0f}")
    rows = number(dig(facts.run, "data", "test", "rows"))
    if rows is not None:
        bits.append(f"metrics on {rows:,.0f} test rows")
    return f"{'; '.join(bits)}." if bits else ""


def _limits(facts: Facts) -> str:
    said = []
    worst = sorted(
        (r for r in listed(facts.run, "comparison", "per_class") if number(r.get("artefact")) is not None),
        key=lambda r: float(r["artefact"]),
    )[:5]
    if worst:
        weak = ", ".join(f"{safe(r.get('label'))} ({formats.share(number(r['artefact']))})" for r in worst)
        said.append(f"Weakest classes: {weak}.")
    abstain = dig(facts.run, "comparison", "abstain")
    threshold, covered, right = (number(dig(abstain, key)) for key in ("threshold", "coverage", "accuracy"))
    if threshold is not None:
        answered = f", which leaves {formats.share(covered)} of the rows" if covered is not None else ""
        answered += f" at {formats.share(right)} accuracy" if answered and right is not None else ""
        said.append(f"Abstains below a confidence of {formats.plain(threshold)}{answered}.")
    said.append("It always answers with one of its labels: whatever lies outside them is a guess.")
    seeds = number(dig(facts.run, "verdict", "seeds"))
    if seeds == 1:
        said.append("One training seed: the intervals cover the choice of test rows, not of the seed.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in said)


def _gates(facts: Facts) -> str:
    if not facts.gates:
        return ""
    rows = [
        f"- {'passed' if g.passed else '**FAILED**'}: {safe(g.name)} {safe(g.value)} (limit {safe(g.limit)})"
        for g in facts.gates
    ]
    return "## Gates\n\n" + "\n".join(rows)


def _labels(facts: Facts) -> str:
    names = [safe(formats.clip(name, 80)) for name in dig(facts.run, "labels", "names") or []]
    if not names:
        return ""
    shown = ", ".join(names[:200]) + (f", … ({len(names)} in all)" if len(names) > 200 else "")
    sentence = dig(facts.run, "labels", "sentence")
    return f"## Labels ({len(names)})\n\n{shown}" + (f"\n\n{safe(sentence)}" if sentence else "")


def _how(facts: Facts) -> str:
    where = dig(facts.run, "environment") or {}
    bits = [f"{words(key)} {safe(value)}" for key, value in where.items() if value not in (None, "", [], {})]
    text = (
        f"The {facts.export_name} was measured with the runtime that ships it, from the raw input to the label, on a"
        " test split that was opened once; everything was chosen on validation. Rates have Wilson intervals."
    )
    return f"## How it was measured\n\n{text}" + (f"\n\n{', '.join(bits)}." if bits else "")
