"""Sentences with tags from files: what is read, and what is refused in one line."""

from __future__ import annotations

import functools
import json
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.data import Examples, augment, load
from understudy.errors import DataError, LabelError, UnderstudyError
from understudy.ragged import as_rows
from understudy.tasks import LAYOUTS

GOOD = [
    {"tokens": ["fly", "to", "New", "York"], "tags": ["O", "O", "B-city", "I-city"]},
    {"tokens": ["Rome", "by", "train"], "tags": ["B-city", "O", "B-by"]},
    {"tokens": ["hello"], "tags": ["O"]},
    {"tokens": ["to", "Bern"], "tags": None},
]


def write(folder: Path, rows: list[dict[str, Any]], split: str = "train") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def read(folder: Path, **more: Any) -> Any:
    return load(folder, layouts=LAYOUTS, **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD[:2], "validation")
    return write(tmp_path, GOOD[:1], "test")


def test_tags_become_numbers_that_say_what_they_mean(folder: Path) -> None:
    task, splits = read(folder)
    assert task == "token-classification"
    assert splits.label_names == ("O", "B-by", "I-by", "B-city", "I-city")
    assert [row.tolist() for row in splits.train.labels] == [[0, 0, 3, 4], [3, 0, 1], [0]]
    assert splits.unlabelled is not None
    assert splits.unlabelled.inputs == {"tokens": [["to", "Bern"]]}
    assert not splits.unlabelled.known.any()
    assert any("1 of the 5 tags have no training row, such as I-by" in note for note in splits.notes)
    assert splits.train.counts(5).tolist() == [4, 1, 0, 2, 1]


def test_examples_of_sentences_are_examples(folder: Path) -> None:
    train = read(folder)[1].train
    assert train.take([2, 0]).labels[1].tolist() == [0, 0, 3, 4]
    both = Examples.join([train, train.take([1])])
    assert len(both) == 4
    assert both.labels[3].tolist() == [3, 0, 1]
    assert train.fingerprint == train.take([0, 1, 2]).fingerprint != train.take([1, 0, 2]).fingerprint
    other = Examples(train.inputs, as_rows([row * 0 for row in train.labels]), train.keys)
    assert other.fingerprint != train.fingerprint
    assert train.texts[0] == "fly to New York"


def test_a_file_is_split_by_content(tmp_path: Path) -> None:
    rows = [{"tokens": [f"w{i}", "in", "Rome"], "tags": ["O", "O", "B-city"]} for i in range(40)]
    splits = read(write(tmp_path, rows))[1]
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (32, 4, 4)
    assert all(len(row) == 3 for row in splits.test.labels)


def test_numbers_with_names_and_columns_of_other_names(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    names = ["B-city", "O", "I-city", "B-by"]
    features = Features({"words": Sequence(Value("string")), "slots": Sequence(ClassLabel(names=names))})
    rows = {"words": [[f"fly{i}", "to", "Rome"] for i in range(20)], "slots": [[1, 1, 0], [1, 1, 3]] * 10}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    task, splits = read(tmp_path, text="words", label="slots")
    assert task == "token-classification"
    assert splits.label_names == ("O", "B-city", "I-city", "B-by", "I-by")
    assert {tuple(row.tolist()) for row in splits.train.labels} == {(0, 0, 1), (0, 0, 3)}


def test_a_text_and_its_label_go_before_words_and_tags(tmp_path: Path) -> None:
    rows = [
        {"text": f"t{i} a", "label": "xy"[i % 2], "tokens": [f"t{i}", "a"], "tags": ["B-x", "O"]} for i in range(40)
    ]
    assert read(write(tmp_path, rows))[0] == "text-classification"
    assert read(tmp_path, label="tags")[0] == "token-classification"
    assert read(tmp_path, task="token-classification")[1].label_names == ("O", "B-x", "I-x")


BAD: list[tuple[dict[str, Any], type[UnderstudyError], str]] = [
    ({"tokens": ["a", "b"], "tags": ["O"]}, DataError, r'row 2: 2 words in column "tokens" and 1 tags'),
    ({"tokens": ["a"], "tags": ["city"]}, LabelError, r"row 2, word 1: the tag 'city' is neither O nor B- or I-"),
    ({"tokens": ["a"], "tags": ["S-city"]}, LabelError, "neither O nor B- or I-"),
    ({"tokens": ["a", None], "tags": ["O", "O"]}, DataError, r'row 2: column "tokens": word 2 is nothing'),
    ({"tokens": ["", "a"], "tags": ["O", "O"]}, DataError, "word 1 is an empty text"),
    ({"tokens": [], "tags": []}, DataError, "row 2: .* holds a sentence without a word"),
    ({"tokens": None, "tags": ["O"]}, DataError, "holds nothing, wanted a list of words"),
]


@pytest.mark.parametrize(("row", "error", "said"), BAD, ids=[said[:24] for _, _, said in BAD])
def test_what_cannot_be_read_is_said_in_one_line(
    row: dict[str, Any], error: type[UnderstudyError], said: str, tmp_path: Path
) -> None:
    write(tmp_path, [GOOD[0], row])
    with pytest.raises(error, match=said) as caught:
        read(tmp_path, task="token-classification")
    assert "\n" not in str(caught.value)
    assert "train.jsonl" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_tag_that_training_does_not_have(folder: Path) -> None:
    write(folder, [{"tokens": ["a", "b"], "tags": ["O", "I-by"]}], "test")
    with pytest.raises(LabelError, match=r'test.jsonl, row 1: no training row has the tag "I-by"'):
        read(folder)


def test_nothing_but_o_is_nothing_to_learn(tmp_path: Path) -> None:
    write(tmp_path, [{"tokens": ["a"], "tags": ["O"]}])
    with pytest.raises(LabelError, match=r"no word of train.jsonl has a tag other than O"):
        read(tmp_path)


def test_views_of_words_are_words() -> None:
    words = [["please", "fly", "to", "New York", "now"], ["yes"]]
    rows = Examples.of({"tokens": words}, as_rows([np.zeros(5, np.int64), np.zeros(1, np.int64)]))
    made = augment(rows, ["drop_words", "swap_words", "replace_words"], views=3, seed=0, neighbours={"fly": ["go"]})
    assert len(made.examples)
    assert all(isinstance(row, list) for row in made.examples.inputs["tokens"])
    assert set(functools.reduce(operator.iadd, made.examples.inputs["tokens"], [])) <= {*words[0], "go"}
    assert not made.examples.known.any()
    filled = augment(
        rows, ["masked_words"], views=1, seed=0, fill=lambda asked: [[["x"]] * (len(p) - 1) for p in asked]
    )
    assert all("x" in row for row in filled.examples.inputs["tokens"])


@pytest.mark.parametrize("names", [["drop_words"], ["swap_words"], ["replace_words"], ["replace_words", "drop_words"]])
def test_tags_follow_the_words_of_a_view(names: list[str]) -> None:
    """Words that say their own tag: wherever one stands afterwards its entity's type stands, and where none does, O."""
    random = np.random.default_rng(0)
    sentences, labels = [], []
    for row in range(40):
        kinds = random.integers(0, 3, size=int(random.integers(2, 12)))
        sentences.append([f"{'abc'[kind]}{row}.{place}" for place, kind in enumerate(kinds)])
        tags = np.where(kinds == 0, 0, 2 * kinds - 1)
        tags[1:] += (tags[1:] > 0) & (kinds[1:] == kinds[:-1])
        labels.append(tags)
    rows = Examples.of({"tokens": sentences}, as_rows(labels))
    near = {word: [word[0] + "-other"] for words in sentences for word in words}
    made = augment(rows, names, views=3, seed=0, neighbours=near, labelled=True).examples
    assert len(made) > 60
    for words, tags in zip(made.inputs["tokens"], made.labels, strict=True):
        assert len(words) == len(tags)
        assert [0 if tag == 0 else (tag + 1) // 2 for tag in tags] == ["abc".index(word[0]) for word in words]
        for place, tag in enumerate(tags):
            goes_on = tag > 0 and tag % 2 == 0
            assert not goes_on or (place > 0 and (tags[place - 1] + 1) // 2 == tag // 2)
    plain = augment(rows, names, views=3, seed=0, neighbours=near)
    assert plain.examples.inputs == made.inputs
    assert not plain.examples.known.any()
