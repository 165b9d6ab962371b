"""Encoders of given words: where each word stands, what is left out, and the same ids after saving."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.encoding import AffixEncoder, RowError, TokenEncoder, load_encoder
from understudy.encoding.affixes import shape
from understudy.errors import UsageError

SENTENCES = [["please", "tell", "me", "zzz", "weather"], ["Rain", "é\u0301", "!"], ["\u200b"], ["refund"]]


@pytest.fixture
def subwords(tiny_tokenizer: Any) -> TokenEncoder:
    return TokenEncoder(tiny_tokenizer.backend_tokenizer, limit=32)


def affixes(**more: Any) -> AffixEncoder:
    return AffixEncoder.fit(SENTENCES, **{"most": 5, "buckets": 64, "limit": 8} | more)


def test_each_word_stands_where_its_first_piece_does(subwords: TokenEncoder, tiny_tokenizer: Any) -> None:
    found = subwords.encode({"tokens": SENTENCES})
    inputs = subwords.collate(found, [0, 1, 2, 3])
    places = subwords.places(found, [0, 1, 2, 3])
    assert places.shape == (4, 5)
    for row, words in enumerate(SENTENCES):
        theirs = tiny_tokenizer(words, is_split_into_words=True)
        first: dict[int, int] = {}
        for place, word in enumerate(theirs.word_ids()):
            if word is not None:
                first.setdefault(word, place)
        if len(first) == len(words):  # theirs leaves out a word of which nothing is made
            assert inputs["input_ids"][row][inputs["attention_mask"][row] > 0].tolist() == theirs["input_ids"]
            start = row * inputs["input_ids"].shape[1]
            assert places[row].tolist() == [start + place for place in first.values()] + [-1] * (5 - len(words))
    assert subwords.answered(found).tolist() == [5, 3, 1, 1]
    unknown = tiny_tokenizer.unk_token_id
    assert inputs["input_ids"][2, 1] == unknown  # a word of nothing is a word all the same


def test_words_beyond_the_limit_are_not_answered(tiny_tokenizer: Any) -> None:
    encoder = TokenEncoder(tiny_tokenizer.backend_tokenizer, limit=5)
    found = encoder.encode({"tokens": [["me", "me", "me"], ["me"] * 4, ["me", "zzzz"]]})
    assert encoder.answered(found).tolist() == [3, 3, 2]
    assert found.cut.tolist() == [False, True, True]
    assert encoder.lengths(found).tolist() == [5, 5, 5]
    own = affixes(limit=2)
    rows = own.encode({"tokens": [["a"], ["a", "b", "c"]]})
    assert own.answered(rows).tolist() == [1, 2]
    assert rows.cut.tolist() == [False, True]
    with pytest.raises(UsageError, match="no room for words"):
        TokenEncoder(tiny_tokenizer.backend_tokenizer, limit=2)


def test_bytes_stand_behind_a_space() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(sorted(letters))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder = TokenEncoder(tokenizer, limit=16)
    found = encoder.encode({"tokens": [["ab", "c"]]})
    space = tokenizer.token_to_id("\u0120")
    assert found.ids.values[found.starts.values].tolist() == [space, space]
    assert found.starts.values.tolist() == [0, 3]


@pytest.mark.parametrize("kind", ["tokens", "affixes"])
def test_saved_encoders_give_the_same_ids(kind: str, subwords: TokenEncoder, tmp_path: Path) -> None:
    encoder: Any = subwords if kind == "tokens" else affixes()
    again: Any = load_encoder(tmp_path, encoder.save(tmp_path))
    assert again.fingerprint == encoder.fingerprint
    draw = random.Random(0)
    letters = "abcXYZ019.-'é\u0301ßİ\u200b \U0001f600"
    some = [
        ["".join(draw.choices(letters, k=draw.randint(1, 9))) for _ in range(draw.randint(1, 9))] for _ in range(200)
    ]
    first, second = encoder.encode({"tokens": some}), again.encode({"tokens": some})
    for name, value in encoder.collate(first, range(200)).items():
        np.testing.assert_array_equal(value, again.collate(second, range(200))[name])
    one = again.encode({"tokens": some[7:8]})  # alone as among others
    key = "input_ids" if kind == "tokens" else "part_ids"
    alone, among = again.collate(one, [0])[key][0], encoder.collate(first, [7])[key][0]
    np.testing.assert_array_equal(alone, among)


def test_an_unknown_word_is_known_by_its_parts() -> None:
    encoder = affixes(most=50)
    known, near, far = (encoder.ids_of(word) for word in ("weather", "leather", "qqqqq"))
    assert known[0] < encoder.size - encoder.buckets <= min(near[0], far[0])
    assert known[2:] == near[2:]  # ends and shape
    assert max(*known, *near, *far) < encoder.size
    assert shape("McDonald's-42") == "XxXx'x-d"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("text", "wanted a list of words, got a str"),
        ([], "without a word"),
        ([1], "word 1 is a int"),
        ([""], "empty text"),
    ],
)
def test_rows_that_are_no_sentences(row: Any, said: str, subwords: TokenEncoder) -> None:
    for encoder in (subwords, affixes()):
        with pytest.raises(RowError, match=said) as caught:
            encoder.encode({"tokens": [["fine"], row]})
        assert caught.value.row == 1
