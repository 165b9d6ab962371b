"""The main job: data, teach, label, tune, train, export, evaluate, report; each stage done once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from understudy import runtime
from understudy.data import Splits, digits, load
from understudy.errors import UsageError
from understudy.files import write_text
from understudy.pipeline.apprentice import apprentice, own_module
from understudy.pipeline.before import decode, refuse
from understudy.pipeline.choosing import find_student, overruled
from understudy.pipeline.conclude import facts_of, measure, taught_of, write
from understudy.pipeline.defaults import resolved
from understudy.pipeline.journal import Facts, Journal, whole
from understudy.pipeline.judge import Cast
from understudy.pipeline.label import label, validation_logits
from understudy.pipeline.learn import load_module
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.opening import ASKED, CHOOSE, asked, opened, store_of
from understudy.pipeline.progress import Progress, Silent
from understudy.pipeline.recipe import Recipe, load_recipe, to_yaml, with_values
from understudy.pipeline.run import Run
from understudy.pipeline.samples import identity
from understudy.pipeline.school import School, dials, place, rehearse, seeds
from understudy.pipeline.ship import ship
from understudy.pipeline.teach import teach, untaught
from understudy.pipeline.vectors import fitted, with_heard
from understudy.pipeline.views import FILE as VIEWS
from understudy.pipeline.views import make_views, read_views, said_of_views
from understudy.tasks import LAYOUTS, Task, task_named
from understudy.teachers import Loaded, says_masked, says_next

STAGES = ("data", "teach", "label", "train", "export", "evaluate", "report")
WITHIN = {"label": ("views", "tune"), "train": ("step-",)}  # stages without a command, done again with another


def distill(recipe: Recipe, out: Path, *, fresh: bool = False, progress: Progress | None = None) -> Run:
    """Everything from data to report, into one folder; the same call again goes on where it stopped.

    Args:
        recipe: what to do.
        out: the run's folder.
        fresh: starts the run over; the store beside it stays.
        progress: who listens.

    Returns:
        The run, with its facts. Where a gate failed there is no artefact: ``run.gates_failed`` says which, the model
        lies in RUN/rejected, and everything is measured and reported all the same.

    Raises:
        RecipeError: the folder holds a run of another recipe; what differs is shown.
        DataError, LabelError, TeacherError: what is wrong with the input, in one line.
        Interrupted: stopped from outside; the same call resumes.
        NonFiniteError: training became non-finite.
    """
    return _distilled(recipe, out, fresh=fresh, progress=progress)


def _distilled(
    given: Recipe,
    out: Path,
    *,
    fresh: bool = False,
    again: str | None = None,
    changes: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Run:
    # rows and recipe are looked at before the folder is touched: a bad call leaves nothing behind
    name, splits = load_splits(given)
    task, recipe = settled(given, name, splits)
    choice = overruled(recipe, task, splits, out, changes or {})
    with opened(given, out, fresh=fresh, amend=bool(changes), progress=progress or Silent()) as journal:
        if choice:
            journal.correct(CHOOSE, choice)
        if again is not None:
            later = STAGES[STAGES.index(again) :]
            journal.forget_from([*later, *(name for stage in later for name in WITHIN.get(stage, ()))])
        return _perform(recipe, splits, task, journal)


def distill_models(
    teacher: Loaded,
    data: Splits,
    recipe: Recipe,
    out: Path,
    *,
    student: nn.Module | None = None,
    encoder: Any = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Run:
    """The same as ``distill`` with objects in the place of names: the second level.

    Args:
        teacher: model, encoder and label order (``teachers.Loaded``).
        data: the rows.
        recipe: every dial; its teacher.path and data.path are only labels here.
        student: a module of your own instead of the recipe's family; needs ``encoder``.
        encoder: what turns raw rows into your module's inputs.
    """
    if student is not None and encoder is None:
        raise UsageError("a student of your own needs encoder=: what turns raw rows into its inputs")
    kind = None if student is None else own_module(student, encoder)
    name = recipe.task or _task_of(data)
    task, ready = settled(recipe, name, data, own=kind is not None)
    with opened(recipe, out, fresh=fresh, progress=progress or Silent()) as journal:
        return _perform(ready, data, task, journal, teacher=teacher, kind=kind)


def stage(
    name: str, folder: Path, *, changes: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> Run:
    """One stage of a run again, and what depends on it; the stages before are reused.

    Args:
        name: of the stage.
        folder: of the run.
        changes: keys of the recipe that are another from now on, None where nothing is said; the run's recipe and its
            log have them.
        progress: who listens.

    Raises:
        UsageError: no such stage.
        StoreError: the folder is no run.
    """
    if name not in STAGES:
        raise UsageError(f'no stage "{name}": {", ".join(STAGES)}')
    said = {key: value for key, value in (changes or {}).items() if value is not None}
    recipe = load_recipe(folder / ASKED, options=said) if said and asked(folder) else asked(folder)
    return _distilled(recipe, folder, again=name, changes=said, progress=progress)


def demo(out: Path, *, fresh: bool = False, progress: Progress | None = None) -> Run:
    """The main job on scikit-learn's handwritten digits: a cnn teaches a smaller one. Nothing is downloaded."""
    return distill(load_recipe("demo"), out, fresh=fresh, progress=progress)


def load_splits(recipe: Recipe) -> tuple[str, Splits]:
    """Task and rows that a recipe names."""
    if recipe.data.path == "digits":
        if recipe.task not in (None, "image-classification"):
            raise UsageError(f"digits are images: leave --task {recipe.task} out, or name other --data")
        return "image-classification", digits()
    dials = recipe.data
    read = partial(
        load, dials.path, layouts=LAYOUTS, text=dials.text, label=dials.label, image=dials.image, seed=recipe.seed,
        validation_share=dials.validation_share, test_share=dials.test_share,
    )  # fmt: skip
    name, splits = read(task=recipe.task)
    said, task = says_masked(recipe.teacher.path), "masked-language-model"
    if not said:
        said, task = says_next(recipe.teacher.path), "causal-lm"
    if recipe.task is None and name == "sentence-embedding" and said:
        name, splits = read(task=task)
        why = f"the task is {name}: train has texts, and no other column, and the teacher is a {said}"
        splits = replace(splits, notes=(why, *splits.notes))
    return name, splits


def settled(given: Recipe, task_name: str, splits: Splits, *, own: bool = False) -> tuple[Task, Recipe]:
    """The task, and the recipe with what family and task decide filled in; what cannot work is refused here.

    A family that is yet to be chosen decides nothing so far.
    """
    task = task_named(task_name)
    recipe = _own(given, task.name, task.primary) if own else resolved(given, task.name, metric=task.primary)
    refuse(recipe, splits)
    return task, recipe


def _perform(
    recipe: Recipe,
    splits: Splits,
    task: Task,
    journal: Journal,
    *,
    teacher: Loaded | None = None,
    kind: Apprentice | None = None,
) -> Run:
    """Every stage, in order. Each is skipped where its fingerprint, which covers all that came before, is known."""
    folder, say = journal.folder, journal.progress.say
    store = store_of(recipe, folder)
    material = Material(recipe, task, splits, folder, store, journal)
    data = journal.stage("data", _fingerprints(splits), lambda: _data_facts(splits, recipe))
    _say_all(say, splits.notes)
    recipe, choice = find_student(material, teacher, source=_fingerprints(splits, test=False))
    material = material.with_recipe(recipe)

    if recipe.objective.terms or recipe.steps or recipe.peers or recipe.student.exits:
        rehearse(material, teacher or untaught(material)[0], kind)
    journal.begin("teach")
    loaded, taught = teach(material, teacher)
    _say_all(say, loaded.notes)
    material = fitted(material, loaded)
    recipe = material.recipe
    journal.stage("teach", [loaded.fingerprint, *loaded.notes], lambda: {"notes": list(loaded.notes), **_brief(taught)})
    source = [loaded.fingerprint, loaded.encoder.fingerprint, *_fingerprints(splits, test=False)]
    made: Facts = {"rows": 0, "note": ""}
    if recipe.data.views:
        making = partial(make_views, material, loaded)
        made = journal.stage("views", [*source, *said_of_views(material)], making, outputs=[folder / VIEWS])
        material = replace(material, views=read_views(folder, labels=splits.train.labels))
        source += [material.shown.fingerprint]
        say(made["note"])
    kind = kind or apprentice(material, loaded)  # what cannot be made of this teacher is refused before it is asked
    source += [*identity(material, loaded).values()]
    labelled: Facts = {}
    if recipe.teacher.targets == "stored":
        asking = partial(label, material, loaded)
        labelled = journal.stage("label", [*source, str(store)], asking, outputs=[store / "targets"])

    if splits.couples:
        material = with_heard(material, "validation", validation_logits(material, loaded))
    source += [one for one in (kind.identity, kind.origin) if one]
    _say_all(say, kind.notes)
    school = School(material, loaded, kind, source, given=teacher is not None)
    tuned = journal.stage("tune", [*source, *dials(recipe)], school.tuned)
    _say_all(say, tuned["notes"])
    recipe = with_values(recipe, tuned["decided"])
    write_text(folder / "recipe.yaml", to_yaml(recipe))
    school.material = material = material.with_recipe(recipe)

    learnt = school.train_all()
    chosen = school.choose(learnt)
    cast = _cast(material, loaded, kind, chosen, taught, given=teacher)
    decided = [*source, *dials(recipe), *(str(learnt[name]["best"]) for name in sorted(learnt)), str(chosen)]
    gates = recipe.export.model_dump_json()
    if not any(whole(folder / name / runtime.MANIFEST) for name in ("artefact", "rejected")):
        journal.forget("export")
    exporting = partial(ship, material, kind, cast.students[chosen[0]], teacher=loaded, room=school.again)
    exported = journal.stage("export", [*decided, gates], exporting, outputs=[folder / "scores"])
    cast = replace(cast, artefact=folder / exported["folder"], exported=exported)

    judging = partial(measure, material, cast, learnt, labelled, taught)
    asked_of = [recipe.evaluation.model_dump_json(), splits.test.fingerprint]
    measured = journal.stage("evaluate", [*decided, gates, *asked_of], judging, outputs=[folder / "evidence.json"])
    notes = [*splits.notes, *([choice["why"]] if choice else []), *loaded.notes, *kind.notes]
    notes += [*([made["note"]] if made["rows"] else []), *tuned["notes"], *exported["notes"]]
    facts = facts_of(material, loaded, data, measured, exported, notes) | taught_of(material, learnt, chosen)
    if loaded.account is not None:
        facts["endpoint"] = {**loaded.account(), "mass": labelled.get("mass")}
    run = Run(folder, facts | ({"choice": choice} if choice else {}))
    write(run, exported)
    if not exported["passed"]:
        journal.log("gates", failed=[gate["name"] for gate in run.gates_failed])
    return run


def _cast(
    material: Material,
    loaded: Loaded,
    kind: Apprentice,
    chosen: tuple[int, int],
    taught: Facts,
    *,
    given: Loaded | None,
) -> Cast:
    """Every trained model, read back from where it was saved."""
    models = {
        role: {seed: load_module(place(material, role, seed), kind) for seed in seeds(material.recipe)}
        for role in ("student", "twin")
    }
    folder = material.folder
    return Cast(
        teacher=loaded,
        teacher_folder=_teacher_folder(material.recipe, taught, material.store, given=given),
        kind=kind,
        students=models["student"],
        twins=models["twin"],
        chosen=chosen,
        folders=(folder / "student", folder / "twin"),
        artefact=folder / "artefact",
    )


def _own(recipe: Recipe, task: str, metric: str) -> Recipe:
    """Dials for a student of the user's own: those of a student of its task, whatever family was named."""
    families = task_named(task).families
    family = "mlp" if "mlp" in families else "cut"
    return resolved(with_values(recipe, {"student.family": family}), task, metric=metric)


def _task_of(data: Splits) -> str:
    """The task of rows that came as objects: by their columns and what their labels are."""
    if "image" in data.train.inputs:
        return "image-classification"
    if data.couples:
        return "sentence-embedding"
    if data.scale is not None:
        return "regression"
    if data.train.labels.dtype.kind == "O":
        return "question-answering" if "context" in data.train.inputs else "token-classification"
    if data.train.labels.ndim == 2:
        if {"completion", "messages"} & set(data.train.inputs):
            return "causal-lm"
        return "multi-label" if data.label_names else "masked-language-model"
    return "pair-classification" if data.pairs else "text-classification"


def _fingerprints(splits: Splits, *, test: bool = True) -> list[str]:
    rows = [splits.train, splits.validation, splits.unlabelled, *([splits.test] if test else [])]
    scale = [] if splits.scale is None else [repr(splits.scale)]
    return [*(part.fingerprint if part is not None else "" for part in rows), *scale]


def _say_all(say: Callable[[str], None], notes: Sequence[str]) -> None:
    for note in notes:
        say(note)


def _data_facts(splits: Splits, recipe: Recipe) -> Facts:
    decode(splits, recipe)

    def facts(rows: Any) -> Facts:
        return {"rows": len(rows), "fingerprint": rows.fingerprint}

    found: Facts = {name: facts(getattr(splits, name)) for name in ("train", "validation", "test")}
    return {**found, "unlabelled": None if splits.unlabelled is None else facts(splits.unlabelled)}


def _brief(taught: Facts) -> Facts:
    return {key: value for key, value in taught.items() if key not in ("history", "notes")}


def _teacher_folder(recipe: Recipe, taught: Facts, store: Path, *, given: Loaded | None) -> Path | None:
    if taught.get("folder"):
        return store / taught["folder"] / "model"
    path = None if given is not None or recipe.teacher.path is None else Path(recipe.teacher.path)
    return path if path is not None and path.is_dir() else None
