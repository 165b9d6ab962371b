from __future__ import annotations

import pytest

from understudy.errors import LabelError
from understudy.teachers import align


def test_same_order_moves_nothing() -> None:
    found = align({0: "a", 1: "b"}, ["a", "b"])
    assert (found.order, found.permuted, found.teacher_labels) == ((0, 1), False, ("a", "b"))
    assert "same order" in found.sentence


def test_order_picks_the_teachers_columns_in_the_datas_order() -> None:
    found = align({0: "c", 1: "a", 2: "b"}, ["a", "b", "c"])
    assert found.order == (1, 2, 0)
    assert found.permuted
    assert "3 of the teacher's columns are moved" in found.sentence


def test_keys_of_a_raw_config_are_strings_and_unsorted() -> None:
    assert align({"10": "k", **{str(i): f"n{i}" for i in range(10)}}, [f"n{i}" for i in range(10)] + ["k"]).order == (
        *range(11),
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["POSITIVE", "negative"], ["Negative", "positive"]),
        (["card_arrival", "lost  card"], ["lost card", "Card Arrival"]),
        ([" Straße", "x"], ["X", "strasse "]),
    ],
)
def test_case_spaces_and_underscores_do_not_matter(theirs: list[str], ours: list[str]) -> None:
    found = align(dict(enumerate(theirs)), ours)
    assert found.order == (1, 0)
    assert "ignoring case" in found.sentence


def test_an_exact_match_wins_over_a_loose_one() -> None:
    assert align({0: "US", 1: "us"}, ["us", "US"]).order == (1, 0)


def test_generic_names_count_by_position_and_say_so() -> None:
    found = align({0: "LABEL_0", 1: "LABEL_1"}, ["no", "yes"])
    assert found.order == (0, 1)
    assert "by position" in found.sentence


@pytest.mark.parametrize(
    ("theirs", "ours", "reason"),
    [
        (["a", "b"], ["a", "b", "c"], 'lacks "c"'),
        (["a", "b", "c"], ["a", "b"], 'data lacks "c"'),
        (["a", "x"], ["a", "y"], 'lacks "y" and the data lacks "x"'),
        (["LABEL_0", "LABEL_1"], ["a", "b", "c"], "2 nameless columns"),
        (["LABEL_1", "LABEL_0"], ["a", "b"], "nameless|lacks"),
        (["US", "Us"], ["us", "uS"], "same but for case"),
        ([], ["a"], "lacks"),
    ],
)
def test_what_cannot_be_aligned_is_refused_with_what_to_do(theirs: list[str], ours: list[str], reason: str) -> None:
    with pytest.raises(LabelError, match=reason) as caught:
        align(dict(enumerate(theirs)), ours)
    assert "teacher.fine_tune=always" in str(caught.value)


def test_gaps_in_id2label_are_refused() -> None:
    with pytest.raises(LabelError, match=r"columns 0\.\.1"):
        align({0: "a", 2: "b"}, ["a", "b"])


def test_long_lists_are_shortened() -> None:
    with pytest.raises(LabelError) as caught:
        align({i: f"theirs {i} " + "x" * 100 for i in range(300)}, [f"ours {i}" for i in range(300)])
    assert len(str(caught.value)) < 1500
    assert "(300 in all)" in str(caught.value)
