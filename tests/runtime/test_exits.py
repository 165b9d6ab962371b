"""Rows leave where their exit is sure enough: against the same rule written in numpy, without a runtime."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from understudy import runtime
from understudy.encoding import PixelEncoder
from understudy.errors import ArtefactError, UsageError
from understudy.export.artefact import write_artefact
from understudy.runtime.artefact import manifest_hash

from .conftest import LABELS, MAKERS, png

TEMPERATURES = (0.5, 2.0, 1.5)


class Parts(NamedTuple):
    """Three ONNX files, rows for them, and every exit's logits [3, N, 3] as numpy computes them."""

    files: list[Path]
    rows: list[dict[str, Any]]
    logits: np.ndarray


def linear(folder: Path, number: int, weights: dict[str, np.ndarray], given: str, width: int | None) -> Path:
    """One part: [pixels -> float ->] state; logits = state @ head; next_state = relu(state @ body)."""
    nodes = []
    if given == "pixels":
        nodes += [
            helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["float"], ["flat"]),
        ]
    inner = "flat" if given == "pixels" else given
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])]
    nodes.append(helper.make_node("Gemm", [inner, "head", "bias"], ["logits"]))
    if "body" in weights:
        nodes += [
            helper.make_node("MatMul", [inner, "body"], ["deep"]),
            helper.make_node("Relu", ["deep"], ["next_state"]),
        ]
        outputs.append(helper.make_tensor_value_info("next_state", TensorProto.FLOAT, ["N", weights["body"].shape[1]]))
    kind = (TensorProto.UINT8, ["N", 1, 4, 5]) if given == "pixels" else (TensorProto.FLOAT, ["N", width])
    made = helper.make_graph(
        nodes, "part", [helper.make_tensor_value_info(given, *kind)], outputs,
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    path = folder / f"{number}.onnx"
    save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder, draw = tmp_path_factory.mktemp("parts"), np.random.default_rng(5)
    images = draw.integers(0, 256, (60, 4, 5), dtype=np.uint8)
    widths, state, files, logits = (20, 7, 6), images.reshape(60, 20).astype(np.float64), [], []
    for number, width in enumerate(widths):
        scale = 0.004 if number == 0 else 0.3
        weights = {"head": draw.normal(size=(width, 3)) * scale * 3, "bias": draw.normal(size=3)}
        if number < 2:
            weights["body"] = draw.normal(size=(width, widths[number + 1])) * scale
        files.append(linear(folder, number, {name: value.astype(np.float32) for name, value in weights.items()},
                            "pixels" if number == 0 else "state", width))  # fmt: skip
        weights = {name: value.astype(np.float32).astype(np.float64) for name, value in weights.items()}
        logits.append(state @ weights["head"] + weights["bias"])
        if number < 2:
            state = np.maximum(state @ weights["body"], 0)
    return Parts(files, [{"image": png(image)} for image in images], np.array(logits))


def made(parts: Parts, folder: Path, thresholds: tuple[float | None, ...] = (0.8, 0.7, None), **changes: Any) -> Path:
    exits = [{"threshold": t, "temperature": d, "cost": 1 / 3} for t, d in zip(thresholds, TEMPERATURES, strict=True)]
    settings = {"exits": exits, "temperature": 1.25, "thresholds": {"abstain_below": 0.5}, **changes}
    write_artefact(
        folder, task="image-classification", labels=LABELS, encoder=PixelEncoder((4, 5), 1), model=parts.files,
        **settings,
    )  # fmt: skip
    return folder


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def rule(parts: Parts, thresholds: tuple[float | None, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Exit and scaled logits of every row, one row at a time."""
    exits, answers = [], []
    for row in range(len(parts.rows)):
        for number, (threshold, temperature) in enumerate(zip(thresholds, TEMPERATURES, strict=True)):
            scaled = parts.logits[number, row] / temperature
            if number == 2 or (threshold is not None and softmax(scaled).max() >= threshold):
                exits.append(number)
                answers.append(scaled)
                break
    return np.array(exits), np.array(answers)


@pytest.mark.parametrize("batch", [1, 7, 32, 1000])
@pytest.mark.parametrize("thresholds", [(0.8, 0.7, None), (0.9, None, 0.0), (None, 0.6, 0.99), (0.6, 0.5, 0.0)])
def test_rows_leave_by_the_rule(parts: Parts, tmp_path: Path, thresholds: tuple[float | None, ...], batch: int) -> None:
    exits, answers = rule(parts, thresholds)
    assert len(set(exits.tolist())) > 1, "all rows at one exit would prove little"
    predictor = runtime.load(made(parts, tmp_path / "a", thresholds))
    np.testing.assert_array_equal(predictor.exits(parts.rows, batch=batch), exits)
    np.testing.assert_allclose(predictor.logits(parts.rows, batch=batch), answers, atol=1e-5)
    np.testing.assert_allclose(predictor.predict_proba(parts.rows, batch=batch), softmax(answers / 1.25), atol=1e-5)
    said = predictor.predict(parts.rows, batch=batch)
    assert [one["label"] for one in said] == [LABELS[i] for i in answers.argmax(1)]
    assert [one["abstained"] for one in said] == (softmax(answers / 1.25).max(1) < 0.5).tolist()
    assert set(said[0]) == {"image", "label", "probabilities", "abstained"}, "the contract of predict stays as it is"
    for row in (0, 17):
        one = predictor.predict_one(parts.rows[row])
        np.testing.assert_allclose(list(one["probabilities"].values()), softmax(answers[row] / 1.25), atol=1e-5)


def test_as_sure_as_the_threshold_is_sure_enough(parts: Parts, tmp_path: Path) -> None:
    """Three logits of 0 are a third each, exactly; the next number above that is more than anybody has."""
    flat = {"head": np.zeros((20, 3), np.float32), "bias": np.zeros(3, np.float32),
            "body": np.ones((20, 7), np.float32)}  # fmt: skip
    folder = tmp_path / "flat"
    folder.mkdir()
    files = [linear(folder, 0, flat, "pixels", None), *parts.files[1:]]
    for name, threshold, wanted in (("at", 1 / 3, 0), ("above", float(np.nextafter(1 / 3, 1)), 2)):
        predictor = runtime.load(made(parts._replace(files=files), tmp_path / name, (threshold, None, None)))
        assert set(predictor.exits(parts.rows).tolist()) == {wanted}


def test_everybody_leaves_and_nobody_does(parts: Parts, tmp_path: Path) -> None:
    for name, thresholds, wanted in (("all", (0.0, 0.5, None), 0), ("none", (None, None, None), 2)):
        predictor = runtime.load(made(parts, tmp_path / name, thresholds))
        assert set(predictor.exits(parts.rows).tolist()) == {wanted}
        np.testing.assert_allclose(predictor.logits(parts.rows), parts.logits[wanted] / TEMPERATURES[wanted], atol=1e-5)
    plain = runtime.load(made(parts, tmp_path / "plain", exits=()))
    np.testing.assert_allclose(plain.logits(parts.rows), parts.logits[2], atol=1e-5)  # temperature 1, nobody leaves
    assert [one["threshold"] for one in plain.manifest["exits"]] == [None, None, None]


def test_what_every_exit_says_and_how_long_it_takes(parts: Parts, tmp_path: Path) -> None:
    logits, seconds = runtime.load(made(parts, tmp_path / "a")).every_exit(parts.rows, batch=7)
    np.testing.assert_allclose(logits, parts.logits, atol=1e-4)
    assert seconds.shape == (3,)
    assert (seconds > 0).all()
    assert seconds.sum() < 30


def test_no_rows(parts: Parts, tmp_path: Path) -> None:
    predictor = runtime.load(made(parts, tmp_path / "a"))
    assert predictor.predict([]) == []
    assert predictor.exits([]).shape == (0,)
    assert predictor.every_exit([])[0].shape == (3, 0, 3)


def test_many_rows_come_back_in_their_order(parts: Parts, tmp_path: Path) -> None:
    """More rows than are encoded at a time."""
    exits, answers = rule(parts, (0.8, 0.7, None))
    order = np.random.default_rng(0).integers(0, 60, 700)
    predictor = runtime.load(made(parts, tmp_path / "a"))
    rows = [parts.rows[i] for i in order]
    np.testing.assert_array_equal(predictor.exits(rows), exits[order])
    np.testing.assert_allclose(predictor.logits(rows), answers[order], atol=1e-5)
    assert predictor.every_exit(rows)[0].shape == (3, 700, 3)


def test_a_logit_that_is_not_finite_is_an_error_and_no_answer(parts: Parts, tmp_path: Path) -> None:
    broken = {"head": np.full((20, 3), np.nan, np.float32), "bias": np.zeros(3, np.float32),
              "body": np.zeros((20, 7), np.float32)}  # fmt: skip
    folder = tmp_path / "broken"
    folder.mkdir()
    first = linear(folder, 0, broken, "pixels", None)
    predictor = runtime.load(made(parts._replace(files=[first, *parts.files[1:]]), tmp_path / "a", (0.0, 0.0, None)))
    assert set(predictor.exits(parts.rows).tolist()) == {1}, "nobody is sure of nothing"
    last = {"head": np.full((6, 3), np.inf, np.float32), "bias": np.zeros(3, np.float32)}
    end = linear(folder, 2, last, "state", 6)
    predictor = runtime.load(made(parts._replace(files=[*parts.files[:2], end]), tmp_path / "b", (None, None, None)))
    with pytest.raises(ArtefactError, match="not a finite number"):
        predictor.predict(parts.rows)


def test_the_manifest_names_every_part_in_order(parts: Parts, tmp_path: Path) -> None:
    folder = made(parts, tmp_path / "a")
    manifest = runtime.read_manifest(folder)
    assert manifest["model"] == {"kind": "exits", "file": "model.0.onnx"}
    assert manifest["exits"] == [
        {"exit": i, "file": f"model.{i}.onnx", "threshold": t, "temperature": d, "cost": 1 / 3}
        for i, (t, d) in enumerate(zip((0.8, 0.7, None), TEMPERATURES, strict=True))
    ]
    assert set(manifest["files"]) == {"model.0.onnx", "model.1.onnx", "model.2.onnx"}
    assert {path.name for path in folder.iterdir()} == {*manifest["files"], "understudy.json", "README.md"}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_part_is_checked(parts: Parts, tmp_path: Path, number: int) -> None:
    folder = made(parts, tmp_path / "a")
    path = folder / f"model.{number}.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    with pytest.raises(ArtefactError, match=path.name):
        runtime.load(folder)
    path.unlink()
    with pytest.raises(ArtefactError, match=path.name):
        runtime.load(folder)


def changed(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "understudy.json").read_text())
    for key, value in changes.items():
        manifest[key] = value(manifest[key]) if callable(value) else value
    (folder / "understudy.json").write_text(json.dumps({**manifest, "hash": manifest_hash(manifest)}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"exits": lambda e: [*e, {**e[0], "file": "other.onnx"}]}, "no hash for other.onnx"),
        ({"exits": lambda e: [{**e[0], "temperature": 0.0}, *e[1:]]}, "temperatures above 0"),
        ({"exits": lambda e: [{k: v for k, v in e[0].items() if k != "threshold"}, *e[1:]]}, "threshold"),
        ({"exits": []}, "need a part"),
        ({"exits": lambda e: e[1:]}, "wants state, which its encoder does not give"),
        ({"model": {"kind": "onnx", "file": "model.1.onnx"}}, "wants state"),
    ],
)
def test_manifests_that_cannot_be_used(parts: Parts, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    folder = made(parts, tmp_path / "a")
    changed(folder, **change)
    with pytest.raises(ArtefactError, match=says):
        runtime.load(folder).predict(parts.rows)


@pytest.mark.parametrize("kind", ["static", "subwords", "pixels"])
def test_an_artefact_without_exits_is_read_as_before_and_has_none(kind: str, tmp_path: Path) -> None:
    old = MAKERS[kind](tmp_path / kind)
    predictor = runtime.load(old.folder)
    assert "exits" not in predictor.manifest
    np.testing.assert_allclose(predictor.logits(old.rows), old.logits, atol=1e-5)
    for ask in (predictor.exits, predictor.every_exit):
        with pytest.raises(UsageError, match="has no exits"):
            ask(old.rows)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exits": [{}]}, "settings for each"),
        ({"exits": [{"threshold": 1.5}, {}, {}]}, "threshold in"),
        ({"exits": [{"temperature": 0}, {}, {}]}, "temperature above 0"),
    ],
)
def test_settings_that_no_artefact_can_have(parts: Parts, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        made(parts, tmp_path / "a", **changes)
    assert not (tmp_path / "a").exists()
    with pytest.raises(UsageError, match="at least two parts"):
        made(parts._replace(files=parts.files[:1]), tmp_path / "a", exits=())


PROGRAM = """
import sys
from understudy import runtime
runtime.stream(sys.argv[1], sys.stdin, sys.stdout)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "transformers", "onnx", "scipy"}))
"""


def test_json_lines_without_torch(parts: Parts, tmp_path: Path) -> None:
    folder = made(parts, tmp_path / "a")
    lines = []
    for number, row in enumerate(parts.rows[:5]):
        (tmp_path / f"{number}.png").write_bytes(row["image"])
        lines.append(json.dumps({"image": str(tmp_path / f"{number}.png")}))
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], input="\n".join(lines), capture_output=True,
                          text=True, check=True)  # fmt: skip
    *answers, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    _, wanted = rule(parts, (0.8, 0.7, None))
    got = np.array([list(json.loads(line)["probabilities"].values()) for line in answers])
    assert got.shape == (5, 3)
    # beside other rows a row is answered alike: nothing but its own numbers decides where it leaves
    np.testing.assert_allclose(got, softmax(wanted[:5] / 1.25), atol=1e-5)
    out = io.StringIO()
    shutil.copytree(folder, tmp_path / "moved")
    assert runtime.stream(tmp_path / "moved", lines, out) == 5
