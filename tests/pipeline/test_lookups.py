"""Lookup students end to end: hashed, in 4 bits, in a folder of a few kilobytes that answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.errors import RecipeError
from understudy.pipeline import distill

from .test_main_job import recipe_of

DIALS = {
    "student__family": "ngram", "student__buckets": 512, "student__dimensions": 32, "export__bits": 4,
    "export__max_drop": 2.0, "train__learning_rate": 3e-2, "train__epochs": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def hashed(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of an ngram student in 4 bits, beside a copy of the finished run's store."""
    root = tmp_path_factory.mktemp("lookups")
    shutil.copytree(finished.folder.parent / ".store", root / ".store")
    return distill(recipe_of(finished, **DIALS), root / "hashed")


def test_an_ngram_student_of_four_bits(hashed: Any, tiny_texts: Any) -> None:
    folder = hashed.folder / "artefact"
    assert {path.name for path in folder.iterdir()} == {"README.md", "static.safetensors", "understudy.json"}
    assert (folder / "static.safetensors").stat().st_size < 513 * (
        2 + 2 + 1
    ) + 1200  # 4 classes of 4 bits, scale, weight
    assert hashed.facts["export"]["passed"]
    assert [rung["rung"] for rung in hashed.facts["export"]["ladder"]] == ["fp32", "int4"]
    assert hashed.facts["models"]["artefact"]["bits"] == 4
    assert hashed.facts["cost"]["teacher_calls"] == 0, "the store had every answer"
    texts, ids = tiny_texts(120, seed=9)
    names = ("billing", "travel", "weather", "music")
    said = hashed.artefact.labels_of(texts)
    assert np.mean([label == names[i] for label, i in zip(said, ids, strict=True)]) > 0.85


def test_it_starts_from_the_teachers_vectors(hashed: Any) -> None:
    events = [json.loads(line) for line in (hashed.folder / "log.jsonl").read_text().splitlines()]
    assert "512 hashed entries for pairs, 4-grams of characters, words; words start from the teacher's" in str(events)
    facts = json.loads((hashed.folder / "student" / "config.json").read_text())
    assert facts == {"understudy_family": "ngram", "rows": 513, "dimensions": 32, "classes": 4, "word_dropout": 0.15}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"student__family": "cut", "export__bits": 4}, "export.bits is 4.*static, ngram.*cut"),
        ({"student__family": "ngram", "student__buckets": 0}, "student.buckets is 0.*hashes everything"),
        ({"export__bits": 5}, "export.bits"),
    ],
)
def test_recipes_that_cannot_be(finished: Any, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        distill(recipe_of(finished, **changes), tmp_path / "out")
