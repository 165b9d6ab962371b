"""Vectors of texts, from a folder to an artefact: with scored pairs, without any, by lookup and by a cut encoder."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import LABELS
from tests.pipeline.tasks_data import text_of, value

from understudy import runtime
from understudy.cli.app import run as command
from understudy.errors import DataError, RecipeError
from understudy.pipeline import distill
from understudy.pipeline.recipe import load_recipe

STATIC = {"student.family": "static", "student.buckets": 256, "student.dimensions": 16, "train.batch_size": 64}
CUT = {"student.family": "cut", "student.layers": 1, "train.epochs": 2}
QUICK = {
    "task": "sentence-embedding",
    "train.precision": "fp32",
    "evaluation.latency_rows": 20,
    "export.max_drop": 20.0,  # sixty pairs know a rank correlation to some points only
}


def texts_of(draw: random.Random, rows: int) -> list[str]:
    return [text_of(draw, *draw.sample(LABELS, k=draw.randint(1, 3))) for _ in range(rows)]


def write(folder: Path, *, pairs: bool = True, train_pairs: bool = False, seed: int = 0) -> Path:
    """Texts to learn from, and pairs whose score is how alike their worth is."""
    folder.mkdir(parents=True)
    draw = random.Random(seed)

    def scored(rows: int) -> list[dict[str, Any]]:
        both = zip(texts_of(draw, rows), texts_of(draw, rows), strict=True)
        return [{"sentence1": a, "sentence2": b, "score": 5 - abs(value(a) - value(b))} for a, b in both]

    splits = {"train": scored(150) if train_pairs else [{"text": text} for text in texts_of(draw, 300)]}
    for name in ("validation", "test"):
        splits[name] = scored(60) if pairs else [{"text": text} for text in texts_of(draw, 60)]
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def distilled(data: Path, teacher: Path, out: Path, **dials: Any) -> Any:
    options = {
        "data.path": str(data),
        "teacher.path": str(teacher),
        "store": str(teacher.with_name("store")),
        **QUICK,
        **dials,
    }
    return distill(load_recipe(options=options), out)


@pytest.mark.parametrize(
    ("dials", "shape"),
    [(STATIC, {}), (STATIC, {"train_pairs": True}), (STATIC, {"pairs": False}), (CUT, {})],
    ids=["static", "trained on pairs", "without pairs", "cut"],
)
def test_vectors_from_files_to_an_artefact(
    dials: dict[str, Any], shape: dict[str, Any], tiny_encoder: Path, tmp_path: Path
) -> None:
    data = write(tmp_path / "data", **shape)
    run = distilled(data, tiny_encoder, tmp_path / "run", **dials)
    facts = run.facts
    assert facts["task"] == "sentence-embedding"
    assert all(gate["passed"] for gate in facts["verdict"]["gates"])
    said = facts["models"]["artefact"]["metrics"]
    assert set(said) == {"cosine_spearman", "cosine_pearson", "recall@10"}
    assert said["recall@10"]["value"] > facts["models"]["baseline"]["metrics"]["recall@10"]["value"]
    assert facts["models"]["teacher"]["metrics"]["recall@10"]["value"] == 1.0
    if not shape.get("pairs", True):
        assert facts["models"]["teacher"]["metrics"]["cosine_spearman"]["value"] == pytest.approx(1.0)
        assert said["cosine_spearman"]["value"] > 0.5
    assert facts["comparison"]["correlation"] > 0.5
    assert (run.folder / "report.html").stat().st_size > 20_000
    shown = json.loads((run.folder / "evidence.json").read_text())["neighbours"]
    assert len(shown) == 12
    assert set(shown[0]) == {"text", "shared", "teacher", "artefact"}
    assert len(shown[0]["teacher"]) == 3

    rows = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    texts = [row.get("sentence1", row.get("text")) for row in rows]
    predictor = runtime.load(run.folder)
    vectors = predictor.embed(texts)
    width = {"static": 16, "cut": 32}[dials["student.family"]]
    assert vectors.dtype == np.float32
    assert vectors.shape == (60, width)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(predictor.predict(texts)[3]["embedding"], vectors[3], atol=1e-5)
    whole = predictor.embed(texts, int8=True)
    assert whole.dtype == np.int8
    np.testing.assert_allclose(whole * predictor.manifest["int8_scale"], vectors, atol=0.05)
    if shape.get("pairs", True):
        from scipy.stats import spearmanr

        other = predictor.embed([row["sentence2"] for row in rows])
        found = spearmanr((vectors * other).sum(1), [row["score"] for row in rows])[0]
        # INT8 activations have one scale per batch, and these are other batches
        loose = 1e-6 if dials is STATIC else 0.02
        assert found == pytest.approx(said["cosine_spearman"]["value"], abs=loose)
    assert predictor.embed([]).shape == (0, width)


def test_the_command_line_says_vectors_as_json_lines(tiny_encoder: Path, tmp_path: Path, capsys: Any) -> None:
    data = write(tmp_path / "data", pairs=False)
    named = ["--teacher", str(tiny_encoder), "--data", str(data), "--out", str(tmp_path / "run"), "--student", "static"]
    sets = [f"{key}={value}" for key, value in STATIC.items() if key != "student.family"]
    assert command(["check", *named[:4], "--student", "static", *[w for s in sets for w in ("--set", s)]]) == 0
    assert command(["distill", *named, *[w for s in sets for w in ("--set", s)]]) == 0
    assert "train has texts, and no other column" in capsys.readouterr().out + json.dumps(
        json.loads((tmp_path / "run" / "run.json").read_text())["notes"]
    )


def test_a_pair_without_a_score_has_one_line(tiny_encoder: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    rows = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    bare = "".join(json.dumps({**row, "score": None}) + "\n" for row in rows)
    (data / "test.jsonl").write_text(bare, encoding="utf-8")
    with pytest.raises(DataError, match=r"test.jsonl: test has pairs of texts and no score of any"):
        distilled(data, tiny_encoder, tmp_path / "run", **STATIC)


def test_dials_that_would_change_nothing_are_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    for key, said, why in (
        ("objective.temperature", 2.0, "vectors, which are not softened"),
        ("objective.alpha", 0.5, "no labels"),
        ("teacher.fine_tune", "always", "no labels to train it on"),
        ("evaluation.metric", "accuracy", "cosine_spearman"),
        ("student.exits", "all", "one label of several"),
        ("student.embedding", 8, "as wide as its words"),
    ):
        with pytest.raises(RecipeError, match=why):
            distilled(data, tiny_encoder, tmp_path / "run", **{**STATIC, key: said})


def test_a_classifier_teaches_by_its_base(tiny_bert: Any, tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    run = distilled(data, tiny_bert(steps=80), tmp_path / "run", **STATIC)
    assert any("its base is asked for vectors" in note for note in run.facts["notes"])
