"""The data card: what somebody who trains on the table has to know, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNSTATED = "not stated"


def card(name: str, facts: Mapping[str, Any]) -> str:
    """The card of a table called ``name``; ``facts`` as `work.generate` returns them."""
    teacher, counts, tokens = facts["teacher"], facts["counts"], facts["tokens"]
    how = facts["parameters"]
    prompting = facts["prompts"]["prompting"]
    rows = [
        ("teacher", f"{teacher['model']}, asked at {teacher['where']}"),
        ("answered as", ", ".join(f"{model} ({rows:,})" for model, rows in teacher["answered_as"].items())),
        ("date", facts["date"] or UNSTATED),
        ("prompts", f"{facts['prompts']['source']}, {facts['prompts']['rows']:,} rows"),
        ("system prompt", prompting["system"] or "none"),
        ("template", prompting["template"] or "none"),
        ("answers a prompt", f"{how['samples']:,}"),
        ("temperature", f"{how['temperature']:g}"),
        ("top p", f"{how['top_p']:g}"),
        ("most tokens", f"{how['max_tokens']:,}"),
        ("seed", "none" if how["seed"] is None else str(how["seed"])),
        ("answers", f"{counts['answered']:,} of {counts['wanted']:,}"),
        ("rows kept", f"{counts['kept']:,}"),
        ("tokens", f"{tokens['in']:,} read, {tokens['out']:,} written"),
        ("cost", money(facts["cost"])),
        ("evaluation data avoided", ", ".join(facts["avoided"] or []) or "none was named"),
    ]
    lines = [f"# {_cell(name)}", "", "Completions by a teacher model: synthetic text, not checked by people.", ""]
    if facts["stopped"] or facts["unanswered"]:
        why = f"{facts['stopped']} was reached" if facts["stopped"] else "some requests failed"
        lines += [f"**Not complete**: {facts['unanswered']:,} answers are missing, as {why}.", ""]
    lines += ["| | |", "|---|---|", *(f"| {left} | {_cell(right)} |" for left, right in rows), ""]
    lines += ["## Licence and terms", "", facts["licence"] or f"{UNSTATED[0].upper()}{UNSTATED[1:]}.", ""]
    lines += [
        "Providers' terms may limit what models may be trained on their answers; prompts have licences of their own. "
        "Whoever made this table states both with `--licence`; nothing here was checked.",
        "",
        "## What the filters took",
        "",
        *attrition_lines(facts),
        "",
        "Each row counts for the first filter that takes it. The rows are in the `.rejected.jsonl` beside this card.",
    ]
    if facts["notes"]:
        lines += ["", "## Notes", "", *(f"- {_cell(note)}" for note in facts["notes"])]
    return "\n".join(lines) + "\n"


def attrition_lines(facts: Mapping[str, Any]) -> list[str]:
    """The attrition table in Markdown."""
    rows = [(_cell(one["filter"]), _cell(one["rule"]), one["taken"], one["left"]) for one in facts["attrition"]]
    lines = ["| filter | takes | rows | left |", "|---|---|---:|---:|"]
    return [*lines, *(f"| {name} | {rule} | {taken:,} | {left:,} |" for name, rule, taken, left in rows)]


def money(cost: Mapping[str, Any] | None) -> str:
    """What it cost, in a line.

    >>> money({"total": 0.1234567, "possible": 0, "without_counts": 2, "price_in": 1, "price_out": 2})
    '0.1235 at 1 in, 2 out per million tokens; 2 answers without token counts at their worst case'
    """
    if cost is None:
        return "no prices were given"
    parts = [f"{cost['total']:.4g} at {cost['price_in']:g} in, {cost['price_out']:g} out per million tokens"]
    if cost["without_counts"]:
        parts.append(f"{cost['without_counts']:,} answers without token counts at their worst case")
    if cost["possible"]:
        parts.append(f"up to {cost['possible']:.4g} for requests that nobody answered")
    return "; ".join(parts)


def _cell(text: str) -> str:
    """Text that cannot leave its cell or become markup."""
    plain = " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|")
    return plain.replace("<", "&lt;").replace("`", "\\`")
