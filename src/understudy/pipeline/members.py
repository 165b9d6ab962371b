"""Several teachers as one: each opened or trained like any other, its temperature fitted on validation, then joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy.data import Examples, Splits
from understudy.errors import DataError, LabelError, TeacherError, UsageError
from understudy.files import content_hash, new_folder, read_json, write_json
from understudy.pipeline.defaults import BUILT_IN, TEACHERS
from understudy.pipeline.journal import Facts
from understudy.pipeline.material import Material
from understudy.pipeline.recipe import with_values
from understudy.pipeline.teacher_section import Member
from understudy.statistics import METRICS
from understudy.students import parameters
from understudy.teachers import Loaded, calibration, ensemble, known_labels, merged
from understudy.teachers import Member as Joined
from understudy.teachers.ensemble import support_of
from understudy.teachers.merging import check_space, check_support

Array = np.ndarray[Any, Any]
One = Callable[[Material], tuple[Loaded, Facts]]


def several(material: Material, one: One) -> tuple[Loaded, Facts]:
    """The members of ``teacher.members``, joined into one teacher.

    Args:
        material: of the run.
        one: opens or trains the teacher of a material whose recipe names a single one.

    Returns:
        The ensemble, and the facts of ``teach`` with ``members``: name, weight, temperature, labels (how many it
        knows), validation (the metric on the rows it knows), folder, trained and seconds of each.

    Raises:
        TeacherError, LabelError: of one member, which is named; or label sets that nothing relates.
    """
    recipe = material.recipe.teacher
    wanted = recipe.members or {}
    refuse(material)
    loaded: dict[str, Loaded] = {}
    facts: dict[str, Facts] = {}
    for name in sorted(wanted, key=lambda n: n != parent_of(material)):  # what a student is cut from comes first
        mine = alone(material, name)
        try:
            teacher, taught = one(mine)
        except (TeacherError, LabelError) as error:
            raise type(error)(f'teacher "{name}": {error}') from error
        temperature, metric, note = calibrated(mine, teacher) if recipe.calibrate else (1.0, None, "not calibrated")
        folder = _folder(mine, taught)
        loaded[name] = replace(teacher, bytes=size_of(teacher, folder), notes=(*teacher.notes, note))
        facts[name] = {
            "name": name,
            "weight": wanted[name].weight,
            "temperature": temperature,
            "labels": len(mine.splits.label_names),
            "validation": metric,
            **{key: taught[key] for key in ("folder", "trained", "seconds")},
        }
    joined = join(material, {name: loaded[name] for name in wanted}, {n: facts[n]["temperature"] for n in wanted})
    return joined, {
        "folder": None,
        "trained": any(one["trained"] for one in facts.values()),
        "seconds": sum(one["seconds"] for one in facts.values()),
        "history": [],
        "notes": list(joined.notes),
        "members": [facts[name] for name in wanted],
    }


def refuse(material: Material) -> None:
    """What can be said of the members before any of them is opened.

    Raises:
        LabelError: labels that the data does not have, that nobody knows, or that nothing relates.
        UsageError: means of logits that not every member has; a student to be cut where nobody knows every label.
        TeacherError: a member without a path.
    """
    names, space = material.splits.label_names, material.recipe.teacher.space
    members = tuple(material.recipe.teacher.members or {})
    known = support_of(_supports(material), members)
    check_space(space, known)
    if known is not None:
        check_support(known, members, names)
    for name in members:
        alone(material, name)
    parent_of(material)


def join(material: Material, teachers: dict[str, Loaded], temperatures: dict[str, float]) -> Loaded:
    """The members of the recipe as one teacher of all the data's labels."""
    recipe = material.recipe.teacher
    return ensemble(
        teachers,
        weights={name: one.weight for name, one in (recipe.members or {}).items()},
        temperatures=temperatures,
        supports=_supports(material),
        space=recipe.space,
        label_names=material.splits.label_names,
    )


def alone(material: Material, name: str) -> Material:
    """The material of one member: its recipe has this teacher only, its rows those whose label the member knows.

    A dial of ``teacher`` that was left to the kind of teacher.path is decided by the kind of the member's own.
    """
    recipe = material.recipe.teacher
    member = (recipe.members or {})[name]
    path = member.path or recipe.path
    if path is None:
        raise TeacherError(f"teacher.members.{name} has no path, and neither has teacher: name one of the two")
    theirs, own = (TEACHERS[one if one in BUILT_IN else "encoder"] for one in (recipe.path, path))
    dials: dict[str, Any] = {}
    for key in ("epochs", "learning_rate", "width", "dropout"):
        value = getattr(recipe, key)
        dials[f"teacher.{key}"] = own.get(key) if value == theirs.get(key) else value
    dials["teacher.path"], dials["teacher.members"] = path, None
    dials["teacher.seed"] = recipe.seed if member.seed is None else member.seed
    dials["teacher.width"] = member.width or dials["teacher.width"]
    splits = material.splits if member.labels is None else _restricted(material.splits, member, name)
    return replace(material, recipe=with_values(material.recipe, dials), splits=splits)


def parent_of(material: Material) -> str:
    """The member that a student is cut from: the weightiest of those that know every label, the first of equals.

    Raises:
        UsageError: there is none, and the student is to be cut.
    """
    wanted = material.recipe.teacher.members or {}
    name = max(wanted, key=lambda n: (wanted[n].labels is None, wanted[n].weight))
    if material.recipe.student.family == "cut" and wanted[name].labels is not None:
        raise UsageError(
            "no teacher of the ensemble knows every label, so no student can be cut from one: --student static"
        )
    return name


def calibrated(material: Material, teacher: Loaded) -> tuple[float, float, str]:
    """Temperature, metric on validation, and the sentence about both; asked once and kept in the store.

    A temperature that was fitted again might differ in its last digit, and the ensemble would be another teacher.
    """
    rows, names = material.splits.validation, material.splits.label_names
    metric = str(material.recipe.evaluation.metric)
    parts = [teacher.fingerprint, teacher.encoder.fingerprint, repr(teacher.label_order), rows.fingerprint]
    folder = material.store / "calibrations" / content_hash("calibration-1", *parts, metric, *names)
    if not folder.is_dir():
        material.journal.progress.say(f"the teacher is asked about {len(rows):,} validation rows, for its temperature")
        logits = teacher.scores(rows.inputs)
        temperature, note = calibration(logits, rows.labels)
        value = float(METRICS[metric].function(rows.labels, logits.argmax(1)))
        commonest = np.full(len(rows), rows.counts(len(names)).argmax())
        if METRICS[metric].gain(value, float(METRICS[metric].function(rows.labels, commonest))) <= 0:
            note += f"; with {value:.3f} it is no better than the commonest label: look at its weights and label order"
        with new_folder(folder) as draft:
            write_json(draft / "found.json", {"temperature": temperature, "validation": value, "note": note})
    found = read_json(folder / "found.json")
    note = f"{metric} {found['validation']:.4f} on validation, {found['note']}"
    return float(found["temperature"]), float(found["validation"]), note


def left_out(members: Sequence[Joined], said: Sequence[Array], space: str, rows: Examples, metric: str) -> list[Facts]:
    """What each member is worth: the metric of it alone, and of the ensemble without it.

    Args:
        members: of the ensemble.
        said: what each said about the rows, as `Loaded.scores` gives it.
        space: of the ensemble.
        rows: with their labels.
        metric: name of the primary metric.

    Returns:
        For each ``name``, ``weight``, ``temperature``, ``labels`` (how many it knows), ``metric`` (alone, on the
        ``rows`` whose label it knows; None where there are none) and ``without`` (None where the others do not do).
    """
    function = METRICS[metric].function
    found = []
    for i, (member, logits) in enumerate(zip(members, said, strict=True)):
        known = np.flatnonzero(member.support or [True] * logits.shape[1])
        mine = np.isin(rows.labels, known)
        others = [one for j, one in enumerate(members) if j != i]
        try:
            rest = merged(others, [one for j, one in enumerate(said) if j != i], space=space) if others else None
        except LabelError:  # without this one a label is nobody's, or nothing relates the others
            rest = None
        found.append(
            {
                "name": member.name,
                "weight": member.weight,
                "temperature": member.temperature,
                "labels": len(known),
                "rows": int(mine.sum()),
                "metric": float(function(rows.labels[mine], known[logits[mine].argmax(1)])) if mine.any() else None,
                "without": None if rest is None else float(function(rows.labels, rest.argmax(1))),
            }
        )
    return found


def size_of(teacher: Loaded, folder: Path | None) -> int | None:
    """Bytes on disk: weights, config and vocabulary; fp32 weights of a module without a folder; None: nobody knows."""
    if teacher.bytes is not None:
        return teacher.bytes
    if teacher.ask is not None:
        return None
    if folder is None:
        return 4 * parameters(teacher.model)
    wanted = (".safetensors", ".json", ".txt", ".model")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in wanted)


def _supports(material: Material) -> dict[str, tuple[bool, ...]]:
    """The members that know some labels only, and which."""
    names, wanted = material.splits.label_names, material.recipe.teacher.members or {}
    return {n: known_labels(one.labels, names, source=n) for n, one in wanted.items() if one.labels is not None}


def _folder(material: Material, taught: Facts) -> Path | None:
    if taught["folder"]:
        return material.store / str(taught["folder"]) / "model"
    path = Path(str(material.recipe.teacher.path))
    return path if path.is_dir() else None


def _restricted(splits: Splits, member: Member, name: str) -> Splits:
    """The rows whose label the member knows, counted among its own; nothing to test on, nothing without a label."""
    known = np.flatnonzero(known_labels(member.labels or (), splits.label_names, source=name))
    place = np.full(len(splits.label_names) + 1, -1, np.int64)  # the last is where label -1 looks
    place[known] = np.arange(len(known))

    def part(rows: Examples, split: str) -> Examples:
        mine = rows.take(np.flatnonzero(place[rows.labels] >= 0))
        if not len(mine):
            raise DataError(f'no {split} row has a label that the teacher "{name}" knows')
        return replace(mine, labels=place[mine.labels])

    return Splits(
        train=part(splits.train, "training"),
        validation=part(splits.validation, "validation"),
        test=splits.test.take([]),
        unlabelled=None,
        label_names=tuple(splits.label_names[k] for k in known),
    )
