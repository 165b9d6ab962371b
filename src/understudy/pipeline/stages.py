"""The main job: data, teach, label, tune, train, export, evaluate, report; each stage done once."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from torch import nn

from understudy import report
from understudy.data import Splits, digits, load
from understudy.errors import RecipeError, StoreError, UsageError
from understudy.files import content_hash, read_json, write_json, write_text
from understudy.objectives import Term
from understudy.pipeline.apprentice import apprentice, own_module
from understudy.pipeline.defaults import resolved
from understudy.pipeline.journal import Facts, Journal, only_one
from understudy.pipeline.judge import Cast, environment, judge
from understudy.pipeline.label import label
from understudy.pipeline.learn import Classroom, best_seed, learn, load_module, objective, tune
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.progress import Progress, Silent
from understudy.pipeline.proof import evidence
from understudy.pipeline.recipe import Recipe, difference, load_recipe, to_yaml, with_values
from understudy.pipeline.run import Run
from understudy.pipeline.ship import refusal, ship
from understudy.pipeline.teach import teach
from understudy.tasks import task_named
from understudy.teachers import Loaded

STAGES = ("data", "teach", "label", "train", "export", "evaluate", "report")


def distill(recipe: Recipe, out: Path, *, fresh: bool = False, progress: Progress | None = None) -> Run:
    """Everything from data to report, into one folder; the same call again goes on where it stopped.

    Args:
        recipe: what to do.
        out: the run's folder.
        fresh: starts the run over; the store beside it stays.
        progress: who listens.

    Returns:
        The run, with its facts and (where every gate passed) its artefact.

    Raises:
        RecipeError: the folder holds a run of another recipe; what differs is shown.
        DataError, LabelError, TeacherError: what is wrong with the input, in one line.
        Interrupted: stopped from outside; the same call resumes.
        NonFiniteError: training became non-finite.
    """
    with _opened(recipe, out, fresh, progress or Silent()) as journal:
        task, splits = load_splits(recipe)
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
    task = recipe.task or ("image-classification" if "image" in data.train.inputs else "text-classification")
    with _opened(recipe, out, fresh, progress or Silent()) as journal:
        return _perform(recipe, data, task, journal, teacher=teacher, kind=kind)


def stage(name: str, folder: Path, *, progress: Progress | None = None) -> Run:
    """One stage of a run again, and what depends on it; the stages before are reused.

    Raises:
        UsageError: no such stage.
        StoreError: the folder is no run.
    """
    if name not in STAGES:
        raise UsageError(f'no stage "{name}": {", ".join(STAGES)}')
    asked = folder / "stages" / "asked.yaml"
    if not asked.is_file():
        raise StoreError(f"{folder} is not a run: start one with understudy distill --out {folder}")
    journal = Journal(folder, Silent())
    for one in STAGES[STAGES.index(name) :]:
        for path in (folder / "stages").glob(f"{one}*.json"):
            journal.forget(path.stem)
    return distill(load_recipe(asked), folder, progress=progress)


def demo(out: Path, *, fresh: bool = False, progress: Progress | None = None) -> Run:
    """The main job on scikit-learn's handwritten digits: a small cnn teaches a smaller mlp. Nothing is downloaded."""
    return distill(load_recipe("demo"), out, fresh=fresh, progress=progress)


def load_splits(recipe: Recipe) -> tuple[str, Splits]:
    """Task and rows that a recipe names."""
    if recipe.data.path == "digits":
        return "image-classification", digits()
    dials = recipe.data
    return load(
        dials.path, task=recipe.task, text=dials.text, label=dials.label, image=dials.image, seed=recipe.seed,
        validation_share=dials.validation_share, test_share=dials.test_share,
    )  # fmt: skip


class _opened:
    """A run's folder, locked, with signals handled and its recipe compared with the one that is there."""

    def __init__(self, recipe: Recipe, out: Path, fresh: bool, progress: Progress) -> None:
        self.recipe, self.out, self.fresh = recipe, out, fresh
        self.journal = Journal(out, progress)
        self.lock, self.signals = only_one(out), self.journal.signals()

    def __enter__(self) -> Journal:
        foreign = self.out.is_dir() and any(self.out.iterdir()) and not (self.out / "stages").is_dir()
        if foreign and {path.name for path in self.out.iterdir()} - {".lock", "log.jsonl"}:
            raise StoreError(f"{self.out} holds files that are no run: choose an empty folder for --out")
        self.lock.__enter__()
        try:
            if self.fresh:
                for path in self.out.iterdir():
                    if path.name != ".lock":
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._same_recipe()
        except BaseException:
            self.lock.__exit__(None, None, None)
            raise
        self.signals.__enter__()
        return self.journal

    def __exit__(self, *error: Any) -> None:
        try:
            self.signals.__exit__(*error)
        finally:
            self.lock.__exit__(None, None, None)

    def _same_recipe(self) -> None:
        path = self.out / "stages" / "asked.yaml"
        if path.is_file():
            changed = difference(load_recipe(path), self.recipe)
            if changed:
                raise RecipeError(
                    f"{self.out} holds a run of another recipe ({'; '.join(changed[:6])}): use another --out, "
                    "or --fresh to start this run over (the store stays)"
                )
        else:
            write_text(path, to_yaml(self.recipe))


def _perform(
    asked: Recipe,
    splits: Splits,
    task_name: str,
    journal: Journal,
    *,
    teacher: Loaded | None = None,
    kind: Apprentice | None = None,
) -> Run:
    task, folder, progress = task_named(task_name), journal.folder, journal.progress
    recipe = resolved(asked, task.name, metric=task.primary) if kind is None else _own(asked, task.name, task.primary)
    store = Path(recipe.store) if recipe.store else folder.parent / ".store"
    material = Material(recipe, task, splits, folder, store, journal)
    data = journal.stage("data", [*_fingerprints(splits)], lambda: _data_facts(splits))
    for note in splits.notes:
        progress.say(note)

    progress.stage("teach")
    loaded, taught = teach(material, teacher)
    for note in loaded.notes:
        progress.say(note)
    journal.stage("teach", [loaded.fingerprint, *loaded.notes], lambda: {"notes": list(loaded.notes), **_brief(taught)})
    rows = [splits.train.fingerprint, splits.validation.fingerprint]
    rows += [splits.unlabelled.fingerprint] if splits.unlabelled is not None else []
    source = [loaded.fingerprint, loaded.encoder.fingerprint, *rows]
    labelled: Facts = {}
    if recipe.teacher.targets == "stored":
        labelled = journal.stage(
            "label", [*source, str(store)], lambda: label(material, loaded), outputs=[store / "targets"]
        )

    kind = kind or apprentice(material, loaded)
    for note in kind.notes:
        progress.say(note)
    room = _Lazily(material, loaded, kind)
    dials = _dials(recipe)
    tuned = journal.stage("tune", [*source, *dials], lambda: _tuned(room))
    recipe = with_values(recipe, tuned["decided"])
    for note in tuned["notes"]:
        progress.say(note)
    write_text(folder / "recipe.yaml", to_yaml(recipe))
    material = room.material = material.with_recipe(recipe)

    learnt, folders = {}, {}
    for seed in range(recipe.seed, recipe.seed + recipe.seeds):
        for role in ("student", "twin"):
            where = folder / role if recipe.seeds == 1 else folder / "seeds" / str(seed) / role
            folders[f"{role}.{seed}"] = where
            learnt[f"{role}.{seed}"] = journal.stage(
                f"train-{role}-{seed}", [*source, *_dials(recipe), role, str(seed)],
                partial(_learn, room, recipe, role, seed, where),
                outputs=[where],
            )  # fmt: skip
    best = {role: best_seed({s: learnt[f"{role}.{s}"] for s in _seeds(recipe)}) for role in ("student", "twin")}
    chosen = (best["student"], best["twin"])
    _keep_chosen(folder, folders, chosen)

    models = {name: load_module(where, kind) for name, where in folders.items()}
    ours = {seed: models[f"student.{seed}"] for seed in _seeds(recipe)}
    target = taught.get("validation") or labelled.get("agreement") or 1.0
    trained = [content_hash(str(learnt[name]["best"]), *source, *_dials(recipe)) for name in sorted(learnt)]
    gates = recipe.export.model_dump_json()
    exported = journal.stage(
        "export", [*trained, gates, str(chosen)], lambda: ship(material, kind, ours[chosen[0]], target=target),
        outputs=[folder / "scores"],
    )  # fmt: skip

    source_folder = _teacher_folder(recipe, taught, store, given=teacher)
    cast = Cast(
        loaded, source_folder, kind, ours, {seed: models[f"twin.{seed}"] for seed in _seeds(recipe)}, chosen,
        (folder / "student", folder / "twin"), folder / exported["folder"], exported,
    )  # fmt: skip
    notes = [*splits.notes, *loaded.notes, *kind.notes, *tuned["notes"]]
    measured = journal.stage(
        "evaluate", [*trained, gates, recipe.evaluation.model_dump_json(), splits.test.fingerprint],
        lambda: _evaluate(material, cast, learnt, labelled, taught),
        outputs=[folder / "evidence.json"],
    )  # fmt: skip
    facts = {
        "schema": 1,
        "understudy": environment(material)["understudy"],
        "task": task.name,
        "recipe": _without_paths(recipe.model_dump(mode="json")),
        "data": data,
        **measured,
        "labels": {
            "names": list(splits.label_names),
            "sentence": loaded.alignment.sentence if loaded.alignment else "",
        },
        "objective": [_described(term) for term in objective(recipe)],
        "export": {
            key: exported[key] for key in ("ladder", "parity", "passed", "folder", "temperature", "abstain_below")
        },
        "notes": notes,
        "environment": environment(material),
        "stages": [*journal.stages, {"name": "report", "status": "done", "seconds": 0.0, "fingerprint": ""}],
    }
    _report(folder, facts, exported)
    run = Run(folder, facts)
    if not exported["passed"]:
        journal.log("gates", failed=[gate["name"] for gate in run.gates_failed])
        raise refusal(exported)
    return run


class _Lazily:
    """The classroom encodes every row and may read many targets: only where something is trained."""

    def __init__(self, material: Material, teacher: Loaded, kind: Apprentice) -> None:
        self.material, self.teacher, self.kind = material, teacher, kind
        self.room: Classroom | None = None

    def open(self) -> Classroom:
        if self.room is None:
            self.room = Classroom(self.material, self.teacher, self.kind)
        self.room.material = self.material
        return self.room


def _learn(room: _Lazily, recipe: Recipe, role: str, seed: int, folder: Path) -> Facts:
    return learn(room.open(), recipe, role=role, seed=seed, folder=folder)


def _tuned(room: _Lazily) -> Facts:
    before = room.material.recipe
    undecided = before.train.precision == "auto" or "auto" in (before.objective.temperature, before.objective.alpha)
    if not undecided:
        return {"decided": {}, "notes": [], "tried": []}
    after, facts = tune(room.open())
    decided = {
        "train.precision": after.train.precision,
        "objective.temperature": after.objective.temperature,
        "objective.alpha": after.objective.alpha,
    }
    return {"decided": decided, **facts}


def _evaluate(material: Material, cast: Cast, learnt: dict[str, Facts], labelled: Facts, taught: Facts) -> Facts:
    facts, scored = judge(material, cast, learnt=learnt, labelled=labelled, taught=taught)
    write_json(
        material.folder / "evidence.json",
        evidence(material, scored, learnt=learnt, taught=taught, chosen=cast.chosen),
    )
    return facts


def _report(folder: Path, facts: Facts, exported: Facts) -> None:
    write_json(folder / "run.json", facts)
    write_text(folder / "report.html", report.html(facts, read_json(folder / "evidence.json")))
    write_text(folder / exported["folder"] / "README.md", report.card(facts))


def _own(recipe: Recipe, task: str, metric: str) -> Recipe:
    """Dials for a student of the user's own: those of an image or text student, whatever family was named."""
    family = "mlp" if task == "image-classification" else "cut"
    return resolved(with_values(recipe, {"student.family": family}), task, metric=metric)


def _dials(recipe: Recipe) -> list[str]:
    sections = (recipe.student, recipe.objective, recipe.train)
    seconds = {"checkpoint_seconds", "track"}
    return [section.model_dump_json(exclude=seconds) for section in sections] + [recipe.teacher.targets]


def _seeds(recipe: Recipe) -> Sequence[int]:
    return range(recipe.seed, recipe.seed + recipe.seeds)


def _fingerprints(splits: Splits) -> list[str]:
    found = [splits.train.fingerprint, splits.validation.fingerprint, splits.test.fingerprint]
    return found if splits.unlabelled is None else [*found, splits.unlabelled.fingerprint]


def _data_facts(splits: Splits) -> Facts:
    def facts(rows: Any) -> Facts:
        return {"rows": len(rows), "fingerprint": rows.fingerprint}

    found: Facts = {name: facts(getattr(splits, name)) for name in ("train", "validation", "test")}
    return {**found, "unlabelled": None if splits.unlabelled is None else facts(splits.unlabelled)}


def _brief(taught: Facts) -> Facts:
    return {key: value for key, value in taught.items() if key not in ("history", "notes")}


def _keep_chosen(folder: Path, folders: dict[str, Path], chosen: Sequence[int]) -> None:
    """RUN/student and RUN/twin are those of the seeds that were best on validation."""
    for role, seed in zip(("student", "twin"), chosen, strict=True):
        source = folders[f"{role}.{seed}"]
        if source != folder / role:
            shutil.copytree(source, folder / role, dirs_exist_ok=True)


def _teacher_folder(recipe: Recipe, taught: Facts, store: Path, *, given: Loaded | None) -> Path | None:
    if taught.get("folder"):
        return store / taught["folder"] / "model"
    path = None if given is not None or recipe.teacher.path is None else Path(recipe.teacher.path)
    return path if path is not None and path.is_dir() else None


def _without_paths(tree: Any) -> Any:
    """The recipe as it may be shown: of an absolute path only its last part."""
    if isinstance(tree, dict):
        return {key: _without_paths(value) for key, value in tree.items()}
    if isinstance(tree, str) and PurePath(tree).is_absolute():
        return PurePath(tree).name
    return tree


def _described(term: Term) -> Facts:
    weight = term.weight if isinstance(term.weight, int | float) else str(term.weight)
    return {
        "name": term.name, "per": term.per, "of": term.of, "against": term.against, "weight": weight,
        "formula": term.formula,
    }  # fmt: skip
