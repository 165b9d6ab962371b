"""evidence.json: what the report shows beside the numbers, capped so that the page stays small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from understudy import runtime
from understudy.evaluation import Scored, disagreements
from understudy.pipeline.exits import left
from understudy.pipeline.forms import raw_rows
from understudy.pipeline.journal import Facts
from understudy.pipeline.material import Material
from understudy.statistics import coverage_curve, reliability

EXAMPLES, DISAGREEMENTS, SHOWN = 24, 12, 8


def evidence(
    material: Material,
    scored: Mapping[str, Scored],
    *,
    learnt: Mapping[str, Facts],
    taught: Facts,
    chosen: tuple[int, int],
) -> Facts:
    """The content of evidence.json."""
    teacher, artefact = scored["teacher"], scored["artefact"]
    curves = {"student": learnt[f"student.{chosen[0]}"]["history"], "twin": learnt[f"twin.{chosen[1]}"]["history"]}
    if taught.get("history"):
        curves["teacher"] = taught["history"]
    rows = raw_rows(material.splits.test)
    return {
        "schema": 1,
        "labels": list(material.splits.label_names),
        "curves": {name: [_epoch(one) for one in history] for name, history in curves.items()},
        "examples": [_example(material, scored, rows[i], i) for i in _telling(teacher)],
        "disagreements": [
            _example(material, scored, rows[i], i) | _who_says_what(material, scored, i)
            for i in disagreements(teacher, artefact, most=DISAGREEMENTS)
        ],
        "reliability": {
            name: reliability(scored[name].confidence, scored[name].correct)
            for name in ("teacher", "twin", "student", "artefact")
        }
        | {"artefact_before": reliability(artefact.confidence_before, artefact.correct)},
        "coverage": coverage_curve(artefact.confidence, artefact.correct),
        "exits": _exits(material, artefact, rows),
        "initialisation": None,
        "how": _how(material),
    }


def _exits(material: Material, artefact: Scored, rows: list[Any]) -> Facts | None:
    """Who left where in the test split, and how often rightly; None for an artefact without exits."""
    places = (material.folder / name for name in ("artefact", "rejected"))
    place = next(place for place in places if place.is_dir())
    settings = runtime.read_manifest(place).get("exits")
    return settings and left(runtime.load(place).exits(rows), artefact.correct, settings)


def _telling(teacher: Scored) -> list[int]:
    """Rows that show what a hard label cannot: the teacher is right, its second thought weighs most; few per class."""
    order = np.sort(teacher.probabilities, axis=1)
    second = np.where(teacher.correct, order[:, -2], -1.0)
    each = max(1, -(-EXAMPLES // teacher.logits.shape[1]))
    found: list[int] = []
    taken: dict[int, int] = {}
    for row in np.argsort(-second, kind="stable"):
        label = int(teacher.labels[row])
        if taken.get(label, 0) < each and second[row] >= 0:
            taken[label] = taken.get(label, 0) + 1
            found.append(int(row))
        if len(found) == EXAMPLES:
            break
    return found


def _example(material: Material, scored: Mapping[str, Scored], row: Any, i: int) -> Facts:
    names = material.splits.label_names
    teacher, student = scored["teacher"].logits[i].astype(float), scored["student"].logits[i].astype(float)
    shown = np.arange(len(names)) if len(names) <= 12 else _top(teacher, student)
    rest = np.setdiff1d(np.arange(len(names)), shown)
    return {
        **material.task.show(row),
        "label": names[int(scored["teacher"].labels[i])],
        "labels": [names[k] for k in shown],
        "teacher": [round(float(teacher[k]), 4) for k in shown],
        "student": [round(float(student[k]), 4) for k in shown],
        "teacher_rest": _logsumexp(teacher[rest]),
        "student_rest": _logsumexp(student[rest]),
    }


def _top(teacher: Any, student: Any) -> Any:
    """The labels that either of the two likes best, the teacher's favourite first."""
    likes = np.maximum(teacher - teacher.max(), student - student.max())
    best = np.argsort(-likes, kind="stable")[:SHOWN]
    return best[np.argsort(-teacher[best], kind="stable")]


def _logsumexp(values: Any) -> float | None:
    return round(float(values.max() + np.log(np.exp(values - values.max()).sum())), 4) if len(values) else None


def _who_says_what(material: Material, scored: Mapping[str, Scored], i: int) -> Facts:
    names = material.splits.label_names
    said: Facts = {}
    for name in ("teacher", "artefact"):
        said[f"{name}_label"] = names[int(scored[name].predicted[i])]
        said[f"{name}_confidence"] = float(scored[name].confidence[i])
    return said


def _epoch(record: Mapping[str, Any]) -> Facts:
    return {key: record.get(key) for key in ("step", "epoch", "loss", "validation", "terms", "weights")}


def _how(material: Material) -> dict[str, str]:
    recipe, splits = material.recipe, material.splits
    metric, threads = recipe.evaluation.metric, recipe.evaluation.threads
    speed = f"on {threads} thread{'s' if threads != 1 else ''}, from the raw input to the label"
    return {
        str(
            metric
        ): f"on {len(splits.test):,} test rows, opened once; 95 % intervals (Wilson for rates, else bootstrap)",
        "retention": f"{metric} of the artefact (torch-free runtime, INT{recipe.export.bits}) divided by the teacher's",
        "gap closed": "(student - twin) / (teacher - twin); not defined where the teacher is no better than the twin",
        "verdict": "student minus twin, paired bootstrap over test rows (and seeds), against the margin",
        "calibration": "one temperature per model, fitted on validation; ECE over 15 bins of equal width",
        "latency": f"one row at a time, {speed}; p50, p95 and p99 over real rows",
        "throughput": f"best of several passes over length-sorted real rows, {speed}",
        "speedup": "best throughput of each; the teacher in fp32, the better of PyTorch and ONNX Runtime",
        "compression": "teacher's bytes on disk / artefact's, vocabularies included",
        "twin": "the same student, rows, steps and start, trained without the teacher",
    }
