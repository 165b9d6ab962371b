"""A student with exits from training to the artefact: what leaves, where, and that nothing else is any different."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from understudy.pipeline.exits import POINTS, curve, left
from understudy.statistics import METRICS

ACCURACY = METRICS["accuracy"].function


def test_the_curve_against_a_walk_over_rows() -> None:
    """Random logits of three exits: every point again, row by row."""
    draw = np.random.default_rng(0)
    scaled, labels = draw.normal(size=(3, 50, 4)) * 2, draw.integers(0, 4, 50)
    costs = np.array([0.5, 0.3, 0.2])
    drawn = curve(scaled, labels, ACCURACY, costs)
    assert 2 < len(drawn) <= POINTS + 1
    assert drawn[-1]["threshold"] is None
    for point in drawn:
        spent, right = 0.0, 0
        for row in range(50):
            for number in range(3):
                raised = np.exp(scaled[number, row])
                sure = (raised / raised.sum()).max()
                if number == 2 or (point["threshold"] is not None and sure >= point["threshold"]):
                    break
            spent += costs[: number + 1].sum()
            right += int(raised.argmax() == labels[row])
        assert point["cost"] == pytest.approx(spent / 50)
        assert point["metric"] == pytest.approx(right / 50)
    thresholds = [point["threshold"] for point in drawn[:-1]]
    assert thresholds == sorted(thresholds)
    spent = [point["cost"] for point in drawn]
    assert spent == sorted(spent), "a lower threshold is never dearer, so the lowest that holds is the cheapest"
    assert (spent[0], spent[-1]) == (pytest.approx(0.5), pytest.approx(1.0))
    assert drawn[-1]["metric"] == ACCURACY(labels, scaled[-1].argmax(1))


def test_who_left_where() -> None:
    settings = [{"cost": 0.2, "threshold": 0.9}, {"cost": 0.3, "threshold": 0.9}, {"cost": 0.5, "threshold": 0.0}]
    exits = np.array([0, 0, 0, 2, 2, 0, 0, 2, 2, 2])
    correct = np.array([1, 1, 1, 1, 0, 0, 1, 1, 1, 0], bool)
    found = left(exits, correct, settings)
    assert found["mean_cost"] == pytest.approx(0.5 * 0.2 + 0.5 * 1.0)
    rows = [(one["exit"], one["share_of_rows"], one["cost"], one["accuracy_of_those_who_left"])
            for one in found["per_exit"]]  # fmt: skip
    assert rows == [(0, 0.5, 0.2, 0.8), (1, 0.0, 0.5, None), (2, 0.5, 1.0, pytest.approx(0.6))]


class Ready(NamedTuple):
    """A trained student with an exit on digits, and what ``ship`` needs beside it."""

    material: Any
    kind: Any
    module: Any
    teacher: Any


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    import torch

    from understudy import objectives as match
    from understudy import students, teachers, training
    from understudy.data import digits
    from understudy.data.feed import Feed
    from understudy.encoding import PixelEncoder
    from understudy.pipeline.apprentice import own_module
    from understudy.pipeline.defaults import resolved
    from understudy.pipeline.journal import Journal
    from understudy.pipeline.material import Material
    from understudy.pipeline.progress import Silent
    from understudy.pipeline.recipe import load_recipe
    from understudy.tasks import task_named

    splits, encoder = digits(), PixelEncoder((8, 8), 1)
    torch.manual_seed(0)
    module = students.with_exits(students.Cnn((8, 8), 1, 10, width=8), [1])
    terms = [match.hard_labels(), match.hard_labels(0.5, of="exit.0")]
    terms.append(match.soft_labels(3.0, 0.5, of="exit.0", against="self"))
    settings = training.Settings(epochs=8, batch_size=64, learning_rate=5e-3)
    feed = Feed(splits.train, {"student": encoder})
    training.train(students.Student(module), feed, objective=terms, settings=settings, device="cpu")
    module.eval()
    recipe = load_recipe(
        options={"data.path": "digits", "student.family": "cnn", "teacher.path": "cnn"},
        sets=["export.max_drop=2", "teacher.targets=live", "export.calibration_rows=128"],
    )
    recipe = resolved(recipe, "image-classification", metric="accuracy")
    folder = tmp_path_factory.mktemp("exits") / "run"
    folder.mkdir()
    material = Material(recipe, task_named("image-classification"), splits, folder, folder.parent / ".store",
                        Journal(folder, Silent()))  # fmt: skip
    return Ready(material, own_module(module, encoder), module, teachers.given(module, encoder))


@pytest.fixture(scope="module")
def shipped(ready: Ready) -> dict[str, Any]:
    from understudy.pipeline.ship import ship

    facts = ship(ready.material, ready.kind, ready.module, teacher=ready.teacher)
    assert facts["passed"], facts["gates"]
    return facts


def test_most_digits_leave_early_and_rightly(ready: Ready, shipped: dict[str, Any]) -> None:
    from understudy import runtime
    from understudy.pipeline.forms import raw_rows

    exits, labels = shipped["exits"], ready.material.splits.validation.labels
    first, last = exits["per_exit"]
    assert first["share_of_rows"] > 0.5
    assert first["accuracy_of_those_who_left"] > 0.95
    assert first["share_of_rows"] + last["share_of_rows"] == pytest.approx(1)
    assert 0 < first["cost"] < last["cost"] == pytest.approx(1)
    wanted = first["share_of_rows"] * first["cost"] + last["share_of_rows"]
    assert exits["mean_cost"] == pytest.approx(wanted)
    assert exits["mean_cost"] < 1

    predictor = runtime.load(ready.material.folder / "artefact")
    raw = raw_rows(ready.material.splits.validation)
    left_at, said = predictor.exits(raw), predictor.logits(raw).argmax(1)
    assert (left_at == 0).mean() == pytest.approx(first["share_of_rows"])
    assert (said == labels).mean() == pytest.approx(exits["metric"]["with_exits"])
    every, _ = predictor.every_exit(raw)
    assert (every[-1].argmax(1) == labels).mean() == pytest.approx(exits["metric"]["full_depth"])
    # the rule, from every exit's logits and the manifest alone
    one = predictor.manifest["exits"][0]
    raised = np.exp((every[0] / one["temperature"]).astype(float))
    sure = (raised / raised.sum(1, keepdims=True)).max(1)
    np.testing.assert_array_equal(left_at == 0, sure >= one["threshold"])
    assert one["threshold"] == exits["threshold"]


def test_the_threshold_is_the_lowest_that_holds(ready: Ready, shipped: dict[str, Any]) -> None:
    exits = shipped["exits"]
    drawn, metric = exits["curve"], exits["metric"]
    best = max(metric["full_depth"], metric["exact"])
    assert 100 * (best - metric["with_exits"]) <= 2
    holding = [point["threshold"] for point in drawn if 100 * (best - point["metric"]) <= 2]
    assert exits["threshold"] == holding[0]
    assert len(holding) < len(drawn), "all hold: nothing was chosen"
    assert drawn[0]["cost"] == pytest.approx(exits["per_exit"][0]["cost"])
    gates = {gate["name"]: gate for gate in shipped["gates"]}
    drop = gates["INT8 and exits loss (points)"]
    assert drop["value"] == pytest.approx(100 * (metric["exact"] - metric["with_exits"]))
    assert gates["same answers without torch (share)"]["value"] == 1.0


def test_every_part_says_what_the_module_says(ready: Ready, shipped: dict[str, Any]) -> None:
    from understudy.pipeline.exits import score_every
    from understudy.teachers import score_rows

    parity = shipped["parity"]
    assert parity["passed"]
    assert parity["max_abs_error"] < 1e-4
    assert [one["rows"] for one in parity["exits"]] == [360, 360]
    assert shipped["exporting"] == "calibrated", "a convolution inside decides, whatever a module of one's own is"
    rows = ready.material.splits.validation.inputs
    every = score_every(ready.module, ready.kind.encoder, rows, batch_size=50)
    assert every.shape == (2, 360, 10)
    np.testing.assert_allclose(every[-1], score_rows(ready.module, ready.kind.encoder, rows), atol=1e-5)
    assert [rung["rung"] for rung in shipped["ladder"]] == ["fp32", "int8", "int8, with exits"]


def test_the_parts_are_int8_and_calibrated_one_after_the_other(ready: Ready, shipped: dict[str, Any]) -> None:
    import onnx

    folder = ready.material.folder / "artefact"
    manifest = json.loads((folder / "understudy.json").read_text())
    assert [one["file"] for one in manifest["exits"]] == ["model.0.onnx", "model.1.onnx"]
    assert manifest["model"] == {"kind": "exits", "file": "model.0.onnx"}
    assert sum(one["cost"] for one in manifest["exits"]) == pytest.approx(1)
    for one in manifest["exits"]:
        graph = onnx.load(folder / one["file"])
        kinds = [node.op_type for node in graph.graph.node]
        assert kinds.count("Conv") == 2
        assert "QuantizeLinear" in kinds
        kernels = [tensor for tensor in graph.graph.initializer if list(tensor.dims[2:]) == [3, 3]]
        assert [tensor.data_type for tensor in kernels] == [onnx.TensorProto.INT8] * 2
        assert str(Path.home()).encode() not in (folder / one["file"]).read_bytes()


def test_the_choice_does_not_depend_on_the_clock(ready: Ready, shipped: dict[str, Any], tmp_path: Path) -> None:
    from dataclasses import replace

    from understudy.pipeline.ship import ship

    (tmp_path / "run").mkdir()
    material = replace(ready.material, folder=tmp_path / "run")
    again = ship(material, ready.kind, ready.module, teacher=ready.teacher)
    for name in ("model.0.onnx", "model.1.onnx"):
        one, other = (folder / "artefact" / name for folder in (ready.material.folder, material.folder))
        assert one.read_bytes() == other.read_bytes()
    for key in ("threshold", "metric"):
        assert again["exits"][key] == shipped["exits"][key]
    shares = [[one["share_of_rows"] for one in facts["exits"]["per_exit"]] for facts in (shipped, again)]
    assert shares[0] == shares[1]
    assert again["temperature"] == shipped["temperature"]


def test_where_no_exit_is_any_good_nobody_leaves(ready: Ready, tmp_path: Path) -> None:
    """A head that always says the same, surer than anybody and nearly always wrong; and a gate that nothing passes."""
    from dataclasses import replace

    import torch

    from understudy import runtime
    from understudy.pipeline.forms import raw_rows
    from understudy.pipeline.recipe import with_values
    from understudy.pipeline.ship import ship

    (tmp_path / "run").mkdir()
    module = copy.deepcopy(ready.module)
    with torch.no_grad():
        module.heads[0].output.weight.zero_()
        module.heads[0].output.bias.copy_(torch.arange(10.0))
    material = replace(ready.material, folder=tmp_path / "run")
    material = material.with_recipe(with_values(material.recipe, {"export.max_mb": 0.001}))
    facts = ship(material, ready.kind, module, teacher=ready.teacher)
    assert [gate["name"] for gate in facts["gates"] if not gate["passed"]] == ["size (MB)"]
    assert not (tmp_path / "run" / "artefact").exists()
    assert facts["exits"]["threshold"] is None
    assert facts["exits"]["mean_cost"] == pytest.approx(1)
    assert facts["exits"]["metric"]["with_exits"] == facts["exits"]["metric"]["full_depth"]
    predictor = runtime.load(tmp_path / "run" / "rejected")
    assert set(predictor.exits(raw_rows(material.splits.validation)).tolist()) == {1}


def test_a_whole_run_with_exits(tmp_path: Path) -> None:
    """Digits, a recipe by name, every exit: what run.json, the evidence, the page and the artefact say."""
    from understudy import runtime
    from understudy.data import digits
    from understudy.pipeline import distill
    from understudy.pipeline.forms import raw_rows
    from understudy.pipeline.recipe import load_recipe

    recipe = load_recipe(
        "be-your-own-teacher",
        options={"data.path": "digits", "student.family": "cnn", "teacher.path": "cnn"},
        sets=["teacher.width=8", "teacher.epochs=3", "student.width=8", "train.epochs=8", "train.learning_rate=5e-3",
              "train.precision=fp32", "export.max_drop=3", "evaluation.latency_rows=20"],
    )  # fmt: skip
    run = distill(recipe, tmp_path / "runs" / "exits")
    facts = json.loads((run.folder / "run.json").read_text())
    exits = facts["export"]["exits"]
    first = exits["per_exit"][0]
    assert first["share_of_rows"] > 0.3
    assert exits["mean_cost"] < 1
    evidence = json.loads((run.folder / "evidence.json").read_text())["exits"]
    rows = digits().test
    predictor = runtime.load(run.folder)
    left_at = predictor.exits(raw_rows(rows))
    said = predictor.predict(raw_rows(rows))
    right = np.array([one["label"] == str(label) for one, label in zip(said, rows.labels, strict=True)])
    assert evidence["per_exit"][0]["share_of_rows"] == pytest.approx((left_at == 0).mean())
    assert evidence["per_exit"][0]["accuracy_of_those_who_left"] == pytest.approx(right[left_at == 0].mean())
    assert facts["models"]["artefact"]["metrics"]["accuracy"]["value"] == pytest.approx(right.mean())
    assert right[left_at == 0].mean() > 0.9
    page = (run.folder / "report.html").read_text()
    assert "Who leaves early" in page
    assert "of the validation rows leave early" in run.summary()
    assert "of the validation rows leave early" in (run.folder / "artefact" / "README.md").read_text()
    saved = json.loads((run.folder / "student" / "config.json").read_text())
    assert saved == {"understudy_family": "exits", "at": [1]}


def test_a_cut_encoder_with_an_exit(finished: Any, tmp_path: Path, tiny_texts: Any) -> None:
    import understudy as us

    run = us.distill(
        finished.teacher, finished.data, "cut", tmp_path / "runs" / "cut",
        student__layers=2, student__exits=[1], train__epochs=3, train__precision="fp32", evaluation__latency_rows=20,
        export__max_drop=3,
        objective__terms=[{"shorthand": {}}, {"hard_labels": {"of": "exits"}},
                          {"soft_labels": {"of": "exits", "against": "self", "temperature": 2}}],
    )  # fmt: skip
    exits = run.facts["export"]["exits"]
    assert run.facts["export"]["exporting"] == "dynamic"
    assert run.facts["export"]["parity"]["max_abs_error"] < 1e-3
    assert exits["per_exit"][0]["share_of_rows"] > 0.05
    assert {path.name for path in (run.folder / "artefact").glob("*.onnx")} == {"model.0.onnx", "model.1.onnx"}
    texts, ids = tiny_texts(80, seed=9)
    names = ("billing", "travel", "weather", "music")
    said = run.artefact.predict(texts)
    assert np.mean([one["label"] == names[i] for one, i in zip(said, ids, strict=True)]) > 0.85
    assert set(run.artefact.exits(texts).tolist()) <= {0, 1}
