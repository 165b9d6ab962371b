from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from understudy.data import Examples
from understudy.data.layouts import infer
from understudy.data.tables import read_file
from understudy.errors import DataError, UsageError
from understudy.statistics import METRICS
from understudy.tasks import LAYOUTS, TASKS, image_classification, task_named, text_classification

Texts = Callable[..., tuple[list[str], list[int]]]


def _png(array: np.ndarray, **more: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG", **more)
    return file.getvalue()


def test_every_task_is_complete() -> None:
    for name, task in TASKS.items():
        assert task.name == name
        assert task.primary in task.metrics
        assert {METRICS[metric].answer for metric in task.metrics} == {task.answer.name}
        nothing = (
            "majority",
            "mean_score",
            "label_shares",
            "same_vector",
            "commonest_tags",
            "opening_words",
            "unigrams",
        )
        assert task.baselines[0].__name__ in nothing
        assert task_named(name) is task is task_named(task)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UsageError, match='did you mean "text-classification"'):
        task_named("text_classification")


ROWS = {
    "text-classification": {"text": ["a", "b"], "label": ["x", "y"]},
    "image-classification": {"image": [b"1", b"2"], "label": [0, 1]},
    "pair-classification": {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [0, 1]},
    "regression": {"text": [str(i) for i in range(30)], "score": [i / 7 for i in range(30)]},
    "tabular-classification": {"age": [40, 41], "city": ["Bern", "Basel"], "label": ["x", "y"]},
    "tabular-regression": {"age": list(range(30)), "score": [i / 7 for i in range(30)]},
    "multi-label": {"text": ["a", "b"], "labels": [["x"], []]},
    "token-classification": {"tokens": [["a"], ["b", "c"]], "ner_tags": [["O"], ["B-x", "O"]]},
    "question-answering": {
        "question": ["a?", "b?"],
        "context": ["c", "d"],
        "answers": [{"text": ["c"], "answer_start": [0]}] * 2,
    },
    "sentence-embedding": {"text": ["a", "b"]},
    "causal-lm": {"prompt": ["a", "b"], "completion": ["c", "d"]},
}


@pytest.mark.parametrize("name", ROWS)
def test_a_task_is_inferred_from_columns_and_labels(name: str, tmp_path: Path) -> None:
    pd.DataFrame(ROWS[name]).to_parquet(tmp_path / "train.parquet")
    table = read_file(tmp_path / "train.parquet")
    found, why = infer(table, LAYOUTS, text="text", image="image", label="label")
    assert found == name
    assert name in why


def test_every_task_can_be_inferred() -> None:
    assert {*ROWS, "masked-language-model"} == set(TASKS)  # the teacher's folder says that one, not the columns


@pytest.mark.parametrize(
    "text", ["word " * 200, "x" * 1000, "<script>alert(1)</script> \n\t two  words", "", "é" * 281]
)
def test_texts_are_shown_shortened(text: str) -> None:
    shown = text_classification.show({"text": text})["text"]
    assert len(shown) <= 280
    plain = " ".join(text.split())
    assert shown == plain if len(plain) <= 280 else (shown[-1] == "…" and plain.startswith(shown[:-1]))


@pytest.mark.parametrize("shape", [(8, 8), (300, 200), (64, 64, 3), (10, 400, 3), (9, 9, 4)])
def test_images_are_shown_as_small_pngs_without_metadata(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    secret = PngInfo()
    secret.add_text("place", "47.1 N, 8.5 E")
    shown = image_classification.show({"image": _png(array, pnginfo=secret)})["image"]
    assert shown.startswith("data:image/png;base64,")
    data = base64.b64decode(shown.removeprefix("data:image/png;base64,"))
    picture = Image.open(io.BytesIO(data))
    assert max(picture.size) == min(64, max(shape[:2]))
    assert picture.mode == ("L" if len(shape) == 2 else "RGB")
    assert b"47.1" not in data
    if shape == (8, 8):
        np.testing.assert_array_equal(np.asarray(picture), array)


def test_a_broken_image_is_a_data_error() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        image_classification.show({"image": b"nothing"})


@pytest.mark.parametrize(
    ("lengths", "settings", "limit"),
    [
        ([10] * 99 + [200], {"positions": 512}, 16),
        ([10] * 90 + [200] * 10, {"positions": 512}, 200),
        ([8], {"positions": 512}, 8),
        ([1000] * 5, {"positions": 512}, 256),
        ([1000] * 5, {"positions": 512, "most": 512}, 512),
        ([100], {"positions": 60}, 60),
        ([10] * 10 + [30] * 10, {"positions": 512, "share": 0.5}, 16),
    ],
)
def test_length_limits(lengths: list[int], settings: dict[str, Any], limit: int) -> None:
    assert text_classification.length_limit(lengths, **settings) == limit


def test_a_cut_students_encoder_is_the_teachers_with_a_shorter_limit(tiny_tokenizer: Any, tiny_texts: Texts) -> None:
    texts, _ = tiny_texts(100)
    encoder = text_classification.subword_encoder(tiny_tokenizer, {"text": texts}, positions=64)
    features = encoder.encode({"text": texts})
    longest = max(len(ids) for ids in tiny_tokenizer(texts)["input_ids"])
    assert longest <= encoder.limit < longest + 8
    assert encoder.limit % 8 == 0
    for row, ids in enumerate(tiny_tokenizer(texts)["input_ids"]):
        assert features[row].tolist() == ids
    assert encoder.padding_id == tiny_tokenizer.pad_token_id
    assert set(encoder.collate(features, [0, 1])) == {"input_ids", "attention_mask"}
    long = {"text": ["card " * 500]}
    assert text_classification.subword_encoder(tiny_tokenizer, {"text": texts}, positions=64, limit=12).encode(
        long
    ).lengths == [12]
    assert text_classification.subword_encoder(tiny_tokenizer, long, positions=64).limit == 64
    with pytest.raises(UsageError, match="at most 64"):
        text_classification.subword_encoder(tiny_tokenizer, {"text": texts}, positions=64, limit=65)
    with pytest.raises(UsageError, match="got none"):
        text_classification.subword_encoder(tiny_tokenizer, {"text": []}, positions=64)


def test_a_static_students_encoder_knows_the_frequent_words(tiny_texts: Texts) -> None:
    encoder = text_classification.word_encoder(tiny_texts(200)[0], words=10, buckets=32, pairs=True)
    assert len(encoder.words) == 10
    assert encoder.size == 1 + 10 + 32


def test_the_limit_of_a_pairs_texts_is_chosen_from_both_of_its_columns() -> None:
    rows = Examples.of(
        {"sentence1": ["one"] * 25_000, "sentence2": ["one two three four five six seven eight nine"] * 25_000}
    )
    assert rows.texts[:2] == ["one", rows.inputs["sentence2"][0]]
    assert text_classification.sequence_encoder(rows.texts).limit == 16


def test_pixel_encoders_take_the_usual_size_and_all_channels() -> None:
    grey = [_png(np.zeros((8, 6), np.uint8))] * 3
    other = _png(np.zeros((20, 20, 3), np.uint8))
    encoder = image_classification.pixel_encoder(grey)
    assert (encoder.size, encoder.channels) == ((8, 6), 1)
    encoder = image_classification.pixel_encoder([other, *grey])
    assert (encoder.size, encoder.channels) == ((8, 6), 3)
    with pytest.raises(DataError, match="got none"):
        image_classification.pixel_encoder([])


def test_pixel_statistics_are_shares_and_never_divide_by_zero() -> None:
    pixels = np.zeros((4, 2, 3, 3), np.uint8)
    pixels[:2, 0] = 255
    mean, std = image_classification.pixel_statistics(pixels)
    np.testing.assert_allclose(mean, (0.5, 0.0))
    np.testing.assert_allclose(std, (0.5, 1 / 255))
