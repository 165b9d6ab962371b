"""Students that read words in order, end to end: from a recipe to an INT8 artefact that answers without torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.errors import RecipeError

from .test_main_job import distilled_until, recipe_of, stage_facts


@pytest.mark.parametrize("family", ["conv", "gru", "transformer"])
def test_a_student_that_reads_words_in_order(
    family: str, finished: Any, tmp_path: Path, tiny_texts: Callable[..., Any]
) -> None:
    import onnx

    from understudy import runtime

    out = Path(shutil.copytree(finished.folder.parent, tmp_path / "runs")) / family
    shape = {"width": 32, "dimensions": 16, "hidden": 24, "depth": 1, "buckets": None}
    dials = {"objective__temperature": 2, "train__epochs": 6, "train__learning_rate": 5e-3}
    dials |= {f"student__{key}": value for key, value in shape.items()}
    distilled_until("evaluate", recipe_of(finished, student__family=family, **dials), out)
    assert stage_facts(out, "label")["teacher_calls"] == 0  # the static student's run has asked already
    exported = stage_facts(out, "export")
    assert exported["passed"]
    gates = {gate["name"].partition(" (")[0]: gate for gate in exported["gates"]}
    assert gates["same answers without torch"]["value"] == 1.0
    manifest = json.loads((out / "artefact" / "understudy.json").read_text())
    assert manifest["encoder"]["kind"] == "sequence"
    assert manifest["encoder"]["limit"] == 16
    assert manifest["encoder"]["buckets"] == 1024  # the family's own
    stored = onnx.load(out / "artefact" / "model.onnx").graph.initializer
    dims = {tuple(tensor.dims) for tensor in stored if tensor.data_type == onnx.TensorProto.INT8}
    assert any(shape[0] > 1024 and shape[1] == 16 for shape in dims if len(shape) == 2), "the table is INT8"
    config = json.loads((out / "student" / "config.json").read_text())
    assert (config["understudy_family"], config["width"], config["dimensions"]) == (family, 32, 16)
    texts, ids = tiny_texts(120, seed=9)
    names = ("billing", "travel", "weather", "music")
    said = runtime.load(out).predict([*texts, "", "\ud800 \U0001f600", "card " * 5000])
    assert np.mean([one["label"] == names[i] for one, i in zip(said, ids, strict=False)]) > 0.85
    assert said[-1]["label"] == "billing"


def test_their_sizes_are_written_down_before_anything_is_trained() -> None:
    from understudy.pipeline.defaults import resolved
    from understudy.pipeline.recipe import load_recipe

    def sizes(family: str, **more: Any) -> tuple[Any, ...]:
        options = {"data.path": "d", "student.family": family, **{f"student.{k}": v for k, v in more.items()}}
        student = resolved(load_recipe(options=options), "text-classification", metric="accuracy").student
        return student.width, student.dimensions, student.hidden, student.buckets

    assert sizes("static") == (None, 256, 256, 16_384)
    assert sizes("gru") == (128, 64, 128, 1024)
    assert sizes("transformer", dimensions=32, buckets=0) == (128, 32, 128, 0)
    assert sizes("cut") == (None, None, None, None)
    with pytest.raises(RecipeError, match='student "gru" cannot do image-classification'):
        resolved(load_recipe(options={"data.path": "d", "student.family": "gru"}), "image-classification", metric="a")


def test_a_peer_of_another_family_has_that_familys_sizes() -> None:
    from understudy.pipeline.apprentice import _of_peer
    from understudy.pipeline.defaults import resolved
    from understudy.pipeline.recipe import load_recipe

    recipe = load_recipe(options={"data.path": "d", "student.family": "static"})
    recipe = resolved(recipe, "text-classification", metric="accuracy")
    found = _of_peer(recipe, {"family": "gru", "width": 16})
    assert {key.removeprefix("student."): value for key, value in found.items()} == {
        "family": "gru", "width": 16, "dimensions": 64, "hidden": 128, "buckets": 1024, "feature_dropout": 0.15,
    }  # fmt: skip


@pytest.mark.parametrize(("blocks", "depthwise"), [("plain", False), ("depthwise", True)])
def test_the_blocks_of_a_cnn_are_a_dial(blocks: str, depthwise: bool, tmp_path: Path) -> None:
    from understudy.data import digits
    from understudy.pipeline.journal import Journal
    from understudy.pipeline.kinds import KINDS
    from understudy.pipeline.material import Material
    from understudy.pipeline.progress import Silent
    from understudy.pipeline.recipe import load_recipe
    from understudy.tasks import task_named

    recipe = load_recipe(options={"data.path": "digits", "student.family": "cnn"}, sets=[f"student.blocks={blocks}"])
    material = Material(
        recipe, task_named("image-classification"), digits(), tmp_path, tmp_path, Journal(tmp_path, Silent())
    )
    made = KINDS["cnn"](material, None).build()  # type: ignore[arg-type]
    assert made.arguments["depthwise"] is depthwise
