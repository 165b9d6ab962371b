"""What the filters take, and what they leave alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from understudy.generation.avoiding import Avoided, read_avoided
from understudy.generation.filters import Row, Rules, attrition, is_refusal
from understudy.generation.grams import grams, jaccard
from understudy.generation.minhash import first_like, signature

WORDS = [f"w{i}" for i in range(400)]


def test_each_row_counts_for_the_first_filter_that_takes_it() -> None:
    long = "the quick brown fox jumps over the lazy dog and then it sleeps for a very long while in the warm sun"
    rows = [
        Row("a", "good answer", "stop"),
        Row("a", "cut", "length"),
        Row("a", "", "length"),
        Row("a", " \n", "stop"),
        Row("a", "I cannot help with that.", "stop"),
        Row("a", "whatever", "content_filter"),
        Row("a", "ok", "stop"),
        Row("a", "x" * 200, "stop"),
        Row("where is it", "здесь и там", "stop"),
        Row("A!", "Good   ANSWER.", "stop"),
        Row("b", "good answer", "stop"),
        Row("tell me about foxes", long, "stop"),
        Row("tell me about foxes", f"{long} today", "stop"),
        Row("say something else about dogs", f"{long} today", "stop"),
        Row("what is the time in the capital city of france", "noon, I think", "stop"),
    ]
    avoided = Avoided(["So: what is the time in the capital city of France?", "good answer"])
    reasons, table = attrition(rows, Rules(min_chars=3, max_chars=150), avoided)
    assert reasons == [
        None, "truncated", "truncated", "empty", "refusal", "refusal", "length", "length", "script", "duplicate",
        None, None, "near duplicate", None, "overlap",
    ]  # fmt: skip
    assert [(one.filter, one.taken, one.left) for one in table] == [
        ("truncated", 2, 13), ("empty", 1, 12), ("refusal", 2, 10), ("length", 2, 8), ("script", 1, 7),
        ("duplicate", 1, 6), ("near duplicate", 1, 5), ("overlap", 1, 4),
    ]  # fmt: skip
    off, lines = attrition(rows, Rules(truncated=False, refusals=False, min_script=0, near=0, min_chars=0), None)
    assert [one.filter for one in lines if one.rule.startswith("off: ")] == [
        "truncated", "refusal", "script", "near duplicate", "overlap",
    ]  # fmt: skip
    assert [place for place, reason in enumerate(off) if reason is not None] == [2, 3, 9]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.", "Sorry, I cannot help you.", "I’m really sorry, I can't.",
        "As an AI language model, I have no opinions.", "Unfortunately, I am unable to do so.", "I must decline.",
        '"I apologize, but I cannot provide that."',
    ],
)  # fmt: skip
def test_refusals(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can't believe it rained again.", "I am sorry for your loss.", "He said: I cannot help with that.",
        "The AI is able to decline.", "I will not be late.", "",
    ],
)  # fmt: skip
def test_no_refusals(text: str) -> None:
    assert not is_refusal(text)


def test_minhash_estimates_jaccard_and_finds_what_comparing_all_pairs_finds() -> None:
    draw = random.Random(0)
    texts: list[str] = []
    for _ in range(60):
        base = draw.choices(WORDS, k=60)
        texts.append(" ".join(base))
        for changed in (1, 3, 8):
            other = list(base)
            for place in draw.sample(range(60), changed):
                other[place] = draw.choice(WORDS)
            texts.append(" ".join(other))
    sets = [grams(text, 3) for text in texts]
    signs = [signature(one) for one in sets[:80]]
    errors = [
        abs((signs[i] == signs[j]).mean() - jaccard(sets[i], sets[j])) for i in range(80) for j in range(i // 4 * 4, i)
    ]
    assert max(errors) < 0.2  # standard error at most 0.5 / sqrt(128) = 0.044
    assert sum(errors) / len(errors) < 0.05

    def alike(one: int, other: int) -> bool:
        return jaccard(sets[one], sets[other]) >= 0.8

    expected: list[int | None] = []
    for row in range(len(sets)):
        kept = [other for other, like in enumerate(expected) if like is None]
        expected.append(next((other for other in kept if alike(other, row)), None))
    assert first_like(sets, alike) == expected
    assert 60 <= sum(like is not None for like in expected) <= 120


def test_evaluation_data_is_read_from_every_text(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"messages": [{"role": "user", "content": "How tall is it?"}], "n": 3}\n')
    (tmp_path / "validation.csv").write_text("text,label\nno one knows how very tall that old tower really is,tall\n")
    (tmp_path / "train.csv").write_text("text,label\nsome training text,tall\n")
    avoided = read_avoided(tmp_path)
    assert avoided.sources == ("validation.csv", "test.jsonl")
    assert avoided.meets(Row("how tall is IT", "", "stop"))
    assert avoided.meets(Row("x", "They say no one knows how very tall that old tree is", "stop"))
    assert not avoided.meets(Row("some training text", "tall", "stop"))
