"""Answers as spans of words: where words stand, SQuAD's rules by hand, the best span, and windows over long texts."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from understudy.answers import SPAN
from understudy.encoding import PassageEncoder, RowError, load_encoder
from understudy.encoding.passages import window_of, window_starts
from understudy.errors import UsageError
from understudy.passages import (
    NEVER,
    Gold,
    best_spans,
    ends_of,
    graded,
    no_answer_above,
    plain,
    shares,
    sureness,
    text_of,
    word_places,
)  # fmt: skip
from understudy.ragged import NOTHING, NOWHERE, Ragged, as_rows, at_places
from understudy.statistics import METRICS
from understudy.students import of_words

QUESTIONS = ["can you tell me?", "what now", "when is the refund?", "is it?"]
TEXTS = [
    "please tell me about the refund, now. " * 6,
    "The card's 50 % off!",
    "e\u0301 \u200b - \u4e2d\u6587 \U0001f600 x",
    "my flight is today",
]
INPUTS = {"question": QUESTIONS, "context": TEXTS}


def encoder(tokenizer: Any, **more: Any) -> PassageEncoder:
    return PassageEncoder(tokenizer.backend_tokenizer, **{"limit": 24, "token_types": True} | more)


def test_words_are_in_order_and_leave_out_white_space_alone() -> None:
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(chr(draw.randrange(sys.maxunicode + 1)) for _ in range(draw.randint(0, 12)))
        text += draw.choice(("", " a", "\n", "don't", "5,000"))
        places = word_places(text)
        assert (places[:, 0] < places[:, 1]).all()
        assert (places[1:, 0] >= places[:-1, 1]).all()
        inside = {letter for begin, stop in places.tolist() for letter in range(begin, stop)}
        assert all((i in inside) != one.isspace() for i, one in enumerate(text))


def test_an_answer_is_every_word_that_it_touches() -> None:
    context = "In 1990-91, Ann Lee's team (the Reds) won."
    for text, words in (
        ("1990", (2, 2)),
        ("1990-91", (2, 4)),
        ("nn Le", (6, 7)),
        ("the Reds", (12, 13)),
        ("(", (11, 11)),
    ):
        gold = Gold.of(context, [text], [context.index(text)])
        assert gold.target == words
        assert text in gold.said(*words)
    assert Gold.of(context, [], []).target == (0, 0)
    assert Gold.of(context, ["Ann", "Ann Lee", "Ann Lee"], [12, 12, 12]).target == (6, 7)
    assert ends_of(as_rows([None, Gold.of(context, ["won"], [38])])).tolist() == [[-1, -1], [15, 15]]
    assert text_of(context, 0, 0) == ""


# what SQuAD's own scripts say, worked out by hand from their rules
GRADED = [
    (("Denver Broncos",), "Denver Broncos", 1, 1.0),
    (("Denver Broncos",), "the Denver  Broncos.", 1, 1.0),  # articles, marks, case and blanks do not count
    (("Denver Broncos",), "Broncos", 0, 2 * 1 * 0.5 / 1.5),
    (("Denver Broncos", "Broncos"), "broncos", 1, 1.0),  # the best over the answers
    (("in the late 1990s",), "late 1990s", 0, 2 * 1 * (2 / 3) / (1 + 2 / 3)),
    (("U.S. Army",), "US army", 1, 1.0),  # marks go without a blank in their place
    (("well-known",), "well known", 0, 0.0),
    (("to be or not to be",), "to be to", 0, 2 * 1 * 0.5 / 1.5),  # words count as often as they occur
    (("a",), "", 1, 1.0),  # of which nothing is left
    (("the", "Rome"), "", 0, 0.0),  # such answers do not count beside others
    ((), "", 1, 1.0),  # no answer, and none said
    ((), "Rome", 0, 0.0),
    (("Rome",), "", 0, 0.0),
    (("Rome",), "Paris", 0, 0.0),
    (("\u00c9cole",), "\u00e9cole", 1, 1.0),
    (("\u201cRome\u201d",), "Rome", 0, 0.0),  # only the marks of ASCII are marks there
    (("theatre", "another an"), "atheatre", 0, 0.0),  # articles are whole words
]


@pytest.mark.parametrize(("texts", "said", "exact", "f1"), GRADED)
def test_grades_are_squads(texts: tuple[str, ...], said: str, exact: int, f1: float) -> None:
    assert graded(texts, said) == (exact, pytest.approx(f1))


def by_another_way(texts: tuple[str, ...], said: str) -> tuple[float, float]:
    """SQuAD's rules without a counter: letters one by one, and words crossed off a list."""

    def words(text: str) -> list[str]:
        kept = "".join(letter for letter in text.lower() if letter not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
        return [word for word in kept.split() if word not in ("a", "an", "the")]

    wanted = [words(text) for text in texts if words(text)] or [[]]
    ours, best = words(said), 0.0
    for gold in wanted:
        left, hits = list(gold), 0
        for word in ours:
            if word in left:
                left.remove(word)
                hits += 1
        precision, recall = hits / max(len(ours), 1), hits / max(len(gold), 1)
        f1 = 2 * precision * recall / (precision + recall) if hits else float(gold == ours)
        best = max(best, f1)
    return float(ours in wanted), best


def test_grades_are_those_of_another_way_to_count() -> None:
    draw = random.Random(5)
    pieces = ["the", "The", "a", "an", "Rome", "rome,", "(rome", "5,000", "U.S.", "-", "'s", "army", "An army", " \t"]

    def text() -> str:
        return " ".join(draw.choices(pieces, k=draw.randint(0, 5)))

    for _ in range(2000):
        texts, said = tuple(text() for _ in range(draw.randint(0, 3))), text()
        assert graded(texts, said) == pytest.approx(by_another_way(texts, said))


REAL = Path(__file__).parents[1].parent / "shared" / "data" / "squadshifts" / "validation.parquet"


@pytest.mark.skipif(not REAL.is_file(), reason=f"needs real questions, in {REAL.parent.name} beside the repository")
def test_words_lose_next_to_nothing_of_real_answers() -> None:
    from understudy.data.answered import read_answers
    from understudy.data.tables import read_file

    labels = read_answers(read_file(REAL), "answers", "context")
    said = np.array([one.target for one in labels])
    assert METRICS["span_em"].function(labels, said) > 0.99
    assert METRICS["span_f1"].function(labels, said) > 0.995


def test_plain_texts_by_hand() -> None:
    assert plain("An  apple, a day!\tThe end") == "apple day end"
    assert plain("A.B. the-ory") == "ab theory"


def test_metrics_are_means_over_questions() -> None:
    labels = as_rows([Gold.of("a b c d", ["b c"], [2]), Gold.of("x y", [], []), Gold.of("x y", ["y"], [2])])
    said = np.array([[2, 2], [0, 0], [1, 1]])
    assert METRICS["span_em"].function(labels, said) == pytest.approx(1 / 3)
    assert METRICS["span_f1"].function(labels, said) == pytest.approx((2 / 3 + 1 + 0) / 3)


def brute(row: np.ndarray, most: int) -> tuple[int, int]:
    best, found = row[0].sum(), (0, 0)
    spans = [(row[i, 0] + row[j, 1], i, j) for i in range(1, len(row)) for j in range(i, min(len(row), i + most))]
    for score, i, j in sorted(spans, key=lambda one: (-one[0], one[1], one[2])):
        if score >= best:
            return i, j
        break
    return found


@pytest.mark.parametrize("most", [1, 3, 30])
def test_the_best_span_is_the_best_of_all(most: int) -> None:
    random = np.random.default_rng(most)
    rows = [random.integers(-3, 4, (n, 2)).astype(np.float32) for n in (2, 1, 9, 40, 5, 2, 60)]
    found = best_spans(Ragged.of(rows), most)
    assert [tuple(one) for one in found.tolist()] == [brute(row, most) for row in rows]
    assert best_spans(Ragged.of([], np.zeros((0, 2)))).shape == (0, 2)


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_of_no_answer_is_the_best_of_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    context = "one two three four"
    golds = [Gold.of(context, *([[], []] if random.random() < 0.4 else [["two"], [4]])) for _ in range(30)]
    rows = [random.integers(-3, 4, (5, 2)).astype(np.float32) for _ in range(30)]
    logits = Ragged.of(rows)

    def f1(above: float) -> float:
        spans = best_spans(logits, above=above).tolist()
        return float(np.mean([gold.scores(*span)[1] for gold, span in zip(golds, spans, strict=True)]))

    found = no_answer_above(logits, as_rows(golds))
    assert found is not None
    assert f1(found) == pytest.approx(max(f1(above) for above in np.arange(-15, 15, 0.5)))
    assert f1(found) > f1(0.0) or found == 0.0
    assert METRICS["span_f1"].function(as_rows(golds), SPAN.predicted(logits, [found])) == pytest.approx(f1(found))


def test_nobody_asks_for_a_threshold_where_all_have_answers_or_none_is_ever_said() -> None:
    row, told = np.zeros((2, 2), np.float32), Gold.of("one", ["one"], [0])
    assert no_answer_above(Ragged.of([row]), as_rows([told])) is None
    bare = as_rows([told, Gold.of("one", [], [])])
    assert no_answer_above(Ragged.of([row, row]), bare) is not None
    row[0] = NEVER
    assert no_answer_above(Ragged.of([row, row]), bare) is None
    assert best_spans(Ragged.of([row])).tolist() == [[1, 1]]


def test_shares_of_a_row_are_one_and_a_span_is_as_sure_as_both_ends() -> None:
    random = np.random.default_rng(0)
    rows = Ragged.of([random.normal(size=(n, 2)) for n in (3, 7)])
    likely = shares(rows, 2.0)
    for row in range(2):
        wanted = np.exp(rows[row] / 2)
        np.testing.assert_allclose(likely[row], wanted / wanted.sum(0))
    spans = best_spans(rows)
    wanted = [likely[i][a, 0] * likely[i][b, 1] for i, (a, b) in enumerate(spans.tolist())]
    np.testing.assert_allclose(sureness(likely, spans), wanted)


@pytest.mark.parametrize("overlap", [0, 1, 4, 9])
def test_windows_cover_a_text_and_every_place_has_one(overlap: int) -> None:
    for count in range(1, 60):
        for room in (10, 20):
            starts = window_starts(count, room, min(overlap, room // 2))
            assert starts[0] == 0
            assert starts[-1] == max(0, count - room)
            assert (np.diff(starts) > 0).all()
            chosen = window_of(starts, count, room)
            inside = np.arange(count) - starts[chosen]
            assert ((inside >= 0) & (inside < room)).all()
            left = np.where(starts[chosen] > 0, inside, count)
            right = np.where(starts[chosen] + room < count, room - 1 - inside, count)
            if len(starts) > 1 and overlap:  # half of what is shared is behind a word, wherever it stands
                assert np.minimum(left, right).min() >= (min(overlap, room // 2) - 1) // 2


def test_a_text_that_fits_is_read_as_the_tokenizer_pairs_it(tiny_tokenizer: Any) -> None:
    mine = encoder(tiny_tokenizer, limit=256)
    features = mine.encode(INPUTS)
    assert np.diff(features.windows).tolist() == [1, 1, 1, 1]
    inputs = mine.collate(features, range(4))
    for row in range(4):
        theirs = tiny_tokenizer(QUESTIONS[row], TEXTS[row], return_token_type_ids=True)
        real = inputs["attention_mask"][row] > 0
        assert inputs["input_ids"][row][real].tolist() == theirs["input_ids"]
        assert inputs["token_type_ids"][row][real].tolist() == theirs["token_type_ids"]


def test_every_word_has_one_start_and_one_end_at_its_own_pieces(tiny_tokenizer: Any) -> None:
    mine = encoder(tiny_tokenizer)
    features = mine.encode(INPUTS)
    rows = [2, 0, 3, 1]
    inputs = mine.collate(features, rows)
    owners = mine.owners(features, rows)
    assert len(owners) == len(inputs["input_ids"]) > 4
    places = mine.places(features, rows)
    flat, length = inputs["input_ids"].ravel(), inputs["input_ids"].shape[1]
    for i, row in enumerate(rows):
        words = word_places(TEXTS[row])
        there = places[i, 0] != NOWHERE
        assert there.sum() == 1 + len(words) == mine.answered(features)[row]
        assert (there == (places[i, 1] != NOWHERE)).all()
        assert (owners[places[i][:, there] // length] == i).all()
        assert (inputs["attention_mask"].ravel()[places[i][:, there]] == 1).all()
        assert flat[places[i, :, 0]].tolist() == [tiny_tokenizer.cls_token_id] * 2
        for number, (begin, stop) in enumerate(words.tolist(), start=1):
            pieces = tiny_tokenizer(TEXTS[row][begin:stop], add_special_tokens=False)["input_ids"]
            if pieces:
                assert flat[places[i, 0, number]] == pieces[0]
                assert flat[places[i, 1, number]] == pieces[-1]


def test_the_same_windows_whatever_is_beside_them(tiny_tokenizer: Any) -> None:
    mine = encoder(tiny_tokenizer)
    features = mine.encode(INPUTS)
    for row in range(4):
        alone = mine.encode({name: [column[row]] for name, column in INPUTS.items()})
        one, together = mine.collate(alone, [0]), mine.collate(features, [row])
        assert all(np.array_equal(one[name], together[name]) for name in one)
        assert np.array_equal(mine.places(alone, [0]), mine.places(features, [row]))
        assert mine.lengths(alone)[0] == mine.lengths(features)[row] == one["attention_mask"].sum()


def test_any_text_can_be_read(tiny_tokenizer: Any) -> None:
    draw = random.Random(1)
    mine = encoder(tiny_tokenizer, limit=12)
    texts = ["".join(chr(draw.randrange(sys.maxunicode + 1)) for _ in range(draw.randint(0, 30))) for _ in range(150)]
    inputs = {"question": ["\ud800 what?"] * 150, "context": [f"{text} x" for text in texts]}
    features = mine.encode(inputs)
    places, shown = mine.places(features, range(150)), mine.collate(features, range(150))
    assert shown["input_ids"].shape[1] <= 12
    assert (places[places >= 0] < shown["input_ids"].size).all()
    assert mine.answered(features).tolist() == [1 + len(word_places(one)) for one in inputs["context"]]


def test_a_row_is_one_row_of_logits_in_torch_and_in_numpy(tiny_tokenizer: Any) -> None:
    for unanswerable in (True, False):
        mine = encoder(tiny_tokenizer, unanswerable=unanswerable)
        features = mine.encode(INPUTS)
        inputs, places = mine.collate(features, range(4)), mine.places(features, range(4))
        logits = np.random.default_rng(0).normal(size=(*inputs["input_ids"].shape, 2)).astype(np.float32)
        rows = at_places(logits, places, NEVER)
        wide = of_words({"logits": torch.from_numpy(logits)}, torch.from_numpy(places))["logits"].numpy()
        assert wide.shape == (4, 2, places.shape[2])
        assert rows.lengths.tolist() == mine.answered(features).tolist()
        for row in range(4):
            count = len(rows[row])
            assert np.array_equal(wide[row, :, :count].T, rows[row])
            assert (wide[row, :, count:] == -np.inf).all()
            assert (rows[row][0] == NEVER).all() != unanswerable
        assert (places[:, :, 0] == NOTHING).all() != unanswerable


def test_what_cannot_be_read_is_said(tiny_tokenizer: Any, tmp_path: Path) -> None:
    mine = encoder(tiny_tokenizer)
    for question, context, told in (("", "a", "no word"), ("what?", " \n", "no word"), ("what?", None, "nothing")):
        with pytest.raises(RowError, match=told):
            mine.encode({"question": [question], "context": [context]})
    with pytest.raises(UsageError, match="no room"):
        encoder(tiny_tokenizer, limit=4)
    with pytest.raises(UsageError, match="overlap"):
        encoder(tiny_tokenizer, overlap=-1)
    long = mine.encode({"question": ["me " * 40], "context": ["my flight is today"]})
    assert long.cut.tolist() == [True]
    again = load_encoder(tmp_path, mine.save(tmp_path))
    assert again.fingerprint == mine.fingerprint != encoder(tiny_tokenizer, unanswerable=False).fingerprint
    one, two = (each.collate(each.encode(INPUTS), range(4)) for each in (mine, again))
    assert all(np.array_equal(one[name], two[name]) for name in one)
