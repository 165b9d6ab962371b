"""init: the recipe that it writes is one, and says what it saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.pipeline.init import init
from understudy.pipeline.recipe import Recipe, load_recipe


def write(folder: Path, rows: list[tuple[str, str]], *, columns: str = "text,label") -> str:
    path = folder / "tickets.csv"
    path.write_text("\n".join([columns, *(f'"{text}","{label}"' for text, label in rows)]) + "\n", encoding="utf-8")
    return str(path)


def read_back(folder: Path, text: str) -> Recipe:
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return load_recipe(folder / "recipe.yaml")


def test_the_recipe_can_be_read_and_names_what_was_seen(tmp_path: Path) -> None:
    rows = [(f"where is card {i}", "card") for i in range(60)] + [(f"hello you {i}", "greet") for i in range(60)]
    text = init(write(tmp_path, rows))
    recipe = read_back(tmp_path, text)
    assert recipe == load_recipe(
        options={
            "data.path": str(tmp_path / "tickets.csv"),
            "student.family": "static",
            "task": "text-classification",
            "objective.temperature": "auto",
        }
    )
    assert "2 classes of 48 training rows each" in text
    assert "words in a text: median" in text
    assert "so few test rows" in text


def test_unbalanced_labels_other_columns_and_odd_names_are_kept(tmp_path: Path) -> None:
    rows = [(f"where is card {i}", "yes: #no") for i in range(100)] + [(f"hello {i}", "oos") for i in range(6)]
    text = init(write(tmp_path, rows, columns="body,on"), text="body", label="on")
    recipe = read_back(tmp_path, text)
    assert (recipe.data.text, recipe.data.label) == ("body", "on")
    assert recipe.objective.class_weights == "balanced"
    assert recipe.evaluation.metric == "macro_f1"
    assert recipe.evaluation.out_of_scope == "oos"
    assert "largest yes: #no" in text


def test_images_get_an_image_student(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    import io

    import datasets
    import numpy as np
    from PIL import Image

    def picture(seed: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (9, 7), np.uint8)).save(buffer, format="PNG")
        return buffer.getvalue()

    table = {"image": [{"bytes": picture(i), "path": None} for i in range(60)], "label": [i % 3 for i in range(60)]}
    datasets.Dataset.from_dict(table).to_parquet(tmp_path / "train.parquet")
    recipe = read_back(tmp_path, text := init(str(tmp_path)))
    assert (recipe.student.family, recipe.teacher.path) == ("cnn", "cnn")
    assert "images: 7 x 9 pixels, L" in text
