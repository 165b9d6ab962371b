"""Lookup students end to end: hashed, in 4 bits, in a folder of a few kilobytes that answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy import runtime
from understudy.errors import RecipeError
from understudy.pipeline import distill

from .test_main_job import distilled_until, recipe_of, stage_facts

DIALS = {
    "student__family": "ngram", "student__buckets": 512, "student__dimensions": 32, "export__bits": 4,
    "export__max_drop": 2.0, "train__learning_rate": 3e-2, "train__epochs": 8,
}  # fmt: skip


def test_an_ngram_student_of_four_bits(finished: Any, tiny_texts: Any, tmp_path: Path) -> None:
    shutil.copytree(finished.folder.parent / ".store", tmp_path / ".store")
    out = tmp_path / "hashed"
    listener = distilled_until("evaluate", recipe_of(finished, **DIALS), out)
    assert stage_facts(out, "label")["teacher_calls"] == 0, "the store had every answer"
    assert "512 hashed entries for pairs, 4-grams of characters, words; words start from the teacher's own" in "".join(
        listener.said
    )
    config = json.loads((out / "student" / "config.json").read_text())
    sizes = {"rows": 513, "dimensions": 32, "classes": 4, "texts": 1}
    assert config == {"understudy_family": "ngram", "word_dropout": 0.15, **sizes}
    exported = stage_facts(out, "export")
    assert exported["passed"]
    assert [rung["rung"] for rung in exported["ladder"]] == ["fp32", "int4"]
    assert exported["gates"][1]["name"] == "INT4 loss (points)"
    folder = out / "artefact"
    assert {path.name for path in folder.iterdir()} == {"README.md", "static.safetensors", "understudy.json"}
    classes, scale, weight = 2, 2, 1  # bytes a row
    assert (folder / "static.safetensors").stat().st_size < 513 * (classes + scale + weight) + 1200
    texts, ids = tiny_texts(120, seed=9)
    names = ("billing", "travel", "weather", "music")
    said = runtime.load(folder).labels_of(texts)
    assert np.mean([label == names[i] for label, i in zip(said, ids, strict=True)]) > 0.85


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"student__family": "cut", "export__bits": 4},
            "export.bits: 4 bits are for students that look vectors up.*is a cut.*static or ngram",
        ),
        ({"student__family": "ngram", "student__buckets": 0}, "student.buckets is 0.*hashes everything"),
        ({"export__bits": 5}, "export.bits"),
    ],
)
def test_recipes_that_cannot_be(finished: Any, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        distill(recipe_of(finished, **changes), tmp_path / "out")
