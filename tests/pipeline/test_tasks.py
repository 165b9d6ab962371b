"""Tasks whose answer is not one label of a text: each trained for real, exported, and asked without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline import tasks_data

from understudy import runtime

QUICK = {
    "teacher.epochs": 12,
    "teacher.learning_rate": 3e-3,
    "teacher.precision": "fp32",
    "train.precision": "fp32",
    "train.learning_rate": 3e-3,
    "evaluation.latency_rows": 20,
}
CUT = {"student.family": "cut", "student.layers": 1, "train.epochs": 8}
STATIC = {"student.family": "static", "student.buckets": 256, "student.dimensions": 32, "train.epochs": 10}
SMALL = {"student.buckets": 256, "student.dimensions": 16, "student.width": 16, "student.hidden": 24}
SOFT = {"objective.temperature": 2.0}  # said, so that no short runs look for it
LINES = {
    "pair": ("pair-classification", "pair", CUT, 0.7),
    "pearson of a text": ("regression", "score", STATIC, 0.6),
    "a pair's score": ("regression", "near", CUT, 0.5),
    "several labels": ("multi-label", "several", {**STATIC, "objective.temperature": 2.0}, 0.7),
    "pair, static": ("pair-classification", "pair", {**STATIC, **SOFT}, 0.8),
    "pair, ngram": (
        "pair-classification",
        "pair",
        {**STATIC, **SOFT, "student.family": "ngram", "train.learning_rate": 3e-2, "export.bits": 4},
        0.8,
    ),
    "a pair's score, gru": ("regression", "near", {**SMALL, "student.family": "gru", "train.epochs": 8}, 0.5),
    "several labels, cut": ("multi-label", "several", CUT, 0.8),
}


def distilled(kind: str, dials: dict[str, Any], teacher: Path, out: Path) -> Any:
    from understudy.pipeline import distill
    from understudy.pipeline.recipe import load_recipe

    data = tasks_data.write(kind, out / "data")
    options = {
        "data.path": str(data),
        "teacher.path": str(teacher),
        "store": str(teacher.with_name("store")),
        **QUICK,
        **dials,
    }
    return distill(load_recipe(options=options), out / "run")


@pytest.mark.parametrize(("task", "kind", "dials", "least"), LINES.values(), ids=LINES)
def test_a_task_from_files_to_an_artefact(
    task: str, kind: str, dials: dict[str, Any], least: float, tiny_encoder: Path, tmp_path: Path
) -> None:
    run = distilled(kind, dials, tiny_encoder, tmp_path)
    facts = run.facts
    metric = facts["comparison"]["metric"]
    assert facts["task"] == task
    reached = {name: facts["models"][name]["metrics"][metric]["value"] for name in ("teacher", "student", "artefact")}
    assert min(reached.values()) > least
    assert reached["artefact"] == pytest.approx(reached["student"], abs=0.05)
    nothing = facts["baselines"][0]["metrics"][metric]["value"]
    assert reached["teacher"] > nothing + 0.1
    assert facts["comparison"]["retention"] == pytest.approx(reached["artefact"] / reached["teacher"])
    assert all(gate["passed"] for gate in facts["verdict"]["gates"])
    assert (run.folder / "report.html").stat().st_size > 20_000

    rows = [json.loads(line) for line in (tmp_path / "data" / "test.jsonl").read_text().splitlines()]
    predictor = runtime.load(run.folder)
    said = predictor.predict([{name: row[name] for name in predictor.manifest["fields"]} for row in rows])
    measured = {"label": "accuracy", "score": "pearson", "labels": "exact_match"}[predictor.manifest.get("answer")]
    wanted = facts["models"]["artefact"]["metrics"][measured]["value"]
    assert score_of(rows, said) == pytest.approx(wanted, abs=1e-6)


def test_a_fresh_head_of_several_labels_begins_at_their_shares(tiny_encoder: Path, tmp_path: Path) -> None:
    import torch
    from tests.pipeline.test_ensembles import material_of

    from understudy.pipeline.apprentice import apprentice
    from understudy.pipeline.recipe import load_recipe
    from understudy.pipeline.teach import untaught

    data = tasks_data.write("several", tmp_path / "data")
    options = {"data.path": str(data), "teacher.path": str(tiny_encoder), **STATIC, **QUICK}
    material = material_of(load_recipe(options=options), tmp_path / "run")
    loaded, fresh = untaught(material)
    assert fresh
    shares = material.splits.train.labels.mean(0)
    assert shares.max() - shares.min() > 0.01
    biases = loaded.model.get_submodule("classifier").bias
    np.testing.assert_allclose(torch.sigmoid(biases).detach().numpy(), shares, atol=0.01)
    for family in ("static", "ngram", "gru"):
        other = load_recipe(options={**options, **SMALL, "student.family": family})
        kind = apprentice(material_of(other, tmp_path / family), loaded)
        found = [p for name, p in kind.build().named_parameters() if name.endswith("bias") and p.shape == biases.shape]
        np.testing.assert_allclose(torch.sigmoid(found[-1]).detach().numpy(), shares, atol=0.01)


@pytest.mark.parametrize("family", ["static", "ngram", "conv", "gru", "transformer"])
def test_every_family_of_words_reads_pairs(family: str, tiny_encoder: Path, tmp_path: Path) -> None:
    from understudy.pipeline import check
    from understudy.pipeline.recipe import load_recipe

    data = tasks_data.write("pair", tmp_path / "data")
    options = {"data.path": str(data), "teacher.path": str(tiny_encoder), "student.family": family}
    found = check(load_recipe(options={**options, **QUICK, **SOFT, **SMALL}), tmp_path / "run")
    own = "words" if family in ("static", "ngram") else "sequence"
    assert found["tokenizer"].startswith(f"the teacher reads subwords, the student its own {own}: ")
    assert all(np.isfinite(term["value"]) and term["gradient_norm"] > 0 for term in found["terms"])


def test_auto_looks_at_every_family_for_pairs(tiny_encoder: Path, tmp_path: Path) -> None:
    from understudy.pipeline import check
    from understudy.pipeline.recipe import load_recipe

    data = tasks_data.write("near", tmp_path / "data")
    options = {"data.path": str(data), "teacher.path": str(tiny_encoder), "student.family": "auto"}
    limits = {"export.bits": 4, "export.max_mb": 0.3}  # nothing but a lookup has 4 bits, so no graph is exported
    choice = check(load_recipe(options={**options, **QUICK, **limits}), tmp_path / "run")["choice"]
    assert choice["chosen"]["student.family"] == "ngram"
    skipped = {one["name"]: one["skipped"] for one in choice["candidates"]}
    assert "export.bits: 4 bits are for students that look vectors up" in skipped["gru"]
    assert skipped["static"] == ""


def score_of(rows: list[dict[str, Any]], said: list[dict[str, Any]]) -> float:
    """What run.json must say, from nothing but the artefact's own words."""
    if "score" in said[0]:
        return float(np.corrcoef([row["score"] for row in rows], [one["score"] for one in said])[0, 1])
    key = "label" if "label" in rows[0] else "labels"
    return float(np.mean([row[key] == one[key] for row, one in zip(rows, said, strict=True)]))
