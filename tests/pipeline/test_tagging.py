"""Tagging words, from files to an artefact: trained for real, exported, and asked without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline import tagging_data
from tests.pipeline.test_tasks import QUICK

from understudy import runtime
from understudy.ragged import as_rows
from understudy.statistics import METRICS

CUT = {"student.family": "cut", "student.layers": 1, "train.epochs": 6}
SMALL = {
    "student.buckets": 256, "student.dimensions": 16, "student.width": 32, "student.hidden": 32,
    "train.epochs": 10, "train.batch_size": 16, "train.learning_rate": 1e-2, "objective.temperature": 2.0,
}  # fmt: skip
LINES = {
    "cut": CUT,
    "conv": {"student.family": "conv", **SMALL, "data.views": 1},
    "gru": {"student.family": "gru", **SMALL, "teacher.targets": "live"},
}


def distilled(dials: dict[str, Any], teacher: Path, out: Path) -> Any:
    from understudy.pipeline import distill
    from understudy.pipeline.recipe import load_recipe

    data = tagging_data.write(out / "data", unlabelled=30)
    options = {
        "data.path": str(data),
        "teacher.path": str(teacher),
        "store": str(teacher.with_name("store")),
        **QUICK,
        "teacher.epochs": 8,
        **dials,
    }
    return distill(load_recipe(options=options), out / "run")


@pytest.mark.parametrize("dials", LINES.values(), ids=LINES)
def test_tagging_from_files_to_an_artefact(dials: dict[str, Any], tiny_encoder: Path, tmp_path: Path) -> None:
    run = distilled(dials, tiny_encoder, tmp_path)
    facts = run.facts
    assert facts["task"] == "token-classification"
    assert facts["comparison"]["metric"] == "entity_f1"
    models = facts["models"]
    reached = {name: models[name]["metrics"]["entity_f1"]["value"] for name in ("teacher", "student", "artefact")}
    assert min(reached.values()) > 0.8
    assert reached["artefact"] == pytest.approx(reached["student"], abs=0.05)
    assert [one["name"] for one in facts["baselines"]] == ["commonest_tags", "linear_tags"]
    assert all(gate["passed"] for gate in facts["verdict"]["gates"])
    classes = {one["label"]: one for one in facts["comparison"]["per_class"]}
    assert set(classes) == set(tagging_data.LABELS)
    assert {one["measure"] for one in classes.values()} == {"entity_f1"}
    assert (run.folder / "report.html").stat().st_size > 20_000
    looked_at(run.folder, facts, tmp_path / "data" / "test.jsonl")


def looked_at(folder: Path, facts: dict[str, Any], test: Path) -> None:
    """What run.json says of the artefact, from nothing but the artefact's own words; and what evidence.json shows."""
    rows = [json.loads(line) for line in test.read_text().splitlines()]
    predictor = runtime.load(folder)
    said = predictor.predict([{"tokens": row["tokens"]} for row in rows])
    number = {name: i for i, name in enumerate(predictor.labels)}
    truth, tags = (as_rows([np.array([number[t] for t in row["tags"]]) for row in some]) for some in (rows, said))
    for metric in ("entity_f1", "tag_accuracy"):
        wanted = facts["models"]["artefact"]["metrics"][metric]["value"]
        assert METRICS[metric].function(truth, tags) == pytest.approx(wanted, abs=0.01)
    spans = json.loads((folder / "evidence.json").read_text())["spans"]
    page = (folder / "report.html").read_text()
    assert "Which entities are taken for which" in page
    assert "entity F1" in page
    card = (folder / "artefact" / "README.md").read_text()
    assert "`tags`, one for each word, and `spans`" in card
    entities = sum(tag[0] == "B" for row in rows for tag in row["tags"])
    for name in ("teacher", "artefact"):
        told = spans["confusion"][name]
        assert sum(map(sum, told[:-1])) == entities
    for one in spans["lost"]:
        assert one["words"] == rows[one["row"]]["tokens"]
        assert any(span in one["teacher"] and span not in one["artefact"] for span in one["gold"])


def test_the_command_line_knows_tags(tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from understudy.cli.app import run
    from understudy.pipeline.init import init

    data = tagging_data.write(tmp_path / "data")
    said = init(str(data))
    assert "task: token-classification" in said
    assert "family: gru" in said
    assert "4 types of entities" in said
    named = ["--teacher", str(tiny_encoder), "--data", str(data), "--out", str(tmp_path / "run")]
    assert run(["check", *named, "--student", "conv"]) == 0
    assert "the student its own affixes" in capsys.readouterr().out
    assert run(["check", *named, "--student", "static"]) == 2
    capsys.readouterr()
    (data / "test.jsonl").write_text(json.dumps({"tokens": ["a", "b"], "tags": ["O"]}) + "\n")
    assert run(["check", *named, "--student", "conv"]) == 3
    assert "2 words" in capsys.readouterr().err


def test_what_means_nothing_for_tags_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    from understudy.errors import RecipeError

    for dials in (
        {"objective.class_weights": "balanced"},
        {"student.exits": "all"},
        {"evaluation.metric": "accuracy"},
        {"student.vocabulary": 50},
    ):
        with pytest.raises(RecipeError):
            distilled({**CUT, **dials}, tiny_encoder, tmp_path / next(iter(dials)))
