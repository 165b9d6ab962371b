"""The main job on tiny data, end to end: what a run leaves behind, what it reuses, and what it never looks at."""

from __future__ import annotations

import copy
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .documented import found

LABELS = ("billing", "music", "travel", "weather")


class Enough(Exception):
    """Raised by a listener to leave a run where the stages before are done: what a kill would leave."""


class Until:
    """Listens to a run, and leaves it when a stage begins."""

    def __init__(self, stage: str) -> None:
        self.last, self.stages, self.said = stage, [], []

    def stage(self, name: str) -> None:
        self.stages.append(name)
        if name == self.last:
            raise Enough

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def advance(self, done: int, total: int, **facts: float | str) -> None:
        pass


def distilled_until(stage: str, recipe: Any, out: Path) -> Until:
    """All stages before this one; every one of them was really done or reused."""
    from understudy.pipeline import distill

    listener = Until(stage)
    with pytest.raises(Enough):
        distill(recipe, out, progress=listener)
    return listener


def recipe_of(finished: Any, *, data: Path | None = None, **changes: Any) -> Any:
    """The recipe of the finished run, with some keys changed (dots written as two underscores)."""
    from understudy.pipeline.recipe import load_recipe, with_values

    asked = load_recipe(finished.folder / "stages" / "asked.yaml")
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return with_values(asked, {"data.path": str(data or finished.data), **changed})


def stage_facts(folder: Path, stage: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "stages" / f"{stage}.json").read_text())["facts"]
    return facts


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


@pytest.fixture
def beside(finished: Any, tmp_path: Path) -> Path:
    """A folder with a copy of the finished run and of its store: ``beside / "text"`` and ``beside / ".store"``."""
    return Path(shutil.copytree(finished.folder.parent, tmp_path / "runs"))


def facts_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return facts


def without_absolute_paths(text: str, *roots: Path) -> bool:
    return not any(str(root) in text for root in roots) and not re.search(r"(?<![\w.:/])/(tmp|home|root|Users)/", text)


def complete(folder: Path) -> int:
    """Checks what every run leaves behind; the number of documented values in its run.json."""
    facts = facts_of(folder)
    report = (folder / "report.html").read_text()
    assert without_absolute_paths(report, folder.parent)
    assert len(report) < 1_200_000
    assert without_absolute_paths((folder / "run.json").read_text(), folder.parent)
    for path in (folder / "artefact").rglob("*"):
        assert not path.is_file() or str(folder.parent).encode() not in path.read_bytes(), path
    assert not list(folder.rglob("*.bin"))
    assert not list(folder.rglob("*.pkl"))
    assert not (folder / "checkpoints").exists() or not any((folder / "checkpoints").iterdir())
    assert not (folder / ".lock").exists()
    assert [stage["name"] for stage in facts["stages"]][-1] == "report"
    return sum(1 for _ in found(facts))


def test_a_static_student_of_a_text_teacher(finished: Any, tiny_texts: Callable[..., Any]) -> None:
    from understudy.pipeline import Run

    assert complete(finished.folder) == 173
    run = Run.open(finished.folder)
    assert run.facts["data"]["unlabelled"]["rows"] == 60
    assert run.facts["cost"]["teacher_calls"] == 240 + 80 + 60  # the unlabelled rows are labelled, the test rows not
    assert run.facts["export"]["passed"]
    assert (finished.folder / "artefact" / "static.safetensors").is_file()
    texts, ids = tiny_texts(120, seed=9)
    names = ("billing", "travel", "weather", "music")
    said = run.artefact.predict(texts)
    assert np.mean([one["label"] == names[i] for one, i in zip(said, ids, strict=True)]) > 0.85
    assert "accuracy" in run.summary()


def test_unlabelled_rows_take_part_in_the_soft_term_only(finished: Any, beside: Path) -> None:
    data = Path(shutil.copytree(finished.data, beside.parent / "data"))
    (data / "unlabelled.csv").unlink()
    out = beside / "without"
    distilled_until("export", recipe_of(finished, data=data), out)
    history = stage_facts(finished.folder, "train-student-0")["history"][0]
    assert history["step"] == -(-300 // 64)  # 240 + 60 rows
    assert stage_facts(out, "train-student-0")["history"][0]["step"] == -(-240 // 64)
    with_them, alone = weights(finished.folder / "student"), weights(out / "student")
    assert any(with_them[name].shape != alone[name].shape or (with_them[name] != alone[name]).any() for name in alone)


def test_the_same_call_again_reuses_every_stage(finished: Any, beside: Path) -> None:
    from understudy.cli.app import run

    folder = beside / "text"
    assert run(finished.call(out=folder)) == 0  # the run was moved: the store is looked at, nobody is asked
    assert stage_facts(folder, "label")["teacher_calls"] == 0
    before = {path: path.read_bytes() for path in folder.rglob("*.safetensors")}
    began = time.process_time()
    assert run(finished.call(out=folder)) == 0
    assert time.process_time() - began < 5
    statuses = {stage["name"]: stage["status"] for stage in facts_of(folder)["stages"]}
    assert statuses.pop("report") == "done"
    assert set(statuses.values()) == {"reused"}
    assert {"data", "teach", "label", "tune", "train-student-0", "train-twin-0", "export", "evaluate"} == set(statuses)
    assert {path: path.read_bytes() for path in folder.rglob("*.safetensors")} == before


@pytest.mark.parametrize(
    "changes",
    [
        {"objective__temperature": 1.0},
        {"objective__alpha": 0.7},
        {"student__dimensions": 16, "student__hidden": 8},
        {"student__family": "cut", "student__layers": 1},
        {"seed": 5},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_another_dial_student_or_seed_never_asks_the_teacher_again(
    changes: dict[str, Any], finished: Any, beside: Path
) -> None:
    out = beside / "other"
    distilled_until("train-student-5" if "seed" in changes else "train-student-0", recipe_of(finished, **changes), out)
    facts = stage_facts(out, "label")
    assert facts["teacher_calls"] == 0
    assert facts["stats"]["rows"] == facts["rows"] == 380


def test_a_hundred_new_rows_are_a_hundred_calls(finished: Any, beside: Path, tiny_texts: Callable[..., Any]) -> None:
    data = Path(shutil.copytree(finished.data, beside.parent / "data"))
    known = set((data / "train.csv").read_text().splitlines())
    new = [text for text in tiny_texts(700, seed=3)[0] if not any(line.startswith(f"{text},") for line in known)][:100]
    with (data / "unlabelled.csv").open("a") as file:
        file.write("\n".join(new) + "\n")
    with (data / "train.csv").open("a") as file:  # a row twice is one content
        file.write(sorted(known - {"text,label"})[0] + "\n")
    out = beside / "more"
    distilled_until("tune", recipe_of(finished, data=data), out)
    facts = stage_facts(out, "label")
    assert (facts["teacher_calls"], facts["rows"], facts["stats"]["rows"]) == (100, 481, 480)


def test_a_live_teacher_teaches_what_its_stored_targets_do(finished: Any, beside: Path) -> None:
    out = beside / "live"
    distilled_until("export", recipe_of(finished, teacher__targets="live"), out)
    assert not (out / "stages" / "label.json").exists()
    stored, live = weights(finished.folder / "student"), weights(out / "student")
    assert stored.keys() == live.keys()
    for name, value in stored.items():
        np.testing.assert_allclose(live[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_nothing_is_chosen_on_the_test_split(finished: Any, beside: Path) -> None:
    """With other labels in test.csv every weight, temperature, threshold and gate is bit for bit the same."""
    data = Path(shutil.copytree(finished.data, beside.parent / "data"))
    header, *rows = (data / "test.csv").read_text().splitlines()
    texts, labels = zip(*(row.rsplit(",", 1) for row in rows), strict=True)
    turned = {name: LABELS[(i + 1) % 4] for i, name in enumerate(LABELS)}
    (data / "test.csv").write_text(
        "\n".join([header, *(f"{t},{turned[y]}" for t, y in zip(texts, labels, strict=True))]) + "\n"
    )
    auto = {"objective__temperature": "auto", "objective__alpha": "auto", "train__epochs": 2}
    outs = {"a": finished.data, "b": data}
    for name, folder in outs.items():
        distilled_until("evaluate", recipe_of(finished, data=folder, **auto), beside / name)
    for part in ("student/model.safetensors", "twin/model.safetensors", "artefact/static.safetensors"):
        assert (beside / "a" / part).read_bytes() == (beside / "b" / part).read_bytes(), part
    a, b = ({stage: stage_facts(beside / name, stage) for stage in ("tune", "export")} for name in outs)
    assert a["tune"] == b["tune"]
    assert len(a["tune"]["tried"]) == 8
    measured = ("p95 (ms)", "same labels")
    for facts in (a, b):
        facts["export"]["gates"] = [g for g in facts["export"]["gates"] if not g["name"].startswith(measured)]
        for rung in facts["export"]["ladder"]:
            assert rung.pop("rows_per_s") > 0
    for key in ("temperature", "abstain_below", "gates", "ladder", "parity"):
        assert a["export"][key] == b["export"][key], key


def test_a_student_cut_from_the_teacher(
    finished: Any, beside: Path, tiny_texts: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    import understudy as us

    run = us.distill(
        finished.teacher, finished.data, "cut", beside / "cut",
        student__layers=1, train__epochs=2, train__precision="fp32", evaluation__latency_rows=20,
    )  # fmt: skip
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")  # no library's bar, line or warning gets past a silent run
    assert complete(run.folder) == 173
    assert run.facts["cost"]["teacher_calls"] == 0  # the static student's run has asked already
    assert (run.folder / "artefact" / "model.onnx").is_file()
    assert "another order" in run.facts["labels"]["sentence"]
    texts, ids = tiny_texts(80, seed=9)
    names = ("billing", "travel", "weather", "music")
    said = run.artefact.predict(texts)
    assert np.mean([one["label"] == names[i] for one, i in zip(said, ids, strict=True)]) > 0.85
    config = json.loads((run.folder / "student" / "config.json").read_text())
    assert config["num_hidden_layers"] == 1
    assert [config["id2label"][str(i)] for i in range(4)] == list(LABELS)


@pytest.fixture(scope="module")
def refused_digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], int]:
    """Digits, cnn to mlp, two seeds, and a gate that nothing can pass; the run, its call and its exit code."""
    from understudy.cli.app import run

    out = tmp_path_factory.mktemp("digits") / "runs" / "digits"
    call = ["distill", "--data", "digits", "--teacher", "cnn", "--student", "mlp", "--out", str(out)]
    call += ["--seeds", "2", "--epochs", "2", "--max-mb", "0.0001", "--set", "teacher.epochs=3", "--set"]
    call += ["teacher.width=6", "--set", "student.width=16", "--set", "evaluation.latency_rows=20"]
    return out, call, run(call)


def test_a_failed_gate_is_5_and_still_reported(
    refused_digits: tuple[Path, list[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    from understudy.cli.app import run
    from understudy.errors import ArtefactError
    from understudy.pipeline import Run

    out, call, code = refused_digits
    assert code == 5
    assert not (out / "artefact").exists()
    assert (out / "rejected" / "model.onnx").is_file()
    assert "size (MB)" in (out / "report.html").read_text()
    facts = facts_of(out)
    assert sum(1 for _ in found(facts)) > 190
    assert "size (MB)" in [gate["name"] for gate in facts["verdict"]["gates"] if not gate["passed"]]
    with pytest.raises(ArtefactError, match="gates"):
        Run.open(out).artefact  # noqa: B018
    capsys.readouterr()
    assert run(call) == 5  # reused, and still no artefact
    said = capsys.readouterr()
    assert "size (MB)" in said.err
    assert "report.html" in said.out
    assert run(["report", str(out), "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["export"]["passed"] is False
    assert run(["predict", str(out), str(out / "run.json")]) == 3


def test_two_seeds_are_two_students_and_two_twins(refused_digits: tuple[Path, list[str], int]) -> None:
    out = refused_digits[0]
    facts = facts_of(out)
    assert facts["verdict"]["seeds"] == 2
    students = [weights(out / "seeds" / str(seed) / "student") for seed in (0, 1)]
    assert any((students[0][name] != students[1][name]).any() for name in students[0])
    best = {role: facts["models"][role]["seed"] for role in ("student", "twin")}
    for role, seed in best.items():
        chosen = weights(out / "seeds" / str(seed) / role)
        assert all((weights(out / role)[name] == value).all() for name, value in chosen.items())
        scores = {s: stage_facts(out, f"train-{role}-{s}")["best"] for s in (0, 1)}
        assert scores[seed] == max(scores.values())


def test_one_stage_again(refused_digits: tuple[Path, list[str], int], tmp_path: Path) -> None:
    """The stage and what depends on it are done again; the stages before are reused."""
    from understudy.pipeline import stage

    runs = Path(shutil.copytree(refused_digits[0].parent, tmp_path / "runs"))
    listener = Until("evaluate")
    with pytest.raises(Enough):
        stage("evaluate", runs / "digits", progress=listener)
    done = {path.stem for path in (runs / "digits" / "stages").glob("*.json")}
    assert "evaluate" not in done
    assert {"export", "train-student-0", "train-twin-1", "teach"} <= done
    assert [name for name in listener.stages if name.startswith(("train", "export"))] == []
    with pytest.raises(Enough):
        stage("train", runs / "digits", progress=Until("train-twin-0"))
    assert not list((runs / "digits" / "stages").glob("train-twin*.json"))


@pytest.fixture(scope="module")
def own() -> dict[str, Any]:
    """A teacher and a student that no library knows, and digits to learn from."""
    import torch
    from torch import nn

    from understudy.data import Examples, digits
    from understudy.encoding import PixelEncoder

    class Mine(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.layers(pixels.flatten(1).float() / 255)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    splits, encoder, teacher = digits(), PixelEncoder((8, 8), 1), Mine(64)
    splits = copy.copy(splits)
    train = splits.train.take(range(600))
    pixels = torch.from_numpy(encoder.encode(train.inputs))
    optimiser = torch.optim.Adam(teacher.parameters(), lr=1e-2)
    for _ in range(120):
        loss = nn.functional.cross_entropy(teacher(pixels), torch.from_numpy(train.labels.copy()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    object.__setattr__(splits, "train", train)
    object.__setattr__(splits, "test", splits.test.take(range(120)))
    assert isinstance(train, Examples)
    return {"teacher": teacher, "student": Mine(12), "another": Mine(12), "splits": splits, "encoder": encoder}


def test_modules_of_your_own(own: dict[str, Any], tmp_path: Path) -> None:
    import torch

    from understudy import teachers
    from understudy.pipeline import distill_models
    from understudy.pipeline.recipe import load_recipe

    recipe = load_recipe(
        options={"data.path": "my digits", "student.family": "mlp"},
        sets=["train.epochs=15", "train.learning_rate=1e-2", "train.precision=fp32", "evaluation.latency_rows=20"],
    )
    frozen = {name: value.clone() for name, value in own["teacher"].state_dict().items()}
    start = {name: value.clone() for name, value in own["student"].state_dict().items()}
    teacher = teachers.given(own["teacher"], own["encoder"])
    more = {"student": own["student"], "encoder": own["encoder"]}
    run = distill_models(teacher, own["splits"], recipe, tmp_path / "runs" / "mine", **more)
    assert complete(run.folder) > 190
    for name, value in frozen.items():
        torch.testing.assert_close(own["teacher"].state_dict()[name], value, rtol=0, atol=0)
    for name, value in start.items():  # a copy was trained
        torch.testing.assert_close(own["student"].state_dict()[name], value, rtol=0, atol=0)
    test = own["splits"].test
    said = run.artefact.predict([{"image": image} for image in test.inputs["image"]])
    assert np.mean([one["label"] == str(label) for one, label in zip(said, test.labels, strict=True)]) > 0.8
    assert run.facts["models"]["student"]["metrics"]["accuracy"]["value"] > 0.8

    again = Until("export")
    distill_models(teacher, own["splits"], recipe, tmp_path / "runs" / "mine", progress=again, **more)
    assert "train-student-0" not in again.stages  # the same module: reused
    other = Until("export")
    with pytest.raises(Enough):  # another module in its place is another student, which the recipe cannot know
        distill_models(
            teacher, own["splits"], recipe, tmp_path / "runs" / "mine",
            student=own["another"], encoder=own["encoder"], progress=other,
        )  # fmt: skip
    assert "train-student-0" in other.stages
    assert "label" not in other.stages


def test_a_module_that_is_another_teacher_has_other_targets(own: dict[str, Any]) -> None:
    from understudy import teachers

    changed = copy.deepcopy(own["teacher"])
    one = teachers.given(own["teacher"], own["encoder"]).fingerprint
    assert teachers.given(changed, own["encoder"]).fingerprint == one
    changed.layers[0].bias.data[0] += 1e-6
    assert teachers.given(changed, own["encoder"]).fingerprint != one


def test_the_digits_of_the_run_can_be_asked_by_path(
    refused_digits: tuple[Path, list[str], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rejected model answers for inspection; a missing or broken image names its line."""
    from understudy.cli.app import run
    from understudy.data import digits

    rejected = refused_digits[0] / "rejected"
    (tmp_path / "one.png").write_bytes(digits().test.inputs["image"][0])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    rows = tmp_path / "rows"
    rows.write_text(json.dumps({"image": str(tmp_path / "one.png")}) + "\n")
    assert run(["predict", str(rejected), str(rows)]) == 0
    assert set(json.loads(capsys.readouterr().out)["probabilities"]) == set("0123456789")
    for name, reason in (("none.png", "No such file"), ("broken.png", "not an image")):
        rows.write_text(f'"{tmp_path / "one.png"}"\n' + json.dumps({"image": str(tmp_path / name)}) + "\n")
        assert run(["predict", str(rejected), str(rows)]) == 3
        said = capsys.readouterr()
        assert "line 2" in said.err
        assert reason in said.err
        assert said.out.count("\n") == 1  # the line before was answered


def test_the_threshold_that_ships_is_the_one_that_was_judged(finished: Any) -> None:
    manifest = json.loads((finished.folder / "artefact" / "understudy.json").read_text())
    judged = facts_of(finished.folder)["comparison"]["abstain"]
    assert manifest["thresholds"]["abstain_below"] == pytest.approx(judged["threshold"], abs=1e-6)
