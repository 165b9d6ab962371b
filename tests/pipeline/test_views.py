"""Views in a run: more rows for the student, which the teacher labels and the twin never sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordPiece
from transformers import AutoTokenizer

from understudy.errors import RecipeError
from understudy.pipeline.recipe import load_recipe, with_values
from understudy.pipeline.views import read_views, whole_words

from .test_main_job import distilled_until, recipe_of, stage_facts


def test_views_are_rows_that_the_teacher_labels_and_the_student_hears(finished: Any, tmp_path: Path) -> None:
    recipe = recipe_of(
        finished, **{"data.views": 2, "data.moves": ["drop_words", "swap_words"], "store": str(tmp_path / "s")}
    )
    out = tmp_path / "run"
    distilled_until("export", recipe, out)
    made = read_views(out)
    rows = len(made)
    assert 300 < rows <= 600  # 240 labelled and 60 unlabelled texts, two views each, less what repeats
    assert stage_facts(out, "views")["rows"] == rows
    assert stage_facts(out, "label")["teacher_calls"] == 240 + 60 + 80 + rows
    assert set(made.labels.tolist()) == {-1}
    student, twin = stage_facts(out, "train-student-0"), stage_facts(out, "train-twin-0")
    assert student["steps"] == twin["steps"] == 3 * -(-(300 + rows) // 64)
    held_out = {line.partition(",")[0] for line in (finished.data / "test.csv").read_text().splitlines()}
    assert not held_out & set(made.inputs["text"])

    before = (out / "views.parquet").read_bytes()
    more = with_values(recipe, {"data.views": 3, "store": recipe.store})
    other = tmp_path / "more"
    distilled_until("export", more, other)
    assert stage_facts(other, "label")["teacher_calls"] == len(read_views(other)) - rows  # only what is new is asked
    assert (out / "views.parquet").read_bytes() == before


def test_words_may_be_replaced_by_near_ones(finished: Any, tmp_path: Path) -> None:
    recipe = recipe_of(finished, **{"data.views": 1, "data.moves": ["replace_words"], "store": str(tmp_path / "s")})
    distilled_until("label", recipe, tmp_path / "run")
    known = {
        word for line in (finished.data / "train.csv").read_text().splitlines() for word in line.split(",")[0].split()
    }
    known |= {word for line in (finished.data / "unlabelled.csv").read_text().splitlines() for word in line.split()}
    made = read_views(tmp_path / "run")
    assert len(made) > 200
    known |= set(whole_words(AutoTokenizer.from_pretrained(finished.teacher)))
    assert {word for text in made.inputs["text"] for word in text.split()} <= known


def test_the_whole_words_of_a_tokenizer_are_told_by_its_marks() -> None:
    pieces = {"[UNK]": 0, "card": 1, "##ing": 2, "by": 3, "1984": 4, "caf\u00e9": 5}
    wordpiece = Tokenizer(WordPiece(pieces, unk_token="[UNK]"))
    assert whole_words(wordpiece) == ["card", "caf\u00e9"]
    units = {unit: i for i, unit in enumerate(["c", "a", "r", "d", "\u0120", "\u0120c", "ar", "ard", "\u0120card"])}
    merges = [("\u0120", "c"), ("a", "r"), ("ar", "d"), ("\u0120c", "ard")]
    assert whole_words(Tokenizer(BPE(units, merges))) == ["card"]


def test_a_masked_model_gives_other_words(finished: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer, BertForMaskedLM

    BertForMaskedLM(AutoConfig.from_pretrained(tiny_encoder)).save_pretrained(tmp_path / "masked")
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(tmp_path / "masked")
    moves = {"data.views": 1, "data.moves": ["masked_words"], "data.masked_model": str(tmp_path / "masked")}
    recipe = recipe_of(finished, **{**moves, "store": str(tmp_path / "s")})
    distilled_until("label", recipe, tmp_path / "run")
    assert len(read_views(tmp_path / "run")) > 200


def test_a_masked_model_without_its_head_is_refused(finished: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    from understudy.errors import TeacherError
    from understudy.pipeline import distill

    moves = {"data.views": 1, "data.moves": ["masked_words"], "data.masked_model": str(tiny_encoder)}
    with pytest.raises(TeacherError, match="has no head for masked words"):
        distill(recipe_of(finished, **{**moves, "store": str(tmp_path / "s")}), tmp_path / "run")


def test_images_have_views_too(tmp_path: Path) -> None:
    options = {"data.views": 1, "data.moves": ["shift", "mixup"], "teacher.epochs": 1, "teacher.width": 4}
    recipe = load_recipe("demo", options={**options, "teacher.precision": "fp32"})
    distilled_until("label", recipe, tmp_path / "run")
    made = read_views(tmp_path / "run")
    assert all(image.startswith(b"\x89PNG") for image in made.inputs["image"])
    facts = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any(fact.get("name") == "views" and fact["status"] == "done" for fact in facts)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.moves": ["flip"], "data.views": 1}, "flip is not for texts"),
        ({"data.moves": ["drop_words"]}, "without data.views changes nothing"),
        ({"data.moves": ["masked_words"], "data.views": 1}, "masked_words wants data.masked_model"),
    ],
)
def test_moves_that_cannot_be_are_refused_first(finished: Any, tmp_path: Path, changes: Any, words: str) -> None:
    from understudy.pipeline import distill

    with pytest.raises(RecipeError, match=words):
        distill(recipe_of(finished, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
