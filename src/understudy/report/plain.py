"""The same facts without pictures: lines for the terminal."""

from __future__ import annotations

import textwrap
from typing import Any

from understudy.report import exits, formats, sentences
from understudy.report.facts import ROLES, Facts, dig, read

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
        together = " · ".join(kept)
        lines += ["", *([together] if len(together) <= WIDTH else kept)]
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
            rows.append([model.name, *sentences.cells(facts, model)])
    keep = [c for c in range(len(rows[0])) if c == 0 or any(row[c] != formats.DASH for row in rows[1:])]
    wide = {c: max(len(row[c]) for row in rows) for c in keep}
    return ["  ".join(row[c].ljust(max(wide[c], 9)) if c == 0 else row[c].rjust(wide[c]) for c in keep) for row in rows]
