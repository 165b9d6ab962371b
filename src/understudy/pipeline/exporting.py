"""A classifier that was never distilled, as an artefact behind gates: its own fp32 answers are what INT8 must keep."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from understudy.errors import StoreError, UsageError
from understudy.files import write_json, write_text
from understudy.pipeline.journal import Facts, Journal, only_one
from understudy.pipeline.learn import Classroom
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.progress import Progress, Silent
from understudy.pipeline.recipe import load_recipe
from understudy.pipeline.school import in_data_order
from understudy.pipeline.ship import ship
from understudy.pipeline.stages import load_splits, settled
from understudy.teachers import open_teacher
from understudy.wording import metric_name

FACTS = "export.json"
OURS = (FACTS, "artefact", "rejected", "scores", "quantised", "log.jsonl", "track")


def export_model(
    model: Path | str, data: Path | str, out: Path, *, progress: Progress | None = None, **dials: Any
) -> Facts:
    """Exports a saved transformers classifier to INT8, climbs the ladder where that loses too much, and gates it.

    Args:
        model: folder or hub name, with a trained head whose labels are the data's.
        data: as ``distill`` takes it: validation decides the gates, training rows calibrate and, should it come to
            that, train; the test split is not opened.
        out: a new folder, or one of an earlier export: OUT/artefact where every gate held, else OUT/rejected, and
            OUT/export.json.
        progress: who listens.
        dials: keys of the recipe, dots as two underscores: ``export__max_drop=0.5``, ``data__text="utterance"``.

    Returns:
        The content of export.json: ``model``, ``rows``, ``metric`` and what `ship` says.

    Raises:
        UsageError, RecipeError: dials that cannot be.
        DataError, LabelError, TeacherError: data or a model that cannot be used, or do not fit each other.
        StoreError: a folder that holds something else.
    """
    said = {"teacher.path": str(model), "data.path": str(data), "student.family": "cut", "teacher.targets": "live"}
    said |= {name.replace("__", "."): value for name, value in dials.items()}
    given = load_recipe(options=said)
    if given.export.bits != 8:
        raise UsageError("--bits 4 is for students that look vectors up; a transformers model is exported with 8")
    name, splits = load_splits(given)
    task, recipe = settled(given, name, splits, own=True)
    loaded = open_teacher(
        str(model), task=task.name, label_names=splits.label_names, limit=recipe.data.limit, seed=recipe.seed
    )
    _refuse_foreign(out)
    with only_one(out):
        journal = Journal(out, progress or Silent())
        journal.begin("export")
        material = Material(recipe, task, splits, out, out.parent / ".store", journal)
        module = in_data_order(loaded, splits.label_names).eval()
        kind = Apprentice(loaded.encoder, partial(in_data_order, loaded, splits.label_names), _scheme(module))

        def room(mine: Material, other: Apprentice) -> Classroom:
            return Classroom(mine, loaded, other)

        with journal.signals():
            facts = ship(material, kind, module, teacher=loaded, room=room)
        rows = {part: len(getattr(splits, part)) for part in ("train", "validation")}
        facts = {"model": loaded.description, "rows": rows, "metric": recipe.evaluation.metric, **facts}
        write_json(out / FACTS, facts)
        write_text(out / facts["folder"] / "README.md", card(facts))
    return facts


def card(facts: Facts) -> str:
    """The artefact's README: what it was made of, every rung, every gate."""
    metric = metric_name(facts["metric"])
    lines = [f"# INT8 of {facts['model']}", "", "Made by `understudy export`; it runs without PyTorch.", ""]
    lines += [f"| rung | bytes | {metric} | points lost | rows/s |", "|---|---:|---:|---:|---:|"]
    for rung in facts["ladder"]:
        lines.append(
            f"| {rung['rung']} | {rung['bytes']:,} | {rung['metric']:.4f} | {rung['drop']:.2f} "
            f"| {rung['rows_per_s']:,.0f} |"
        )
    lines += ["", f"Measured on {facts['rows']['validation']:,} validation rows, in one process.", ""]
    for gate in facts["gates"]:
        passed = "passed" if gate["passed"] else "FAILED"
        lines.append(f"* {passed}: {gate['name']} {gate['value']:.4g} (limit {gate['limit']:g})")
    return "\n".join([*lines, *(f"* {note}" for note in facts["notes"])]) + "\n"


def _scheme(module: nn.Module) -> str:
    """Calibrated where most weights belong to convolutions, which dynamic INT8 makes slower."""
    sizes = {
        kind: sum(p.numel() for part in module.modules() if isinstance(part, kind) for p in part.parameters(False))
        for kind in (nn.Conv2d, nn.Linear)
    }
    return "calibrated" if sizes[nn.Conv2d] > sizes[nn.Linear] else "dynamic"


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is a file: --out wants a folder that is empty, new or an earlier export")
    foreign = [path.name for path in out.iterdir() if not path.name.startswith(".lock")] if out.is_dir() else []
    if any(name not in OURS for name in foreign):
        raise StoreError(f"{out} holds files that are no export: choose an empty folder for --out")
