"""Killed, told to stop, or stopped by hand: the same command goes on, and ends in the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent to processes")

SHARD = 2048  # rows that a kill during labelling can cost


class Enough(Exception):
    """Leaves a run where the stages before are done."""


class Listener:
    """Listens to a run; leaves it when ``last`` begins, and does something at a step of a stage."""

    def __init__(self, last: str, *, at: tuple[str, int] = ("", 0), act: Callable[[], None] = lambda: None) -> None:
        self.last, self.at, self.act = last, at, act
        self.current, self.said = "", [""]

    def stage(self, name: str) -> None:
        self.current = name
        if name == self.last:
            raise Enough

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def advance(self, done: int, total: int, **facts: float | str) -> None:
        if (self.current, done) == self.at:
            self.act()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_texts: Callable[..., Any], tiny_labels: Any) -> Path:
    """200 labelled rows, and so many without a label that labelling takes three shards."""
    folder = tmp_path_factory.mktemp("many")
    texts, ids = tiny_texts(320 + 2 * SHARD + 500, seed=4)
    rows = [f"{text},{tiny_labels[i]}" for text, i in zip(texts, ids, strict=True)]
    for name, first, last in (("train", 0, 200), ("validation", 200, 260), ("test", 260, 320)):
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *rows[first:last]]) + "\n")
    (folder / "unlabelled.csv").write_text("\n".join(["text", *texts[320:]]) + "\n")
    return folder


def call(data: Path, teacher: Path, out: Path, *, store: Path, seconds: float = 60) -> list[str]:
    """A run of 60 optimiser steps for student and twin, with dropout, so that the generator's state counts."""
    command = ["distill", "--teacher", str(teacher), "--data", str(data), "--student", "static", "--out", str(out)]
    command += ["--store", str(store)]
    dials = ("train.max_steps=60", "train.batch_size=16", "student.dimensions=16", "student.buckets=64")
    dials += ("objective.temperature=2", "student.dropout=0.2", f"train.checkpoint_seconds={seconds}")
    return [*command, *(word for dial in dials for word in ("--set", dial))]


def recipe_of(words: list[str]) -> Any:
    from understudy.pipeline.recipe import load_recipe

    options = dict(zip(("teacher.path", "data.path", "student.family"), words[2:7:2], strict=True))
    sets = [word for word in words if "=" in word]
    return load_recipe(options={**options, "store": words[words.index("--store") + 1]}, sets=sets)


def completed(words: list[str], out: Path) -> dict[str, bytes]:
    """The same command in this process, up to the export: the weights of student and twin."""
    from understudy.pipeline import distill

    with pytest.raises(Enough):
        distill(recipe_of(words), out, progress=Listener("export"))
    assert not any((out / "checkpoints").iterdir())
    return {role: (out / role / "model.safetensors").read_bytes() for role in ("student", "twin")}


@pytest.fixture(scope="module")
def undisturbed(
    data: Path, tiny_bert: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], Path]:
    """The weights of a run that nobody stopped, and its store."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    store = out.parent / "store"
    weights = completed(call(data, tiny_bert(steps=80), out, store=store), out)
    assert weights["student"] != weights["twin"]
    return weights, store


def sent(words: list[str], when: Callable[[], bool], number: signal.Signals) -> tuple[int, str]:
    """Starts the real program, sends it a signal as soon as something is so; its exit code and stderr."""
    command = [sys.executable, "-m", "understudy", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            end = time.monotonic() + 240
            while not when():
                assert process.poll() is None, f"it ended before that: {process.stderr.read()}"  # type: ignore[union-attr]
                assert time.monotonic() < end, "it never came to that"
                time.sleep(0.003)
            process.send_signal(number)
            _, err = process.communicate(timeout=180)
        finally:
            process.kill()
    return process.returncode, err


def started(out: Path, stage: str) -> bool:
    log = out / "log.jsonl"
    return log.exists() and f'"name": "{stage}", "status": "started"' in log.read_text()


def shards(store: Path) -> list[Path]:
    return [path for path in (store / "targets").glob("*/*.safetensors") if "draft" not in path.name]


def checkpoints(out: Path, name: str) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (out / "checkpoints" / name).glob("step-*"))


def test_killed_while_labelling_and_while_training(
    data: Path, tiny_bert: Callable[..., Path], tmp_path: Path, undisturbed: tuple[dict[str, bytes], Path]
) -> None:
    out, store = tmp_path / "runs" / "run", tmp_path / "store"
    words = call(data, tiny_bert(steps=80), out, store=store, seconds=0)
    code, _ = sent(words, lambda: bool(shards(store)), signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not (out / "stages" / "label.json").exists()
    stored = len(shards(store))
    assert 1 <= stored <= 2

    code, _ = sent(words, lambda: bool(checkpoints(out, "student-0")), signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert (out / ".lock").exists()  # nobody is left to remove it
    labelled = json.loads((out / "stages" / "label.json").read_text())["facts"]
    assert labelled["teacher_calls"] == labelled["rows"] - stored * SHARD  # what was paid for was kept
    assert not (out / "student").exists()
    assert 0 < checkpoints(out, "student-0")[-1] < 60

    assert completed(words, out) == undisturbed[0]
    history = json.loads((out / "stages" / "train-student-0.json").read_text())["facts"]
    assert any("resumed" in note for note in history["notes"])


def test_told_to_stop_and_stopped_by_hand(
    data: Path, tiny_bert: Callable[..., Path], tmp_path: Path, undisturbed: tuple[dict[str, bytes], Path]
) -> None:
    """With a checkpoint a minute there is none yet: the one that is found was written because of the signal."""
    out = tmp_path / "runs" / "run"
    words = call(data, tiny_bert(steps=80), out, store=undisturbed[1])
    code, err = sent(words, lambda: started(out, "train-student-0"), signal.SIGTERM)
    assert code == 75, err
    assert "SIGTERM" in err
    assert "the same command" in err.splitlines()[-1]
    assert len(checkpoints(out, "student-0")) == 1
    assert not (out / ".lock").exists()

    code, err = sent(words, lambda: started(out, "train-twin-0"), signal.SIGINT)
    assert code == 130, err
    assert "the same command" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert (out / "student").is_dir()
    assert len(checkpoints(out, "twin-0")) == 1

    assert completed(words, out) == undisturbed[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_while_a_teacher_is_trained(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """In this process: the signal comes at step 7 of a teacher's training, and nothing of it is lost."""
    from understudy.errors import Interrupted
    from understudy.pipeline import distill
    from understudy.pipeline.recipe import load_recipe

    recipe = load_recipe("demo", sets=["teacher.epochs=1", "teacher.width=4", "teacher.precision=fp32"])
    done = {}
    for name in ("straight", "stopped"):
        out = tmp_path / name / "run"
        if name == "stopped":
            listener = Listener("label", at=("teach", 7), act=lambda: signal.raise_signal(number))
            with pytest.raises(Interrupted, match="stopped after step 7") as stopped:
                distill(recipe, out, progress=listener)
            assert stopped.value.exit_code == code
            assert any(number.name in sentence for sentence in listener.said)
        with pytest.raises(Enough):
            distill(recipe, out, progress=Listener("label"))
        (model,) = (out.parent / ".store" / "teachers").glob("*/model/model.safetensors")
        done[name] = model.read_bytes()
    assert done["straight"] == done["stopped"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # handlers are given back


def test_a_second_signal_stops_at_once(data: Path, tiny_bert: Callable[..., Path], tmp_path: Path) -> None:
    from understudy.pipeline import distill

    recipe = recipe_of(call(data, tiny_bert(steps=80), tmp_path / "run", store=tmp_path / "store"))

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        distill(recipe, tmp_path / "run", progress=Listener("", at=("label", 0), act=twice))
    assert not (tmp_path / "run" / ".lock").exists()
