"""The examples run: tiny networks and a few rows, so what is looked at is that they count and print, not how well."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(printed: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.strip().splitlines()]


def test_hinton_counts_the_errors_of_three_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    from understudy.data import digits

    splits = digits()
    for name in ("train", "validation", "test"):
        rows = getattr(splits, name)
        columns = {"image": rows.inputs["image"], "label": rows.labels.tolist()}
        parquet.write_table(arrow.table(columns), tmp_path / f"{name}.parquet")
    facts = tmp_path / "facts.json"
    arguments = ["--data", str(tmp_path), "--seeds", "2", "--rows", "256", "--threads", "1", "--json", str(facts)]
    example("hinton").main([*arguments, "--epochs-teacher", "1", "--epochs-student", "2"])
    found = json.loads(facts.read_text())
    table = cells(capsys.readouterr().out)
    assert table[0] == ["errors of 359", "teacher", "alone", "distilled"]
    assert [row[0] for row in table[2:]] == ["seed 0", "seed 1", "mean of 2", "Hinton 2015"]
    assert table[2][1:] == [str(found["seeds"][0][who]) for who in ("teacher", "alone", "distilled")]
    assert found["learnt"] == 256
    assert all(0 < one["alone"] < 250 for one in found["seeds"])  # guessing errs on 323
    assert found["seeds"][0]["alone"] != found["seeds"][0]["distilled"]


def test_initialisation_times_both_starts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tiny_bert: Callable[..., Path],
    tiny_texts: Callable[..., tuple[list[str], list[int]]],
    tiny_labels: tuple[str, ...],
) -> None:
    for seed, name in enumerate(("train", "validation", "test")):
        texts, labels = tiny_texts(240 if name == "train" else 60, seed=seed)
        with open(tmp_path / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [("text", "label"), *((t, tiny_labels[i]) for t, i in zip(texts, labels, strict=True))]
            )
    facts = tmp_path / "facts.json"
    teacher = tiny_bert(sorted(tiny_labels), steps=80)  # a label column of strings is sorted
    arguments = ["--data", str(tmp_path), "--teacher", str(teacher), "--layers", "1", "--seeds", "1"]
    example("initialisation").main([*arguments, "--epochs", "2", "--threads", "1", "--json", str(facts)])
    found = json.loads(facts.read_text())
    copied, random = found["trainings"]
    assert found["teacher"] > 0.9
    assert (copied["start"], random["start"]) == ("teacher's layers", "random")
    assert copied["all_steps"] == random["all_steps"] == 16
    assert copied["validation"] > random["validation"]
    assert copied["steps"] is not None
    assert random["steps"] is None
    table = cells(capsys.readouterr().out)
    assert [row[0] for row in table[2:]] == ["teacher's layers", "random"]
    assert table[3][2] == "not reached"


def test_agnostic_or_specific_compares_five_roads(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tiny_encoder: Path,
    tiny_texts: Callable[..., tuple[list[str], list[int]]],
    tiny_labels: tuple[str, ...],
) -> None:
    texts, ids = tiny_texts(260)
    for folder, labelled in (("corpus", False), ("task", True)):
        (tmp_path / folder).mkdir()
        rows = [
            {"text": text} | ({"label": tiny_labels[i]} if labelled else {}) for text, i in zip(texts, ids, strict=True)
        ]
        lines = [json.dumps(row) for row in rows]
        for name, first, last in (("train", 0, 160), ("validation", 160, 200), ("test", 200, 260)):
            (tmp_path / folder / f"{name}.jsonl").write_text("\n".join(lines[first:last]) + "\n")
    out = tmp_path / "runs"
    arguments = ["--teacher", str(tiny_encoder), "--data", str(tmp_path), "--corpus", str(tmp_path / "corpus")]
    arguments += ["--out", str(out), "--tasks", "task", "--seeds", "1", "--layers", "1", "--corpus-rows", "100"]
    arguments += ["--corpus-epochs", "1", "--rows", "96", "--epochs", "1"]
    example("agnostic_or_specific").main(arguments)
    printed = capsys.readouterr().out
    found = json.loads((out / "agnostic_or_specific-task.json").read_text())
    assert found["runs"][0]["steps"] == {"corpus": 4, "task": 3}
    assert set(found["runs"][0]["reached"]) == {"specific", "agnostic", "both", "neither", "tuned layers"}
    for road in found["runs"][0]["reached"]:
        assert f"| {road} |" in printed
    example("agnostic_or_specific").main(arguments)
    assert json.loads((out / "agnostic_or_specific-task.json").read_text())["runs"] == found["runs"]
