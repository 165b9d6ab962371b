"""Evaluation: the test split is opened here, once, and everything that run.json says about it is measured."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from understudy import __version__, baselines, evaluation, runtime, students
from understudy.answers import LABEL, VECTOR
from understudy.evaluation import Scored, calibrated
from understudy.files import content_hash
from understudy.pipeline.forms import raw_rows, to_graph, write_plain
from understudy.pipeline.journal import Facts
from understudy.pipeline.label import validation_logits
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.members import left_out, size_of
from understudy.pipeline.timing import best_of, in_torch, speed_of, timed
from understudy.pipeline.vectors import with_heard
from understudy.statistics import METRICS
from understudy.teachers import Loaded, describe, merged, score_rows

OUT_OF_SCOPE = ("oos", "out_of_scope", "out-of-scope", "out of scope")
ORDER_AWARE = {"static": False, "ngram": False} | dict.fromkeys(("conv", "gru", "transformer", "cut"), True)
SAMPLE = 2000  # training rows on which the student's ceiling is looked for

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Cast:
    """Every model of the table, before any of them has seen the test split.

    Attributes:
        teacher: as it was asked.
        teacher_folder: where its files are; None for a module that was given.
        kind: what the students are.
        students: seed -> trained student.
        twins: seed -> trained twin.
        chosen: the seed that ships (best student on validation) and that of its twin in the table (best twin).
        artefact: the exported folder.
    """

    teacher: Loaded
    teacher_folder: Path | None
    kind: Apprentice
    students: dict[int, nn.Module]
    twins: dict[int, nn.Module]
    chosen: tuple[int, int]
    folders: tuple[Path, Path]
    artefact: Path
    exported: Facts = field(default_factory=dict)


def judge(
    material: Material, cast: Cast, *, learnt: dict[str, Facts], labelled: Facts, taught: Facts
) -> tuple[Facts, dict[str, Scored]]:
    """The measured part of run.json, and the scores that the evidence is drawn from."""
    recipe, splits, names = material.recipe, material.splits, material.splits.label_names
    metric = str(recipe.evaluation.metric)
    said = [one.teacher.scores(splits.test.inputs) for one in cast.teacher.members]
    joined = merged(cast.teacher.members, said, space=cast.teacher.space) if said else None
    heard = cast.teacher.scores(splits.test.inputs) if joined is None else joined
    material = with_heard(material, "test", heard)
    splits = material.splits
    scored = _score_all(material, cast, heard)
    fitted = list(material.baselines(cast.teacher.encoder))
    plain = [_baseline(material, one) for one in fitted]
    best = max(range(len(fitted)), key=lambda i: _on_validation(material, fitted[i].validation))
    scored["baseline"] = plain[best]
    learners = [scored[f"student.{seed}"] for seed in cast.students]
    twins = [scored[f"twin.{seed}"] for seed in cast.twins]
    outside = None
    if material.task.answer is LABEL:
        outside = recipe.evaluation.out_of_scope or next((n for n in names if n.casefold() in OUT_OF_SCOPE), None)
    common: Facts = {"metric": metric, "seed": recipe.seed}
    comparison = evaluation.compare(
        teacher=scored["teacher"], baseline=plain[best], twin=twins, student=learners, artefact=scored["artefact"],
        label_names=names, out_of_scope=outside, **common,
    )  # fmt: skip

    models = _models(material, cast, scored, fitted[best], best_scored=plain[best])
    size = models["teacher"]["bytes"]
    comparison["compression"] = None if size is None else size / models["artefact"]["bytes"]
    speed = {name: models[name]["throughput_per_s"]["value"] for name in ("teacher", "artefact")}
    comparison["speedup"] = speed["artefact"] / speed["teacher"]
    comparison["teacher_engine"] = models["teacher"]["engine"]
    cost = evaluation.cost(
        label_seconds=labelled.get("seconds", 0.0),
        teacher_calls=labelled.get("teacher_calls", 0),
        train_seconds=sum(facts["seconds"] for name, facts in learnt.items() if name.startswith(("student", "step"))),
        twin_seconds=sum(facts["seconds"] for name, facts in learnt.items() if name.startswith("twin")),
        calls_per_day=recipe.evaluation.calls_per_day,
        teacher_cost_per_million=recipe.evaluation.teacher_cost_per_million or _paid(cast.teacher),
        # what an endpoint's call costs is no time of this machine
        teacher_per_second=None if cast.teacher.account else speed["teacher"],
        artefact_per_second=speed["artefact"],
        **(
            {"machine_price_per_hour": recipe.evaluation.machine_cost_per_hour}
            if recipe.evaluation.machine_cost_per_hour
            else {}
        ),
    )
    wrote = sum(facts.get("rollout_seconds", 0.0) for facts in learnt.values())
    cost |= {"rollout_seconds": wrote} if wrote else {}
    cost["teach_seconds"] = taught.get("seconds", 0.0) if taught.get("trained") else 0.0
    verdict = evaluation.verdict(
        np.stack([one.predicted for one in learners]),
        np.stack([one.predicted for one in twins]),
        scored["teacher"].labels,
        facts=_facts(material, cast, scored, comparison, labelled, fitted[best].name),
        margin=recipe.evaluation.margin / 100,
        gates=cast.exported["gates"],
        **common,
    )
    verdict["why"] += _inside(comparison)
    facts = {
        "models": models,
        "baselines": [
            {
                "name": one.name,
                "metrics": _measured(material, s)["metrics"],
                "seconds": one.seconds,
                "notes": list(one.notes),
            }
            for one, s in zip(fitted, plain, strict=True)
        ],
        "comparison": comparison,
        "cost": cost,
        "verdict": verdict,
    }
    if cast.teacher.members:
        facts["ensemble"] = left_out(cast.teacher.members, said, cast.teacher.space, splits.test, metric)
    return facts, scored


def _inside(comparison: Facts) -> str:
    """The same comparison without the rows that belong to no class: one bias on one logit moves many of those."""
    scope = comparison["in_scope"]
    if not scope or "difference" not in scope:
        return ""
    gain, kept = scope["difference"], scope["retention"]
    ends = " to ".join(f"{100 * gain[end]:+.2f}" for end in ("low", "high"))
    return (
        f" On the {scope['rows']:,} rows in scope the student is {100 * gain['value']:+.2f} points from its twin "
        f"(95 % interval {ends}), and the artefact keeps {100 * kept:.1f} % of the teacher."
    )


def _score_all(material: Material, cast: Cast, heard: Array) -> dict[str, Scored]:
    """Validation and test logits of every model, each calibrated on validation in the same way.

    Args:
        heard: what the teacher said about the test rows: it is not asked twice.
    """
    validation, test, answer = material.splits.validation, material.splits.test, material.task.answer
    found = {}

    def add(name: str, before: Array, after: Array, target: float | None = None) -> None:
        found[name] = calibrated(
            name,
            after,
            test.labels,
            validation_logits=before,
            validation_labels=validation.labels,
            target_accuracy=target,
            answer=answer,
        )

    teacher = cast.teacher
    before = validation_logits(material, teacher)
    add("teacher", before, heard)
    target = float((before.argmax(1) == validation.labels).mean()) if answer is LABEL else None
    for role, models in (("student", cast.students), ("twin", cast.twins)):
        for seed, model in models.items():
            first, then = (score_rows(model, cast.kind.encoder, r.inputs, batch_size=256) for r in (validation, test))
            add(f"{role}.{seed}", first, then)
    predictor = runtime.load(cast.artefact)
    add("artefact", predictor.logits(raw_rows(validation)), predictor.logits(raw_rows(test)), target)
    found["student"], found["twin"] = found[f"student.{cast.chosen[0]}"], found[f"twin.{cast.chosen[1]}"]
    return found


def _baseline(material: Material, fitted: baselines.Baseline) -> Scored:
    splits = material.splits
    return calibrated(
        fitted.name, fitted.predict(splits.test.inputs), splits.test.labels,
        validation_logits=fitted.validation, validation_labels=splits.validation.labels, answer=material.task.answer,
    )  # fmt: skip


def _paid(teacher: Loaded) -> float | None:
    """What a million answers of an endpoint cost, by those that were paid for; None where there are no prices."""
    account = teacher.account() if teacher.account is not None else {}
    cost, answers = account.get("cost"), account.get("answers")
    return 1e6 * cost / answers if cost and answers else None


def _on_validation(material: Material, scores: Array) -> float:
    metric = METRICS[str(material.recipe.evaluation.metric)]
    return metric.gain(material.measured(material.splits.validation, scores), 0.0)


def _measured(material: Material, scored: Scored) -> Facts:
    metrics = dict.fromkeys([str(material.recipe.evaluation.metric), *material.task.metrics])
    return evaluation.measure(scored, metrics=tuple(metrics), seed=material.recipe.seed)


def _models(
    material: Material, cast: Cast, scored: dict[str, Scored], baseline: baselines.Baseline, *, best_scored: Scored
) -> dict[str, Facts]:
    """``models`` of run.json: quality, size and speed of each."""
    recipe, test = material.recipe, raw_rows(material.splits.test)
    threads = recipe.evaluation.threads or 1
    more: Facts = {"threads": threads, "latency_rows": recipe.evaluation.latency_rows, "cost": _length}
    teacher, kind = cast.teacher, cast.kind
    pair = {"student": cast.students[cast.chosen[0]], "twin": cast.twins[cast.chosen[1]]}
    models: dict[str, Facts] = {}

    models["teacher"] = {
        "model": teacher.description,
        "parameters": None if teacher.ask is not None else students.parameters(teacher.model),
        "bytes": size_of(teacher, cast.teacher_folder),
        **_measured(material, scored["teacher"]),
        **_teacher_speed(material, cast, speed_of(teacher, test, **more), test, more),
    }
    models["baseline"] = {
        "model": baseline.name,
        "parameters": baseline.parameters,
        "bytes": baseline.bytes,
        **_measured(material, best_scored),
        **timed(_of_baseline(material, baseline), test, **more),
    }
    for role, seed, folder in (("twin", cast.chosen[1], cast.folders[1]), ("student", cast.chosen[0], cast.folders[0])):
        models[role] = {
            "model": describe(pair[role]),
            "parameters": students.parameters(pair[role]),
            "bytes": students.bytes_on_disk(folder),
            "seed": seed,
            **_measured(material, scored[role]),
            **timed(in_torch(pair[role], kind.encoder), test, **more),
        }
    if kind.inheritance is not None:
        models["student"]["inheritance"] = dict(kind.inheritance)
    predictor = runtime.load(cast.artefact, threads=threads)
    models["artefact"] = {
        "model": f"INT{material.recipe.export.bits} {kind.exporting} of the student",
        "parameters": students.parameters(pair["student"]),
        "bytes": cast.exported["bytes"],
        "bits": material.recipe.export.bits,
        **_measured(material, scored["artefact"]),
        **timed(lambda rows: predictor.numbers(rows, batch=len(rows)), test, **more),
        **({"int8_vectors": _int8_vectors(material, predictor, test)} if material.task.answer is VECTOR else {}),
    }
    return models


def _int8_vectors(material: Material, predictor: runtime.Predictor, rows: Sequence[Any]) -> Facts:
    """Vectors in whole numbers, one byte an entry: their scale, the metric of them, and what it lost in points."""
    metric, labels = METRICS[str(material.recipe.evaluation.metric)], material.splits.test.labels
    exact, small = (metric.function(labels, predictor.embed(rows, int8=whole)) for whole in (False, True))
    scale = predictor.manifest["int8_scale"]
    return {"scale": scale, "metric": small, "drop": 100 * metric.gain(exact, small)}


def _teacher_speed(material: Material, cast: Cast, own: Facts, test: Sequence[Any], more: Facts) -> Facts:
    """The teacher's best: PyTorch, or ONNX Runtime where it can be exported; a function as it is."""
    teacher = cast.teacher
    if teacher.ask is not None:
        return best_of(own, None, test, engine="python", **more)
    if teacher.encoder.kind == "joined":
        material.journal.log("note", text="members read each row in ways of their own: timed in PyTorch only")
        return best_of(own, None, test, **more)
    try:
        graph = _teachers_graph(material, teacher)
    except Exception as error:  # whatever an exporter says of a foreign module; PyTorch remains
        material.journal.log(
            "note", text=f"the teacher has no ONNX form ({type(error).__name__}); timed in PyTorch only"
        )
        return best_of(own, None, test, **more)
    return best_of(own, lambda to: write_plain(to, material.task, material.splits, teacher, graph), test, **more)


def _teachers_graph(material: Material, teacher: Loaded) -> Path:
    """The teacher as one ONNX file, made once and kept in the store for every run with the same teacher."""
    name = content_hash(teacher.fingerprint, teacher.encoder.fingerprint, torch.__version__)
    graph = material.store / "graphs" / f"{name}.onnx"
    if not graph.is_file():
        graph.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=graph.parent) as place:
            made = Path(place) / graph.name
            to_graph(teacher.model, teacher.encoder, material.splits.validation, made)
            made.replace(graph)
    return graph


def _of_baseline(material: Material, baseline: baselines.Baseline) -> Any:
    fields = material.splits.fields

    def predict(rows: Sequence[Any]) -> Array:
        return baseline.predict({name: [row[name] for row in rows] for name in fields})

    return predict


def _length(row: Any) -> int:
    return max((len(value) for value in row.values() if isinstance(value, str | bytes | list)), default=0)


def _facts(
    material: Material, cast: Cast, scored: dict[str, Scored], comparison: Facts, labelled: Facts, baseline: str
) -> evaluation.Facts:
    recipe, metric = material.recipe, METRICS[str(material.recipe.evaluation.metric)]
    train = material.splits.train
    some = train.take(np.linspace(0, len(train) - 1, min(SAMPLE, len(train))).round().astype(np.int64))
    student = cast.students[cast.chosen[0]]
    labelled_rows = material.task.answer.labelled
    on_train = score_rows(student, cast.kind.encoder, some.inputs, batch_size=256) if labelled_rows else None
    unlabelled = material.splits.unlabelled if labelled_rows else train
    return evaluation.Facts(
        teacher=metric.function(scored["teacher"].labels, scored["teacher"].predicted),
        baseline=metric.function(scored["baseline"].labels, scored["baseline"].predicted),
        baseline_name=baseline,
        retention=comparison["retention"],
        label_agreement=labelled.get("agreement"),
        student_on_train=None if on_train is None else material.measured(some, on_train),
        temperature=float(recipe.objective.temperature or 1.0),
        alpha=float(recipe.objective.alpha) if labelled_rows else None,
        unlabelled_rows=0 if unlabelled is None else len(unlabelled),
        order_aware=ORDER_AWARE.get(recipe.student.family),
        inputs=_inputs(material),
    )


def _inputs(material: Material) -> str:
    """What the rows are, in the advice."""
    if "image" in material.splits.fields:
        return "images"
    if material.task.tabular:
        return "rows"
    return "pairs of texts" if material.splits.pairs else "text"


def environment(material: Material) -> dict[str, Any]:
    """What the numbers were measured with."""
    import transformers

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "understudy": __version__,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "precision": material.recipe.train.precision,
        "free_disk_bytes": shutil.disk_usage(material.folder).free,
    }
