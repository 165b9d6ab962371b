"""init: the recipe that it writes is one, and says what it saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.pipeline import tasks_data

from understudy.pipeline.init import init
from understudy.pipeline.preflight import check
from understudy.pipeline.recipe import Recipe, load_recipe, with_values


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


SAID = {
    "pair": ("cut", {"2 classes", "2 labels, in the data's order"}),
    "score": ("static", {"numbers with fractions", "a correlation of 0.9 only to about ±3.4 points"}),
    "near": ("cut", {"a pair of texts", "scores of the training rows lie from"}),
    "several": ("static", {"4 labels, 1.5 a row", "all labels right only to about ±5.4 points"}),
}


@pytest.mark.parametrize("kind", SAID)
def test_what_init_writes_for_every_task_is_accepted_by_check(kind: str, tiny_encoder: Path, tmp_path: Path) -> None:
    text = init(str(tasks_data.write(kind, tmp_path / "data")))
    family, said = SAID[kind]
    recipe = with_values(read_back(tmp_path, text), {"teacher.path": str(tiny_encoder), "student.buckets": 256})
    assert recipe.student.family == family
    found = check(recipe, tmp_path / "run")
    assert [wanted for wanted in said if wanted not in text and wanted not in found["labels"]] == []
    assert text.count("scores of the training rows") == (recipe.task == "regression")
    assert not (tmp_path / "run").exists()
    assert found["task"] == recipe.task
    scores = recipe.task == "regression"
    assert (recipe.objective.temperature is None) == scores
    assert (found["majority"] == 0) == scores
    assert ("class" in text) == (kind == "pair")
    assert found["labels"].startswith("one score a row, from ") == scores


def test_a_decoder_is_not_told_of_hidden_tokens(tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"what is {i}?", "completion": f"{i} is a number"}) for i in range(60)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    recipe = read_back(tmp_path, text := init(str(tmp_path)))
    assert (recipe.task, recipe.student.family, recipe.objective.temperature) == ("causal-lm", "cut", 1)
    assert "decoder" in text
    assert "hidden" not in text


def test_several_labels_may_be_called_anything(tmp_path: Path) -> None:
    """A label that would mean "none of the others" means nothing where a row may have none anyway."""
    lines = [json.dumps({"text": f"text {i}", "labels": ["oos", "b"][: i % 3]}) for i in range(90)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    recipe = read_back(tmp_path, init(str(tmp_path)))
    assert (recipe.task, recipe.evaluation.out_of_scope) == ("multi-label", None)


def test_rows_without_a_score_are_found_for_pairs_too(tmp_path: Path) -> None:
    data = tasks_data.write("near", tmp_path / "data")
    rows = [{"sentence1": f"a {i}", "sentence2": f"b {i}"} for i in range(40)]
    (data / "unlabelled.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert "unlabelled 40" in init(str(data))


def test_a_table_gets_the_teacher_and_the_student_of_tables(tmp_path: Path) -> None:
    rows = "\n".join(f"{18 + i % 70},{'Bern' if i % 3 else 'Rome'},{'yes' if i % 2 else 'no'}" for i in range(200))
    (tmp_path / "rows.csv").write_text(f"age,city,label\n{rows}\n")
    text = init(str(tmp_path / "rows.csv"))
    recipe = read_back(tmp_path, text)
    assert (recipe.teacher.path, recipe.student.family) == ("boosting", "mlp")
    assert "# columns: age, city" in text
    assert check(recipe, tmp_path / "run")["task"] == "tabular-classification"
