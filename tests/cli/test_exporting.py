"""`understudy export` on a run with other limits, and on a classifier that was never distilled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from understudy.cli.app import run


@pytest.fixture(scope="module")
def exported(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "bert"
    call = ["export", str(finished.teacher), "--data", str(finished.data), "--max-drop", "5", "--out", str(out)]
    assert run(call) == 0
    return out


def test_a_plain_classifier_becomes_an_artefact_with_gates(exported: Path, finished: Any) -> None:
    from understudy import runtime

    facts = json.loads((exported / "export.json").read_text())
    manifest = json.loads((exported / "artefact" / "understudy.json").read_text())
    assert facts["passed"]
    assert [rung["rung"] for rung in facts["ladder"]] == ["fp32", "int8"]
    assert manifest["gates"] == facts["gates"]
    assert {gate["limit"] for gate in manifest["gates"] if "loss" in gate["name"]} == {5.0}
    lines = (finished.data / "validation.csv").read_text().splitlines()[1:]
    texts, labels = zip(*(line.rsplit(",", 1) for line in lines), strict=True)
    said = runtime.load(exported / "artefact").predict(list(texts))
    right = sum(one["label"] == label for one, label in zip(said, labels, strict=True))
    assert right / len(labels) == pytest.approx(facts["ladder"][1]["metric"])
    card = (exported / "artefact" / "README.md").read_text()
    assert "| int8 |" in card
    assert "passed: INT8 loss" in card
    assert str(finished.teacher) not in card


def test_again_into_the_same_folder_and_code_5(
    exported: Path, finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gate that nothing passes: the artefact of before must not stay as if it had."""
    out = Path(shutil.copytree(exported, tmp_path / "out"))
    from understudy.pipeline import export_model

    facts = export_model(finished.teacher, finished.data, out, export__max_mb=0.001)
    assert not facts["passed"]
    assert (out / "rejected" / "understudy.json").is_file()
    assert not (out / "artefact").exists()


def test_a_run_with_another_limit_says_so(finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from understudy import runtime

    shutil.copytree(finished.folder.parent / ".store", tmp_path / ".store")
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    weights = (folder / "student" / "model.safetensors").read_bytes()
    one = tmp_path / "one.artefact"
    assert run(["export", str(folder), "--max-drop", "7", "--single-file", str(one), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["recipe"]["export"]["max_drop"] == 7
    assert {gate["limit"] for gate in facts["verdict"]["gates"] if "loss" in gate["name"]} == {7.0}
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["changed"] for line in log if line["event"] == "amended"] == [["export.max_drop: was unset, now 7.0"]]
    assert (folder / "student" / "model.safetensors").read_bytes() == weights
    assert "max_drop: 7.0" in (folder / "stages" / "asked.yaml").read_text(), "the limit stays"
    texts = ["red green", "blue", ""]
    assert runtime.load(one).labels_of(texts) == runtime.load(folder).labels_of(texts)


MISTAKES = {
    "no data": ("export {teacher}", 2, ("is a model", "needs --data")),
    "data of a run": ("export {run} --data {data}", 2, ("--data", "is a run")),
    "other labels": ("export {teacher} --data {here}/other.csv --out {here}/o", 3, ("label",)),
    "four bits": ("export {teacher} --data {data} --bits 4 --out {here}/o", 2, ("--bits 4", "look vectors up")),
    "a negative drop": ("export {run} --max-drop -1", 2, ("export.max_drop",)),
    "into a folder of yours": ("export {teacher} --data {data} --out {here}/mine", 3, ("no export", "--out")),
    "no such model": ("export {here}/nothing --data {data} --out {here}/o", 4, ("no such folder",)),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(
    name: str, finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_texts: Callable[..., Any]
) -> None:
    call, code, words = MISTAKES[name]
    texts, _ = tiny_texts(60, seed=3)
    lines = ["text,label", *(f"{text},{'red' if i % 2 else 'blue'}" for i, text in enumerate(texts))]
    (tmp_path / "other.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    before = (finished.folder / "stages" / "asked.yaml").read_bytes()
    named = {"teacher": finished.teacher, "run": finished.folder, "data": finished.data, "here": tmp_path}
    assert run(call.format(**named).split()) == code
    said = capsys.readouterr()
    assert all(word in said.err for word in words), said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert not (tmp_path / "o").exists()
    assert (finished.folder / "stages" / "asked.yaml").read_bytes() == before
