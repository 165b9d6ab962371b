"""The end of a run: the test split is measured, and run.json, evidence, report and card are written."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from understudy import report
from understudy.files import content_hash, read_json, write_json, write_text
from understudy.pipeline.journal import Facts
from understudy.pipeline.judge import Cast, environment, judge
from understudy.pipeline.material import Material
from understudy.pipeline.proof import evidence
from understudy.pipeline.run import Run
from understudy.pipeline.spoken import language
from understudy.pipeline.texts import judged
from understudy.teachers import Loaded


def measure(material: Material, cast: Cast, learnt: dict[str, Facts], labelled: Facts, taught: Facts) -> Facts:
    """The test split, opened once: metrics, comparison and verdict, for run.json; evidence.json is written."""
    facts, scored = judge(material, cast, learnt=learnt, labelled=labelled, taught=taught)
    if material.recipe.ships == "best":
        several = 1 + len(material.recipe.peers)
        facts["verdict"]["why"] += (
            f" What ships is the best of {several} models on validation; the twin is one model, so that a part of the "
            "difference may be the luck of the draw."
        )
    judged(facts, material.recipe)
    said, shown = language(material, cast)
    proof = evidence(material, scored, learnt=learnt, taught=taught, chosen=cast.chosen)
    write_json(material.folder / "evidence.json", proof | shown)
    return facts | said


def facts_of(
    material: Material, loaded: Loaded, data: Facts, measured: Facts, exported: Facts, notes: list[str]
) -> dict[str, Any]:
    """The content of run.json."""
    recipe, names = material.recipe, material.splits.label_names
    surroundings, stages = environment(material), material.journal.stages
    reported = content_hash("report", *(one["fingerprint"] for one in stages))
    return {
        "schema": 1,
        "understudy": surroundings["understudy"],
        "task": material.task.name,
        "answer": material.task.answer.name,
        "fields": list(material.splits.fields),
        "recipe": _without_paths(recipe.model_dump(mode="json")),
        "data": data,
        **measured,
        "labels": {"names": list(names), "sentence": loaded.alignment.sentence if loaded.alignment else ""},
        "export": {key: value for key, value in exported.items() if key != "gates"},
        **({"exits": exported["exits"]} if exported.get("exits") else {}),
        "notes": notes,
        "environment": surroundings,
        "stages": [*stages, {"name": "report", "status": "done", "seconds": 0.0, "fingerprint": reported}],
    }


def taught_of(material: Material, learnt: dict[str, Facts], chosen: tuple[int, int]) -> Facts:
    """What was taught and how, for run.json: the terms, the steps before the last training, and the cohort."""
    recipe, shipped = material.recipe, learnt[f"student.{chosen[0]}"]
    steps = []
    for step in recipe.steps:
        name = f"step.{step.name}."
        each = [facts for key, facts in learnt.items() if key.startswith(name)]
        best = [facts["best"] for facts in each if facts["best"] is not None]
        steps.append(
            {
                "name": step.name,
                "learns_from": step.learns_from,
                "best": material.best(best) if best else None,
                "seconds": sum(facts["seconds"] for facts in each),
                "steps": each[0]["steps"],
                "objective": each[0]["objective"],
            }
        )
    cohort: Facts = {key: shipped[key] for key in ("cohort", "ships") if key in shipped}
    return {"objective": shipped["objective"], "steps": steps, "learns_from": recipe.learns_from, **cohort}


def write(run: Run, exported: Facts) -> None:
    """run.json, report.html, and the card of the artefact."""
    facts = dict(run.facts)
    write_json(run.folder / "run.json", facts)
    write_text(run.folder / "report.html", report.html(facts, read_json(run.folder / "evidence.json")))
    write_text(run.folder / exported["folder"] / "README.md", report.card(facts))


def _without_paths(tree: Any) -> Any:
    """The recipe as it may be shown: of an absolute path only its last part."""
    if isinstance(tree, dict):
        return {key: _without_paths(value) for key, value in tree.items()}
    if isinstance(tree, str) and PurePath(tree).is_absolute():
        return PurePath(tree).name
    return tree
