"""The pre-flight: everything that can go wrong is looked at, and nothing is trained."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from understudy import students
from understudy.data import Examples, Splits, leaks
from understudy.data.feed import Feed
from understudy.encoding import PairEncoder
from understudy.pipeline import asking
from understudy.pipeline.adapting import as_learner
from understudy.pipeline.alignment import refuse_misaligned
from understudy.pipeline.apprentice import apprentice, peers
from understudy.pipeline.before import decode
from understudy.pipeline.choosing import choose, with_choice
from understudy.pipeline.defaults import AUTO
from understudy.pipeline.journal import Journal
from understudy.pipeline.learn import ALPHAS, SHORT, TEMPERATURES
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.objective import build
from understudy.pipeline.opening import refuse_places, store_of
from understudy.pipeline.progress import Progress, Silent
from understudy.pipeline.recipe import Recipe, Step
from understudy.pipeline.samples import live as asked_now
from understudy.pipeline.stages import load_splits, settled
from understudy.pipeline.steps import of_step
from understudy.pipeline.teach import untaught
from understudy.pipeline.vectors import fitted, heard, listened, some_rows
from understudy.records import Batch, Targets
from understudy.statistics import METRICS
from understudy.teachers import Loaded
from understudy.training import balanced, pulls

SAMPLE = 500  # validation rows that the teacher is asked about
BATCH = 32
_NOTHING = {
    "label": "the commonest label",
    "score": "the mean score",
    "labels": "the commonest labels",
    "vector": "the same vector for every text",
    "tags": "the commonest tag of each word",
    "span": "the first words of each text",
    "masked": "how often each sub-word occurs",
    "next": "how often each sub-word occurs",
}


def check(recipe: Recipe, out: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """Looks at data, teacher, labels, objective, sizes and time; writes nothing.

    Of a teacher that is an endpoint nothing is asked: ``endpoint`` says what a run would ask and at most pay.

    Returns:
        ``task``, ``data``, ``teacher``, ``majority``, ``labels``, ``tokenizer``, ``leaks``, ``terms``, ``sizes``,
        ``forecast``, ``choice`` (of ``student: auto``; else None), ``notes``.

    Raises:
        what ``distill`` would raise before its first step.
    """
    progress = progress or Silent()
    refuse_places(recipe, out)
    progress.stage("data")
    name, splits = load_splits(recipe)
    task, recipe = settled(recipe, name, splits)
    decode(splits, recipe)
    material = Material(recipe, task, splits, out, store_of(recipe, out), Journal(out, progress))

    progress.stage("teacher")
    teacher, trains = untaught(material)
    notes = [*splits.notes, *teacher.notes]
    choice = None
    if recipe.student.family == AUTO:
        progress.stage("choose")
        choice = choose(material, teacher)
        recipe = with_choice(recipe, choice["chosen"], task, splits)
        material = material.with_recipe(recipe)
        notes.append(choice["why"])
    metric = METRICS[str(recipe.evaluation.metric)]
    endpoint = asking.forecast(material) if asking.is_endpoint(recipe.teacher.path) else None
    material = fitted(material, teacher)
    some = some_rows(material, SAMPLE)
    began = time.perf_counter()
    logits = teacher.scores(some.inputs)
    each = (time.perf_counter() - began) / len(some)
    some = heard(some, logits) if splits.couples else some
    nothing = next(material.baselines(teacher.encoder)).predict(some.inputs)
    majority, score = material.measured(some, nothing), material.measured(some, logits)
    if endpoint is not None:
        notes.append(asking.said_of(endpoint))
    elif trains:
        notes.append(
            "the teacher's head is not trained yet, so its score means nothing: it is trained in the run first"
        )
    elif metric.gain(score, majority) <= 0:
        notes.append(
            f"the teacher ({score:.3f}) is no better than {_NOTHING[task.answer.name]} ({majority:.3f}): its weights "
            "or its label order are wrong, or it was trained on something else"
        )

    if recipe.objective.on_policy_share:
        notes.append("the forecast is without the time in which the student writes: the run's log tells it")

    progress.stage("terms")
    kind = apprentice(material, teacher)
    torch.manual_seed(recipe.seed)
    student = students.Student(kind.build())
    beside = peers(material, teacher, untaught=lambda: copy.deepcopy(teacher.model))
    before = [_step_terms(material, teacher, step) for step in recipe.steps]
    terms, step = _one_batch(material, teacher, kind, beside)
    found = {
        "task": task.name,
        "data": {name: len(getattr(splits, name) or ()) for name in ("train", "validation", "test", "unlabelled")},
        "teacher": {
            "model": teacher.description,
            f"{metric.name} on {len(some)} validation rows": None if trains or endpoint else round(score, 4),
        },
        **({"endpoint": endpoint} if endpoint else {}),
        "majority": round(majority, 4),
        "labels": _labels(splits, teacher),
        "tokenizer": _reading(teacher, kind.encoder),
        "leaks": leaks(splits),
        "terms": [*(row for rows in before for row in rows), *terms],
        "sizes": {
            "teacher": {
                "parameters": students.parameters(teacher.model),
                "bytes": 4 * students.parameters(teacher.model),
            },
            "student": {"parameters": students.parameters(student), "bytes": 4 * students.parameters(student)},
            "artefact (about)": {"parameters": students.parameters(student), "bytes": students.parameters(student)},
        },
        "forecast": _forecast(
            material, trains, each, step, students.parameters(student), students.parameters(teacher.model)
        ),
        "choice": choice,
        "notes": [*notes, *kind.notes],
    }
    return found


def _labels(splits: Splits, teacher: Loaded) -> str:
    """How the labels of teacher and data go together; of scores their range, for they have no names."""
    if not splits.label_names and not splits.couples:
        return "none: a text is its own label"
    if splits.couples:
        return "none: vectors are learnt of texts alone"
    if splits.scale is not None:
        return f"one score a row, from {splits.scale.low:g} to {splits.scale.high:g} in train"
    if teacher.alignment:
        return teacher.alignment.sentence
    several = ", any number of them a row" if splits.train.labels.ndim == 2 else ""
    return f"{len(splits.label_names)} labels{several}, in the data's order"


def _one_batch(
    material: Material, teacher: Loaded, kind: Apprentice, beside: list[Apprentice]
) -> tuple[list[dict[str, Any]], float]:
    """Value, gradient norm and count of every term of the last training on one real batch, and a step's seconds."""
    recipe = material.recipe
    rows = material.splits.train.take(range(min(len(material.splits.train), 8 * BATCH)))
    cohort = {"student": as_learner(kind.build(), recipe)}
    cohort |= {f"peer.{i}": peer.build() for i, peer in enumerate(beside, 1)}
    encoders = {"student": kind.encoder} | ({} if teacher.ask else {"teacher": teacher.encoder})
    encoders |= {f"peer.{i}": peer.encoder for i, peer in enumerate(beside, 1)}
    live: Any = _Asked(teacher, rows) if teacher.ask else asked_now(material, teacher)
    live = listened(material, teacher, live)
    terms = build(recipe, cohort, teacher.model)
    outside = any(term.against not in ("labels", "self", *cohort) for term in terms)
    feed = Feed(rows, encoders)
    refuse_misaligned(recipe, feed)
    began = time.perf_counter()
    found = pulls(
        {name: students.Student(module) for name, module in cohort.items()},
        feed,
        terms,
        teacher=live if outside else None,
        batch_size=BATCH,
    )
    seconds = (time.perf_counter() - began) / len(terms)
    if recipe.objective.balance == "gradients":
        terms, _ = balanced(terms, {row["name"]: row["gradient_norm"] for row in found})
    table = [
        row | {"weight": term.weight_at(0), "formula": term.formula} for term, row in zip(terms, found, strict=True)
    ]
    return table, seconds


class _Asked:
    """A function of raw rows in the place of a live teacher: asked about these rows, once."""

    def __init__(self, teacher: Loaded, rows: Examples) -> None:
        self._said = dict(zip(rows.keys, torch.from_numpy(teacher.scores(rows.inputs)), strict=True))

    def bind(self, needs: Iterable[str]) -> None:
        """Nothing but logits is asked of it: the recipe was looked at before."""

    def targets(self, batch: Batch) -> Targets:
        """Its logits of the rows of a batch."""
        return Targets({"teacher.logits": torch.stack([self._said[key] for key in batch.keys])})


def _step_terms(material: Material, teacher: Loaded, step: Step) -> list[dict[str, Any]]:
    """The same table for a training before the last one."""
    inner = material.with_recipe(of_step(material.recipe, step, teacher))
    rows, _ = _one_batch(inner, teacher, apprentice(inner, teacher), [])
    return [row | {"name": f"{step.name}: {row['name']}"} for row in rows]


def _reading(teacher: Loaded, encoder: Any) -> str:
    if teacher.encoder.fingerprint == encoder.fingerprint:
        return f"teacher and student read the same {encoder.kind}"
    own = encoder.inner.kind if isinstance(encoder, PairEncoder) else encoder.kind
    return f"the teacher reads {teacher.encoder.kind}, the student its own {own}: both from the same raw rows"


def _forecast(material: Material, trains: bool, each: float, step: float, student: int, teacher: int) -> dict[str, Any]:
    """Seconds and bytes of the whole run, from what this batch took; a rough figure, and said so by its one digit."""
    recipe = material.recipe
    rows = len(material.learnable) * (1 + recipe.data.views)
    seconds = each * (rows + len(material.splits.validation)) + each * len(material.splits.test)
    if trains:
        seconds += 3 * each * len(material.splits.train) * (recipe.teacher.epochs or 1)
    steps = -(-rows // (recipe.train.batch_size or BATCH)) * (recipe.train.epochs or 1)
    per_step = step * (recipe.train.batch_size or BATCH) / BATCH
    tries = len(TEMPERATURES) * (recipe.objective.temperature == "auto") + len(ALPHAS) * (
        recipe.objective.alpha == "auto"
    )
    seconds += per_step * steps * (2 * recipe.seeds + SHORT * tries)
    classes = material.outputs
    disk = 4 * (2 * recipe.seeds * student + 6 * student + (teacher if trains else 0)) + 4 * classes * rows
    place = material.folder
    while not place.exists():
        place = place.parent
    return {
        "seconds": float(f"{seconds:.1g}"),
        "disk_bytes": disk,
        "free": f"{shutil.disk_usage(place).free / 1e9:.0f} GB",
    }
