"""Views of texts: never empty, of the text's own words, in any script; near words by cosine."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.data.text_views import drop_words, masked_words, nearest_words, replace_words, swap_words
from understudy.errors import UsageError

SPACES = [" ", "\n", "\t", "  ", " \r\n ", "\u00a0", "\u3000", "\x1f", "\u2028"]
WORDS = st.text(st.characters(exclude_categories=()), max_size=6)  # every code point there is, lone surrogates too
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.lists(st.tuples(WORDS, st.sampled_from(SPACES)), max_size=12).map(lambda parts: "".join(map("".join, parts))),
)
SEEDS = st.integers(0, 2**32)
SHARES = st.floats(0.01, 1)


def expected(words: int, share: float) -> int:
    """How many words a view touches: the docstring's formula."""
    return max(1, round(share * words)) if words else 0


def gaps(text: str) -> list[str]:
    return re.split(r"\S+", text)


def is_subsequence(part: Sequence[str], whole: Sequence[str]) -> bool:
    rest = iter(whole)
    return all(word in rest for word in part)


def test_white_space_is_the_same_for_regular_expressions_and_strings() -> None:
    """The views split by ``\\S+``, everybody else by ``str.split``."""
    disagree = [c for c in range(sys.maxunicode + 1) if bool(re.match(r"\s", chr(c))) != chr(c).isspace()]
    assert disagree == []


@given(TEXTS, SEEDS, SHARES)
@settings(max_examples=300, deadline=None)
def test_dropping_leaves_a_subsequence(text: str, seed: int, share: float) -> None:
    view = drop_words(text, np.random.default_rng(seed), share)
    words, left = text.split(), view.split()
    assert is_subsequence(left, words)
    assert len(left) == max(min(1, len(words)), len(words) - expected(len(words), share))
    assert view == drop_words(text, np.random.default_rng(seed), share)
    if len(words) <= 1:
        assert view == text
    assert (gaps(view)[0], gaps(view)[-1]) == (gaps(text)[0], gaps(text)[-1])


@given(TEXTS, SEEDS, SHARES)
@settings(max_examples=300, deadline=None)
def test_swapping_moves_each_word_by_at_most_one_place(text: str, seed: int, share: float) -> None:
    view = swap_words(text, np.random.default_rng(seed), share)
    before, after = text.split(), view.split()
    assert Counter(before) == Counter(after)
    assert gaps(view) == gaps(text)
    assert view == swap_words(text, np.random.default_rng(seed), share)
    assert all(word in before[max(0, i - 1) : i + 2] for i, word in enumerate(after))
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 2 * expected(len(before), share)
    if len(set(before)) == len(before) > 1:
        assert view != text


@given(TEXTS, SEEDS, SHARES, st.dictionaries(WORDS, st.lists(st.sampled_from(["", "near", "ähnlich", "近"]))))
@settings(max_examples=300, deadline=None)
def test_replacing_changes_no_more_words_than_it_may(
    text: str, seed: int, share: float, more: dict[str, list[str]]
) -> None:
    words = text.split()
    neighbours = {word: ["near", "ähnlich"] for word in words[::2]} | more
    view = replace_words(text, np.random.default_rng(seed), neighbours, share)
    assert len(view.split()) == len(words)
    assert gaps(view) == gaps(text)
    assert sum(a != b for a, b in zip(words, view.split(), strict=True)) <= expected(len(words), share)
    assert view == replace_words(text, np.random.default_rng(seed), neighbours, share)


@given(TEXTS, SEEDS, SHARES)
@settings(max_examples=300, deadline=None)
def test_what_is_asked_about_is_the_text_with_holes(text: str, seed: int, share: float) -> None:
    asked: list[tuple[str, ...]] = []

    def fill(texts: Sequence[tuple[str, ...]]) -> list[list[list[str]]]:
        asked.extend(texts)
        return [[["hole"] for _ in pieces[1:]] for pieces in texts]

    (view,) = masked_words([text], [np.random.default_rng(seed)], fill, share)
    spoken = sum(any(map(str.isalnum, word)) for word in text.split())
    holes = min(spoken, expected(len(text.split()), share))
    assert [len(pieces) - 1 for pieces in asked] == ([holes] if holes else [])
    assert len(view.split()) == len(text.split())
    if asked:  # what stands around the holes is the text's own, and so is nothing else
        pattern = r"\S+?".join(map(re.escape, asked[0]))
        assert re.fullmatch(pattern, text)
        assert re.fullmatch(pattern, view)
    else:
        assert view == text


@pytest.mark.parametrize("view", [drop_words, swap_words])
@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(view: object, share: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        view("a b", np.random.default_rng(0), share)  # type: ignore[operator]


def test_a_share_of_nothing_is_no_view() -> None:
    text, random = "one  two three", np.random.default_rng(0)
    assert drop_words(text, random, 0) == swap_words(text, random, 0) == text
    assert replace_words(text, random, {"one": ["two"]}, 0) == text
    assert masked_words([text], [random], lambda asked: pytest.fail("asked"), 0) == [text]


def test_every_word_is_as_likely_to_go() -> None:
    """4,000 draws of one word out of five: 800 each, standard deviation 25."""
    text = "a b c d e"
    gone: Counter[str] = Counter()
    for seed in range(4000):
        gone.update(set(text.split()) - set(drop_words(text, np.random.default_rng(seed)).split()))
    assert gone.total() == 4000
    assert all(700 < gone[word] < 900 for word in text.split())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("card", "account"),
        ("Card?", "Account?"),
        ("(CARD)!", "(ACCOUNT)!"),
        ("c++", "rust"),  # as it stands before it is bared
        ("हिन्दी।", "उर्दू।"),  # a combining mark is part of its word, a danda is punctuation
        ("I", "You"),
        ("?", "?"),  # punctuation has no neighbours, whatever the mapping says
        ("lonely", "lonely"),
        ("Paris", "London"),  # as written before lower case
    ],
)
def test_words_are_looked_up_with_and_without_what_is_around_them(text: str, wanted: str) -> None:
    neighbours = {
        "card": ["account"], "c++": ["rust"], "c": ["d"], "हिन्दी": ["उर्दू"], "i": ["you"], "?": ["!"],
        "lonely": ["lonely", ""], "Paris": ["London"], "paris": ["hilton"],
    }  # fmt: skip
    assert replace_words(text, np.random.default_rng(0), neighbours, 1.0) == wanted


def test_texts_are_asked_about_together_and_drawn_for_apart() -> None:
    calls: list[int] = []

    def fill(asked: Sequence[tuple[str, ...]]) -> list[list[list[str]]]:
        calls.append(len(asked))
        return [[["one", "two", "three", "four"] for _ in pieces[1:]] for pieces in asked]

    texts = [f"w{i} x{i}, y{i} z{i}" for i in range(30)] + ["", "..."]
    together = masked_words(texts, [np.random.default_rng(i) for i in range(32)], fill, 0.5)
    assert calls == [30]  # texts without a word to mask are not asked about
    for i in (31, 4, 17):
        assert masked_words([texts[i]], [np.random.default_rng(i)], fill, 0.5) == [together[i]]
    assert together[30:] == ["", "..."]
    assert {"one", "two", "three", "four"} < {word for view in together for word in view.replace(",", "").split()}


def test_the_word_that_was_there_is_no_answer() -> None:
    for seed in range(10):
        random = np.random.default_rng(seed)
        assert masked_words(["Where?"], [random], lambda asked: [[["where", "when"]]]) == ["When?"]
        assert masked_words(["Where?"], [random], lambda asked: [[["where", ""]]]) == ["Where?"]
        assert masked_words(["Where?"], [random], lambda asked: [[[]]]) == ["Where?"]


def test_the_model_sees_the_punctuation_of_the_word_that_it_fills() -> None:
    asked: list[tuple[str, ...]] = []

    def fill(texts: Sequence[tuple[str, ...]]) -> list[list[list[str]]]:
        asked.extend(texts)
        return [[["x"]] * (len(pieces) - 1) for pieces in texts]

    random = np.random.default_rng(0)
    assert masked_words(["  (Card)!  my\ncard? -- "], [random], fill, 1.0) == ["  (X)!  x\nx? -- "]
    assert asked == [("  (", ")!  ", "\n", "? -- ")]


@pytest.mark.parametrize("answer", [[], [[]], [[["a"], ["b"]]], [[["a"]], [["b"]]]])
def test_an_answer_for_every_hole(answer: list[list[list[str]]]) -> None:
    with pytest.raises(UsageError, match="a list of words for every hole; 1 texts with 1 holes got"):
        masked_words(["word"], [np.random.default_rng(0)], lambda asked: answer)


def test_nearest_words_are_those_of_a_plain_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against fp64 cosines of every pair, sorted, over several blocks."""
    monkeypatch.setattr("understudy.data.text_views._ROWS", 64)
    random = np.random.default_rng(0)
    vectors = random.normal(size=(203, 7)) * random.uniform(0.1, 50, size=(203, 1))
    words = [f"w{i}" for i in range(203)]
    found = nearest_words(words, vectors.astype(np.float32), k=4)
    assert list(found) == words
    for i, word in enumerate(words):
        cosines = [float(a @ vectors[i] / np.linalg.norm(a) / np.linalg.norm(vectors[i])) for a in vectors]
        order = sorted((j for j in range(203) if j != i), key=lambda j: -cosines[j])
        assert found[word] == tuple(words[j] for j in order[:4])


def test_of_equally_near_words_the_earlier_ones() -> None:
    axes = np.array([[0.0, 0.0, 2.0], [1, 0, 0], [0, 3, 0], [1, 0, 0], [4, 0, 0], [0, 0, 0]])
    found = nearest_words(["z", "a", "y", "b", "c", "nothing"], axes, k=3)
    assert found == {
        "z": ("a", "y", "b"),
        "a": ("b", "c", "z"),
        "y": ("z", "a", "b"),
        "b": ("a", "c", "z"),
        "c": ("a", "b", "z"),
    }  # "nothing" has no direction


def test_fewer_words_than_neighbours_and_bad_vectors() -> None:
    assert nearest_words(["a", "b"], np.eye(2), k=9) == {"a": ("b",), "b": ("a",)}
    assert nearest_words(["a"], np.eye(1)) == {"a": ()}
    assert nearest_words([], np.zeros((0, 3))) == {}
    for vectors, k in ((np.eye(3), 5), (np.ones(2), 5), (np.array([[1.0], [np.nan]]), 5), (np.eye(2), 0)):
        with pytest.raises(UsageError, match="one finite vector per word"):
            nearest_words(["a", "b"], vectors, k=k)
