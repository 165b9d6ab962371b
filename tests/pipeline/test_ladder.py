"""The pipeline climbs while INT8 loses too much: sensitive nodes stay in fp32, or training goes on with rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def ready(finished: Any, tmp_path: Path) -> Callable[..., tuple[Any, ...]]:
    """(material, kind, teacher, room) of the finished run's data, for another student and other dials."""
    from understudy.pipeline.apprentice import apprentice
    from understudy.pipeline.journal import Journal
    from understudy.pipeline.learn import Classroom
    from understudy.pipeline.material import Material
    from understudy.pipeline.opening import asked, store_of
    from understudy.pipeline.progress import Silent
    from understudy.pipeline.recipe import with_values
    from understudy.pipeline.stages import load_splits, settled
    from understudy.pipeline.teach import teach

    def make(**dials: Any) -> tuple[Any, ...]:
        recipe = with_values(asked(finished.folder), {key.replace("__", "."): value for key, value in dials.items()})
        name, splits = load_splits(recipe)
        task, recipe = settled(recipe, name, splits)
        store = store_of(recipe, finished.folder)
        material = Material(recipe, task, splits, tmp_path, store, Journal(tmp_path, Silent()))
        teacher, _ = teach(material)
        kind = apprentice(material, teacher)
        return material, kind, teacher, lambda mine, other: Classroom(mine, teacher, other)

    return make


def outlier_at_the_end(student: Any, factor: float) -> None:
    """One channel of the last state far longer, and read as much more quietly: the same in fp32, and not in INT8."""
    import torch

    norm = student.bert.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        norm.weight[3] *= factor
        norm.bias[3] *= factor
        student.bert.pooler.dense.weight[:, 3] /= factor


def outlier_in_table(student: Any, factor: float) -> None:
    """One dimension of every vector far longer, and read as much more quietly."""
    import torch

    width = student.table.weight.shape[1]
    with torch.no_grad():
        student.table.weight[:, 0] = (student.table.weight[:, 0] + 0.1) * factor
        student.hidden.weight[:, [0, width]] /= factor


def test_sensitive_nodes_are_found_and_kept(ready: Any) -> None:
    import onnx

    from understudy import runtime
    from understudy.pipeline.forms import raw_rows
    from understudy.pipeline.ship import ship

    material, kind, teacher, room = ready(student__family="cut", student__layers=2, train__precision="fp32")
    student = kind.build().eval()
    outlier_at_the_end(student, 3e3)
    facts = ship(material, kind, student, teacher=teacher, room=room)
    assert facts["passed"], facts["gates"]
    fp32, plain, kept = facts["ladder"]
    assert (fp32["rung"], plain["rung"], kept["rung"]) == ("fp32", "int8", "int8, 1 of 14 parts in fp32")
    assert plain["drop"] > material.recipe.export.max_drop >= kept["drop"]
    assert kept["kept"] == ["bert.pooler.dense"]
    assert fp32["bytes"] > kept["bytes"] > plain["bytes"]
    assert all(rung["rows_per_s"] > 0 for rung in facts["ladder"])
    assert facts["rung"] == kept["rung"]
    assert "stay in fp32: bert.pooler.dense" in facts["notes"][0]
    assert not (material.folder / "quantised").exists()
    graph = onnx.load(material.folder / "artefact" / "model.onnx").graph
    assert sum(node.op_type == "MatMulInteger" for node in graph.node) == 13
    said = runtime.load(material.folder / "artefact").logits(raw_rows(material.splits.validation))
    assert (said.argmax(1) == material.splits.validation.labels).mean() == pytest.approx(kept["metric"])


def test_training_with_rounding_saves_what_nothing_else_can(ready: Any, finished: Any) -> None:
    from understudy import students
    from understudy.pipeline.learn import load_module
    from understudy.pipeline.ship import ship

    material, kind, teacher, room = ready(train__epochs=80, train__learning_rate=5e-2, export__max_drop=2.0)
    student = load_module(finished.folder / "student", kind)
    outlier_in_table(student, 300)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    facts = ship(material, kind, student, teacher=teacher, room=room)
    assert [rung["rung"] for rung in facts["ladder"]] == ["fp32", "int8", "int8, trained with rounding"]
    _, plain, trained = facts["ladder"]
    assert plain["drop"] > 20
    assert trained["drop"] <= 2.0
    assert facts["passed"], facts["gates"]
    assert trained["trained"]["steps"] > 0
    assert "more epochs than its twin" in facts["notes"][0]
    assert all(bool((value == before[name]).all()) for name, value in student.state_dict().items()), "a copy learns"
    learnt = students.load(material.folder / "quantised").state_dict()
    assert all(not bool((value == before[name]).all()) for name, value in learnt.items())


def test_where_no_rung_holds_the_best_is_rejected(ready: Any, finished: Any) -> None:
    from understudy.pipeline.learn import load_module
    from understudy.pipeline.ship import ship

    material, kind, teacher, room = ready(train__epochs=1, train__learning_rate=1e-9)
    student = load_module(finished.folder / "student", kind)
    outlier_in_table(student, 3e3)
    facts = ship(material, kind, student, teacher=teacher, room=room)
    assert not facts["passed"]
    assert [gate["name"] for gate in facts["gates"] if not gate["passed"]] == ["INT8 loss (points)"]
    assert facts["folder"] == "rejected"
    assert len(facts["ladder"]) == 3
    assert facts["rung"] == max(facts["ladder"][1:], key=lambda rung: rung["metric"])["rung"]

    off = material.with_recipe(material.recipe.model_copy(update={"export": material.recipe.export.model_copy(
        update={"ladder": "off"})}))  # fmt: skip
    assert len(ship(off, kind, student, teacher=teacher, room=room)["ladder"]) == 2


def test_four_bits_are_for_tables(ready: Any) -> None:
    from understudy.errors import RecipeError

    with pytest.raises(RecipeError, match=r"export\.bits: 4 bits are for students that look vectors up"):
        ready(student__family="cut", export__bits=4)


def test_rounding_in_the_loop_brings_the_loss_down(ready: Any) -> None:
    """A hard case, the one loop, the teacher as target: weights move, and the INT8 loss falls."""
    from understudy import students
    from understudy.pipeline.learn import Classroom

    material, kind, teacher, _ = ready(
        student__family="cut", student__layers=2, train__precision="fp32", train__epochs=3, train__learning_rate=1e-3
    )
    student = kind.build()
    outlier_at_the_end(student, 3e3)
    start = {name: value.clone() for name, value in student.named_parameters()}
    rounding = replace(kind, build=lambda: students.fake_quantised(student, "dynamic"))
    done = Classroom(material, teacher, rounding).teach(material.recipe, role="student", seed=0).training
    losses = [epoch["loss"] for epoch in done.history]
    assert losses[-1] < 0.8 * losses[0], losses
    moved = [name for name, value in student.named_parameters() if not bool((value == start[name]).all())]
    assert len(moved) == len(start)
    assert np.isfinite(losses).all()
