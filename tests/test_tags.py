"""Ragged rows, and what tags spell: the rules of conlleval, on examples worked out by hand."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from understudy.answers import TAGS, agree, blank, known
from understudy.errors import DataError
from understudy.ragged import Ragged, as_rows, at_places, in_order
from understudy.statistics import METRICS, difference, interval
from understudy.tags import named, spans, type_of, types_of

NAMES = named(["a", "b"])  # O B-a I-a B-b I-b


def numbers(*tags: str) -> np.ndarray[Any, Any]:
    return np.array([NAMES.index(tag) for tag in tags], np.int64)


def rows(*sentences: str) -> np.ndarray[Any, Any]:
    return as_rows([numbers(*sentence.split()) for sentence in sentences])


GOLDEN = {
    "B-a I-a O": [(0, 2, "a")],
    "I-a I-a O": [(0, 2, "a")],  # an I without a B begins one
    "O I-b": [(1, 2, "b")],
    "B-a B-a": [(0, 1, "a"), (1, 2, "a")],  # a B behind the same type begins a new one
    "I-a B-a I-a": [(0, 1, "a"), (1, 3, "a")],
    "B-a I-b I-b": [(0, 1, "a"), (1, 3, "b")],  # another type splits
    "B-a O I-a": [(0, 1, "a"), (2, 3, "a")],
    "B-a I-a B-b I-b I-a": [(0, 2, "a"), (2, 4, "b"), (4, 5, "a")],
    "O O O": [],
}


@pytest.mark.parametrize("sentence", GOLDEN)
def test_entities_of_a_sentence(sentence: str) -> None:
    found = spans(Ragged.of([numbers(*sentence.split())]))
    assert [(start, end, types_of(NAMES)[kind]) for _, start, end, kind in found.tolist()] == GOLDEN[sentence]


def test_entities_end_with_their_sentence() -> None:
    together = spans(Ragged.of([numbers(*sentence.split()) for sentence in GOLDEN]))
    alone = [[i, s, e] for i, entities in enumerate(GOLDEN.values()) for s, e, _ in entities]
    assert together[:, :3].tolist() == alone
    assert spans(Ragged.of([])).shape == (0, 4)
    assert spans(Ragged.of([numbers("I-a"), numbers(), numbers("I-a")]))[:, 0].tolist() == [0, 2]


def slowly(sentence: list[int]) -> list[tuple[int, int, int]]:
    """conlleval's loop, word by word."""
    found: list[list[int]] = []
    before = 0
    for place, tag in enumerate(sentence):
        kind = (tag - 1) // 2
        if tag and (tag % 2 or not before or (before - 1) // 2 != kind):
            found.append([place, place + 1, kind])
        elif tag:
            found[-1][1] = place + 1
        before = tag
    return [(a, b, c) for a, b, c in found]


def test_entities_of_any_tags() -> None:
    draw = random.Random(0)
    some = [[draw.choice((0, 0, 1, 2, 3, 4)) for _ in range(draw.randint(1, 9))] for _ in range(300)]
    wanted = [(row, *entity) for row, sentence in enumerate(some) for entity in slowly(sentence)]
    assert [tuple(one) for one in spans(Ragged.of([np.array(s) for s in some])).tolist()] == wanted


def test_names_of_tags() -> None:
    assert types_of(NAMES) == ("a", "b")
    assert [type_of(tag) for tag in ("O", "B-x-y", "I-x", "B-", "o", "E-x", "")] == [
        "",
        "x-y",
        "x",
        None,
        None,
        None,
        None,
    ]


def test_metrics_of_entities() -> None:
    truth = rows("B-a I-a O B-b", "O B-a", "O O")
    said = rows("B-a I-a O B-a", "O B-a", "B-b O")
    value = {name: METRICS[name].function(truth, said) for name in ("entity_f1", "entity_precision", "entity_recall")}
    assert value["entity_precision"] == pytest.approx(2 / 4)
    assert value["entity_recall"] == pytest.approx(2 / 3)
    assert value["entity_f1"] == pytest.approx(4 / 7)
    assert METRICS["tag_accuracy"].function(truth, said) == pytest.approx(6 / 8)
    assert METRICS["entity_f1"].function(rows("O O"), rows("O O")) == 0


def test_words_that_nobody_spoke_of_are_o() -> None:
    truth = rows("B-a O B-b")
    short = rows("B-a O")
    assert METRICS["entity_recall"].function(truth, short) == 0.5
    assert METRICS["tag_accuracy"].function(truth, short) == pytest.approx(2 / 3)
    assert agree(rows("B-a O", "O", "B-a"), rows("B-a", "B-a", "B-a")).tolist() == [True, False, True]


def test_a_bootstrap_resamples_sentences() -> None:
    draw = np.random.default_rng(0)
    truth = as_rows([draw.integers(0, 5, 8) for _ in range(60)])
    ours = as_rows([np.where(draw.random(8) < 0.2, 0, row) for row in truth])
    theirs = as_rows([np.where(draw.random(8) < 0.6, 0, row) for row in truth])
    found = interval("entity_f1", truth, ours)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(METRICS["entity_f1"].function(truth, ours))
    gain = difference("entity_f1", truth, ours, theirs)
    assert 0 < gain.low < gain.value < gain.high
    several = difference("entity_f1", truth, np.stack([ours, ours]), np.stack([theirs, theirs]))
    assert several.value == pytest.approx(gain.value)
    assert difference("entity_f1", truth, ours, ours).value == 0


def test_metrics_refuse_rows_without_tags() -> None:
    with pytest.raises(DataError, match="1 of 2 rows have no tags"):
        METRICS["entity_f1"].function(as_rows([numbers("O"), None]), rows("O", "O"))
    with pytest.raises(DataError, match="tags said of every row"):
        METRICS["entity_f1"].function(rows("O", "O"), rows("O"))


def test_what_logits_of_words_say() -> None:
    logits = Ragged.of([np.eye(5)[[1, 2]], np.eye(5)[[0]]])
    said = TAGS.predicted(logits)
    assert [one.tolist() for one in said] == [[1, 2], [0]]
    labels = as_rows([numbers("O"), None])
    assert known(labels).tolist() == [True, False]
    assert known(blank(labels, 3)).tolist() == [False] * 3


def test_ragged_rows_keep_what_they_are() -> None:
    first, second = Ragged.of([np.arange(3), np.arange(1)]), Ragged.of([np.arange(2)])
    joined = Ragged.join([first, second])
    assert [row.tolist() for row in joined.rows()] == [[0, 1, 2], [0], [0, 1]]
    assert joined.owners.tolist() == [0, 0, 0, 1, 2, 2]
    assert joined.padded(-1).tolist() == [[0, 1, 2], [0, -1, -1], [0, 1, -1]]
    assert joined.padded(-1, 2).tolist() == [[0, 1], [0, -1], [0, 1]]
    back = in_order([(np.array([2, 0]), first), (np.array([1]), second)])
    assert [row.tolist() for row in back.rows()] == [[0], [0, 1], [0, 1, 2]]
    assert len(Ragged.of([], like=np.zeros((1, 4)))) == 0
    values = np.arange(12.0).reshape(2, 3, 2)
    taken = at_places(values, np.array([[2, 0], [4, -1]]))
    assert taken.values.tolist() == [[4, 5], [0, 1], [8, 9]]
    assert taken.lengths.tolist() == [2, 1]
