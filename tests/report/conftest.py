"""The runs of ``runs.py`` as fixtures, and one browser for the tests that look at the page."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy import report

from .browser import PATH, Browser
from .other_runs import OTHERS
from .runs import digits_run, gates, text_run

Pair = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="session")
def _digits() -> Pair:
    return digits_run()


@pytest.fixture
def digits(_digits: Pair) -> Pair:
    """Ten classes, pictures, everything measured, BEATS."""
    return copy.deepcopy(_digits)


@pytest.fixture
def intents() -> Pair:
    """151 classes, texts (one hostile), rests beside the logits, INCONCLUSIVE."""
    return text_run()


@pytest.fixture
def failed(digits: Pair) -> Pair:
    """The digits, harmed by distilling and with an export that lost 1.9 points."""
    run, evidence = digits
    run["verdict"] |= {"distillation": "HARMS", "gates": gates(1.9), "next": "Try temperature 1."}
    run["comparison"]["difference"] = {"value": -0.0139, "low": -0.0278, "high": -0.0028}
    for part in (run["models"]["artefact"], evidence):
        part.pop("model", None)
    return run, evidence


@pytest.fixture
def minimal() -> Pair:
    """As little as a run may hold, with null and NaN where numbers could be."""
    nothing = {"value": float("nan"), "low": None, "high": float("inf")}
    run = {
        "schema": 1,
        "task": "text-classification",
        "recipe": {},
        "data": {},
        "baselines": [],
        "stages": [],
        "environment": {},
        "cost": {},
        "models": {
            "teacher": {
                "parameters": None,
                "bytes": None,
                "metrics": {"accuracy": {"value": 0.9, "low": float("nan"), "high": None}},
                "latency_ms": None,
                "throughput_per_s": None,
            },
            "student": {"bytes": float("nan"), "metrics": {"accuracy": nothing}},
            "artefact": None,
        },
        "comparison": {
            "metric": "accuracy",
            "direction": "higher",
            "retention": float("nan"),
            "gap_closed": None,
            "compression": None,
            "speedup": None,
            "per_class": [],
            "difference": None,
        },
        "verdict": {"distillation": None, "margin": None, "why": "", "next": "", "gates": []},
    }
    return run, {"schema": 1, "curves": {}, "examples": [], "reliability": {}, "coverage": [], "how": {}}


@pytest.fixture
def other(request: pytest.FixtureRequest) -> Pair:
    """One of ``OTHERS`` by its name: a run whose answer is not one label."""
    return OTHERS[request.param]()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; its tests skip where there is none."""
    if PATH is None:
        pytest.skip("no Chromium here: the page is not looked at")
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture
def page(tmp_path: Path) -> Any:
    """``page(run, evidence)`` -> the path of the written report."""

    def write(run: dict[str, Any], evidence: dict[str, Any]) -> Path:
        path = tmp_path / "report.html"
        path.write_text(report.html(run, evidence), encoding="utf-8")
        return path

    return write
