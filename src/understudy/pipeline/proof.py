"""evidence.json: what the report shows beside the numbers, capped so that the page stays small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from understudy import runtime
from understudy.answers import LABEL, SPAN, TAGS, VECTOR
from understudy.encoding.tokens import FIELD
from understudy.evaluation import Scored, disagreements, moved_answers, span_facts
from understudy.pipeline.exits import left
from understudy.pipeline.forms import raw_rows
from understudy.pipeline.journal import Facts
from understudy.pipeline.material import Material
from understudy.statistics import METRICS, coverage_curve, different, neighbours, reliability
from understudy.wording import metric_name

EXAMPLES, DISAGREEMENTS, SHOWN = 24, 12, 8
POINTS, BINS = 300, 31  # of scores, and of a histogram of their errors


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
    softens, one_label = material.task.answer.calibrates, material.task.answer is LABEL
    vectors = material.task.answer is VECTOR
    hidden = material.task.answer.reduced
    apart = [] if vectors or hidden else disagreements(teacher, artefact, most=DISAGREEMENTS)
    found: Facts = {
        "schema": 1,
        "labels": list(material.splits.label_names),
        "curves": {name: [_epoch(one) for one in history] for name, history in curves.items()},
        "examples": [_example(material, scored, rows[i], i) for i in _telling(teacher)] if one_label else [],
        "disagreements": [
            _example(material, scored, rows[i], i) | _who_says_what(material, scored, i) for i in apart if one_label
        ],
        "reliability": {
            name: reliability(*scored[name].judged) for name in ("teacher", "twin", "student", "artefact") if softens
        },
        "coverage": coverage_curve(artefact.confidence, artefact.correct) if one_label else [],
        "exits": _exits(material, artefact, rows),
        "initialisation": None,
        "how": _how(material),
    }
    if softens:
        found["reliability"]["artefact_before"] = reliability(*artefact.judged_before)
    if material.task.answer is TAGS:
        words = [row[FIELD] for row in rows]
        found["spans"] = span_facts(words, teacher, artefact, label_names=material.splits.label_names)
    elif material.task.answer is SPAN:
        found["answers"] = moved_answers(material.splits.test.inputs["question"], teacher, artefact)
    elif not one_label and not hidden:
        found["apart"] = [_apart(material, scored, rows[i], i) for i in apart]
    if vectors:
        found["neighbours"] = _neighbours(material, scored)
    elif not material.task.answer.decides and not hidden:
        found["residuals"] = _residuals(material, scored)
    return found


def _apart(material: Material, scored: Mapping[str, Scored], row: Any, i: int) -> Facts:
    """A row on which teacher and artefact differ: what it is, and what the data and both say of it."""
    teacher, artefact = scored["teacher"], scored["artefact"]
    said = {"data": teacher.labels[i], "teacher": teacher.predicted[i], "artefact": artefact.predicted[i]}
    if material.splits.scale is not None:
        return {**material.task.show(row), **{n: float(material.splits.scale.back(v)) for n, v in said.items()}}
    names = material.splits.label_names
    return {**material.task.show(row), **{n: [names[k] for k in np.flatnonzero(v)] for n, v in said.items()}}


def _residuals(material: Material, scored: Mapping[str, Scored]) -> Facts:
    """Scores of some test rows, evenly taken, and the errors of all, on the scale of the data."""
    scale, truth = material.splits.scale, scored["teacher"].labels
    assert scale is not None
    some = np.linspace(0, len(truth) - 1, min(POINTS, len(truth))).round().astype(np.int64)
    models = ("teacher", "twin", "artefact")
    errors = {name: (scored[name].predicted - truth) * scale.std for name in models}
    low, high = np.quantile(np.concatenate(list(errors.values())), [0.002, 0.998])
    edges = np.linspace(low, high, BINS + 1)
    return {
        "points": [
            [round(float(v), 4) for v in scale.back([truth[i], *(scored[name].predicted[i] for name in models)])]
            for i in some
        ],
        "models": list(models),
        "edges": [round(float(edge), 4) for edge in edges],
        "counts": {
            name: np.histogram(np.clip(e, edges[0], edges[-1]), edges)[0].tolist() for name, e in errors.items()
        },
        "mean_absolute": {name: float(np.abs(e).mean()) for name, e in errors.items()},
    }


def _neighbours(material: Material, scored: Mapping[str, Scored]) -> list[Facts]:
    """A dozen test texts whose nearest texts changed most, those first that share the fewest of ten with the teacher.

    Of each ``text``, ``shared`` (of the teacher's ten nearest, how many are among the artefact's ten) and, for
    ``teacher`` and ``artefact``, the three nearest texts, the nearest first: ``[{"text", "cosine"}, ...]``. Neighbours
    are looked for among the different test texts, 2,000 at most.
    """
    vectors = {name: scored[name].predicted for name in ("teacher", "artefact")}
    rows = different(scored["teacher"].labels[:, 1:])
    ours = {name: one[rows] for name, one in vectors.items()}
    near = {name: neighbours(one) for name, one in ours.items()}
    shared = (near["teacher"][:, :, None] == near["artefact"][:, None, :]).any(axis=2).sum(axis=1)
    shown = [material.task.show({"text": material.splits.test.inputs["text"][row]})["text"] for row in rows.tolist()]

    def nearest(name: str, i: int) -> list[Facts]:
        mine = ours[name]
        return [{"text": shown[j], "cosine": round(float(mine[i] @ mine[j]), 4)} for j in near[name][i, :3].tolist()]

    return [
        {"text": shown[i], "shared": int(shared[i]), **{name: nearest(name, i) for name in near}}
        for i in np.argsort(shared, kind="stable")[:DISAGREEMENTS].tolist()
    ]


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
    metric, threads = str(recipe.evaluation.metric), recipe.evaluation.threads
    answer = material.task.answer.name
    calibration = {
        "label": "one temperature per model, fitted on validation; ECE over 15 bins of equal width",
        "labels": "one temperature per model and one threshold per label, chosen on validation; a row is right where "
        "all of its labels are",
        "span": "one temperature per model, fitted on starts and ends of validation; an answer is as sure as both "
        "of its ends; ECE over 15 bins",
        "tags": "one temperature per model, fitted on the words of validation; ECE of words, over 15 bins",
    }
    speed = f"on {threads} thread{'s' if threads != 1 else ''}, from the raw input to the answer"
    return {
        metric: f"on {len(splits.test):,} test rows, opened once; 95 % intervals (Wilson for rates, else bootstrap)",
        "retention": f"{metric_name(metric)} of the artefact (torch-free runtime, INT{recipe.export.bits}) divided by "
        "the teacher's" + (", turned round: less is better" if METRICS[metric].direction == "lower" else ""),
        "gap closed": "(student - twin) / (teacher - twin); not defined where the teacher is no better than the twin",
        "verdict": "student minus twin, paired bootstrap over test rows (and seeds), against the margin",
        **({"calibration": calibration[answer]} if answer in calibration else {}),
        "latency": f"one row at a time, {speed}; p50, p95 and p99 over real rows",
        "throughput": f"best of several passes over length-sorted real rows, {speed}",
        "speedup": "best throughput of each; the teacher in fp32, the better of PyTorch and ONNX Runtime",
        "compression": "teacher's bytes on disk / artefact's, vocabularies included",
        "twin": "the same student, rows, steps and start, trained without the teacher",
    }
