"""What a command leaves on stdout: one JSON object, or a summary for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_GATE_FAILED = 5


def print_json(value: Any) -> None:
    """One JSON object on stdout; what JSON has no word for (NaN, infinities) becomes null."""
    from understudy.report.formats import clean

    json.dump(clean(value), sys.stdout, ensure_ascii=False, indent=2, allow_nan=False, default=str)
    print()


def show_run(run: Any, *, as_json: bool) -> int:
    """The result of a run, and the exit code that its gates give it.

    Args:
        run: has ``folder``, ``facts`` (run.json) and ``summary()``.
        as_json: print the facts instead of the summary.

    Returns:
        0, or 5 where a gate failed: the run is measured and reported all the same.
    """
    if as_json:
        print_json(run.facts)
    elif not run.facts:
        print(f"{run.folder}: nothing is measured yet; understudy evaluate {run.folder} does that")
    else:
        print(run.summary())
        report = Path(run.folder) / "report.html"
        if report.exists():
            print(report)
    return say_failed(failed_gates(run.facts))


def say_failed(failed: list[str]) -> int:
    """The exit code of failed gates, which are named on stderr; 0 where none failed."""
    if failed:
        print(f"understudy: a gate failed: {'; '.join(failed)}; no artefact was made", file=sys.stderr)
        return _GATE_FAILED
    return 0


def failed_gates(facts: Mapping[str, Any]) -> list[str]:
    """The gates of run.json that were not met, in words.

    >>> failed_gates({"verdict": {"gates": [{"name": "max_mb", "limit": 1, "value": 2, "passed": False}]}})
    ['max_mb is 2, limit 1']
    """
    gates = (facts.get("verdict") or {}).get("gates") or []
    return [f"{gate['name']} is {gate['value']}, limit {gate['limit']}" for gate in gates if not gate["passed"]]
