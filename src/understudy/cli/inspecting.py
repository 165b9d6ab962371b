"""Commands that look: compare, predict, objectives, doctor, schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli.dials import AsJson
from understudy.cli.results import print_json


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Folders of runs.")],
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Write a page with the pictures here.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Puts runs side by side: one table; with --out a page with pictures of quality against size and latency.

    \b
    Examples:
      understudy compare runs/static runs/cut
      understudy compare runs/* --out compare.html
    """
    from understudy.cli.boundary import say
    from understudy.errors import UsageError
    from understudy.report import compare as side_by_side
    from understudy.report import other_rows

    if out is not None and Path(out).is_dir():
        raise UsageError(f"--out {out} is a folder: wanted a file such as compare.html")
    found = [(name, _facts(Path(run))) for name, run in zip(_names(runs), runs, strict=True)]
    _refuse_tasks(found)
    if apart := other_rows(found):
        say(apart)
    page, rows = side_by_side(found)
    if out is not None:
        from understudy.files import write_text

        write_text(Path(out), page)
    if as_json:
        print_json({"runs": rows, "page": out})
        return 0
    from understudy.cli.screens import show_comparison

    show_comparison(rows)
    if out is not None:
        print(out)
    return 0


def predict(
    folder: Annotated[str, typer.Argument(metavar="RUN|ARTEFACT", help="A run or an artefact.")],
    source: Annotated[str, typer.Argument(metavar="[-]", help="JSON lines: a file, or - for stdin.")] = "-",
    threads: Annotated[int, typer.Option("--threads", min=1, metavar="N", help="Threads of an ONNX model.")] = 1,
) -> int:
    """Answers JSON lines with JSON lines, without PyTorch.

    Reads {"text": ...} or {"image": path}, and adds label, probabilities and abstained; of {"tokens": [words]} tags and
    spans; of {"question": ..., "context": ...} answer, start and end.

    \b
    Examples:
      echo '{"text": "where is my card?"}' | understudy predict runs/tickets
      understudy predict runs/tickets/artefact rows.jsonl > answers.jsonl
    """
    # the entry point usually hands `predict` straight to the runtime, before this room is imported
    from understudy.runtime import stream

    if source == "-":
        stream(folder, sys.stdin.buffer, sys.stdout, threads=threads)
    else:
        with open(source, "rb") as lines:
            stream(folder, lines, sys.stdout, threads=threads)
    return 0


def objectives(as_json: AsJson = False) -> int:
    """Every term and divergence: formula, what it counts, its value at equality, its source.

    \b
    Examples:
      understudy objectives
      understudy objectives --json
    """
    from understudy.objectives import describe

    rows = describe()
    if as_json:
        print_json({"objectives": rows})
    else:
        from understudy.cli.screens import show_objectives

        show_objectives(rows)
    return 0


def doctor(as_json: AsJson = False) -> int:
    """Versions, devices, threads, precision, free disk, and extras that are missing.

    \b
    Examples:
      understudy doctor
      understudy doctor --json
    """
    from understudy.cli.doctor import examine

    found = examine(Path.cwd())
    if as_json:
        print_json(found)
    else:
        from understudy.cli.screens import show_doctor

        show_doctor(found)
    return 0


def schema() -> int:
    """The recipe's JSON schema, for editors that check YAML while it is written.

    \b
    Examples:
      understudy schema > recipe.schema.json
    """
    from understudy.pipeline.recipe import schema as recipe_schema

    print_json(recipe_schema())
    return 0


def _names(runs: list[str]) -> list[str]:
    """What to call the runs: their folders' names where these differ.

    >>> _names(["runs/static", "runs/cut"]), _names(["a/x", "b/x"])
    (['static', 'cut'], ['a/x', 'b/x'])
    """
    short = [Path(run).name for run in runs]
    return short if len(set(short)) == len(short) and all(short) else runs


def _refuse_tasks(found: list[tuple[str, dict[str, Any]]]) -> None:
    """Numbers of two tasks in one table would be read as if one of them had lost."""
    from understudy.errors import UsageError

    first, task = found[0][0], found[0][1].get("task")
    for name, facts in found[1:]:
        if facts.get("task") != task:
            raise UsageError(f"{first} is {task}, {name} is {facts.get('task')}: compare runs of one task")


def _facts(run: Path) -> dict[str, Any]:
    from understudy.errors import StoreError, UsageError

    path = run if run.suffix == ".json" else run / "run.json"
    if not path.exists():
        raise UsageError(f"{run} is no finished run: it has no run.json; understudy distill --out {run} makes one")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is not readable as JSON ({error}); run understudy evaluate {run} again") from None
    if not isinstance(facts, dict) or facts.get("schema") != 1:
        raise StoreError(f"{path} is not a run.json of schema 1; it was written by another version or program")
    return facts


COMMANDS = {"compare": compare, "predict": predict, "objectives": objectives, "doctor": doctor, "schema": schema}
