"""Tables on stdout for people. Nothing here computes; a key that a command did not find is left out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from understudy.report.formats import DASH, count, milliseconds, number, plain, seconds, share, size, times
from understudy.wording import METRICS, metric_name

_PIPE_WIDTH = 120
_ROLES = ("artefact", "student", "twin", "teacher", "baseline")
_CALLED = {"majority": "always the same"}  # what a model reaches that never looks at a row
_IN_UNITS: Mapping[str, Callable[[float], str]] = {
    "parameters": lambda value: f"{count(value)} parameters",
    "bytes": size,
    "disk_bytes": lambda value: f"{size(value)} on disk",
    "seconds": seconds,
}


def stdout() -> Console:
    """A console on stdout that does not guess 80 columns when it is piped."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose columns of numbers are right-aligned."""
    rows = [["" if cell is None else cell for cell in row] for row in rows]
    drawn = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    drawn.show_header = any(columns)
    for position, name in enumerate(columns):
        figures = bool(rows) and all(number(row[position]) is not None or row[position] == "" for row in rows)
        drawn.add_column(name, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(figure(cell) for cell in row))
    return drawn


def figure(value: Any) -> str:
    """A cell or a remark as text.

    >>> figure(0.97123456), figure(True), figure({"rows": 3, "path": "x"}), figure(["a", "b"])
    ('0.9712', 'yes', 'rows 3, path x', 'a, b')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(_in_units(str(key), part) for key, part in value.items() if part is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(figure, value))
    return str(value)


def show_check(found: Mapping[str, Any]) -> None:
    """The pre-flight in one screen.

    Args:
        found: any of task, data, teacher, majority, labels, tokenizer, leaks, forecast (a sentence, number or mapping);
            terms: [{name, value, gradient_norm, count}]; sizes: {model: {parameters, bytes}}; choice: {candidates:
            [{name, bytes, p95_ms, fits, skipped}]}; notes: [sentences].
    """
    screen = stdout()
    apart = ("terms", "sizes", "choice", "notes")
    facts = [key for key in found if key not in apart and found[key] is not None]
    screen.print(
        table("", ("", ""), [(_CALLED.get(key, key), figure(found[key]).removeprefix(f"{key}: ")) for key in facts])
    )
    if found.get("terms"):
        columns = list(dict.fromkeys(key for term in found["terms"] for key in term))
        screen.print()
        screen.print(
            table(
                "one batch",
                [c.replace("_", " ") for c in columns],
                [[t.get(c) for c in columns] for t in found["terms"]],
            )
        )
    if found.get("sizes"):
        screen.print()
        screen.print(table("sizes", ("model", ""), [(name, figure(what)) for name, what in found["sizes"].items()]))
    if found.get("choice"):
        screen.print()
        screen.print(
            table("student auto", ("candidate", "size", "p95", ""), map(_candidate, found["choice"]["candidates"]))
        )
    for note in found.get("notes") or ():
        screen.print(f"- {note}")


def _candidate(one: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the candidates for ``student: auto``."""
    verdict = one["skipped"] or ("chosen" if one["fits"] else "over a limit")
    return one["name"], size(number(one["bytes"])), milliseconds(number(one["p95_ms"])), verdict


def show_comparison(rows: Iterable[Mapping[str, Any]]) -> None:
    """Runs side by side, as ``understudy.report.compare`` found them; what a run did not measure is a dash."""
    cells = [
        (
            row["name"],
            row["verdict"] or DASH,
            metric_name(row["metric"]),
            *(plain(number((row.get(role) or {}).get("value"))) for role in _ROLES),
            share(number(row.get("retention"))),
            size(number(row.get("bytes"))),
            milliseconds(number(row.get("p50_ms"))),
            times(number(row.get("speedup"))),
        )
        for row in rows
    ]
    stdout().print(table("", ("run", "verdict", "metric", *_ROLES, "retention", "size", "p50", "speedup"), cells))


def show_ladder(facts: Mapping[str, Any]) -> None:
    """fp32 and every rung that was tried: size, metric, points lost, speed; then what to know about it."""
    cells = [
        (
            f"{'* ' if rung['rung'] == facts['rung'] else '  '}{rung['rung']}",
            size(number(rung["bytes"])),
            f"{rung['metric']:.4f}",
            f"{rung['drop']:.2f}",
            f"{plain(number(rung.get('rows_per_s')))} /s",
        )
        for rung in facts["ladder"]
    ]
    screen = stdout()
    screen.print(table("", ("rung", "size", metric_name(facts["metric"]), "points lost", "rows"), cells))
    for note in facts["notes"]:
        screen.print(note)


def show_objectives(rows: Iterable[Mapping[str, Any]]) -> None:
    """Every term, then every divergence: one line, formula, what it reads and counts, source."""
    screen = stdout()
    rows = list(rows)
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        screen.print(f"{kind}s: {len(mine)}\n", style="bold")
        for row in mine:
            screen.print(Text.assemble((row["name"], "bold"), "  ", row["says"]))
            reads = [", ".join(row["needs"][side]) for side in ("learner", "source")]
            needs = f"student {reads[0]}" + (f"; teacher {reads[1]}" if reads[1] else "")
            together = "; rows act on each other" if row["coupled"] else ""
            facts = {
                "formula": row["formula"],
                "needs": needs,
                "counts": f"{row['per']}{together}; at equality {row['at_equality']}",
                "source": row["source"],
            }
            grid = Table.grid(padding=(0, 2, 0, 0))
            for name, text in facts.items():
                if text:
                    grid.add_row(name, text)
            screen.print(Padding(grid, (0, 0, 0, 4)))
        screen.print()
    screen.print("P is the teacher's distribution, Q the student's; terms carry temperature^2, divergences do not.")


def show_doctor(found: Mapping[str, Any]) -> None:
    """Versions, the machine, and what is missing with how to install it."""
    screen = stdout()
    for section in ("versions", "machine"):
        screen.print(table(section, ("", ""), [(key, figure(value)) for key, value in found[section].items()]))
        screen.print()
    screen.print(table("extras", ("", ""), [(name, figure(said)) for name, said in found["extras"].items()]))
    for problem in found["problems"]:
        screen.print(f"! {problem}")


def _in_units(key: str, value: Any) -> str:
    exact = number(value)
    if key in _IN_UNITS and exact is not None:
        return _IN_UNITS[key](exact)
    name, _, rows = key.partition(" ")  # "spearman on 500 validation rows"
    return " ".join(part for part in (METRICS.get(name, name), rows, figure(value)) if part)
