"""What the page says about the objective: the course of every term, the steps before, and who learnt together."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from understudy import report

Pair = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture
def taught(digits: Pair) -> Pair:
    run, evidence = copy.deepcopy(digits)
    run["objective"] = [
        {"name": "soft_labels", "weight": 0.9, "formula": "temperature^2 * KL", "of": "student", "against": "teacher"},
        {"name": "hints", "weight": "2.0 * linear(0 to 1 in 4 steps)", "formula": "<script>alert(1)</script>"},
    ]
    run["steps"] = [
        {"name": "first", "learns_from": "teacher", "best": 0.5, "seconds": 2.0, "steps": 34, "objective": []}
    ]
    run["learns_from"], run["cohort"], run["ships"] = "first", {"student": 0.91, "peer.1": 0.93}, "peer.1"
    evidence["curves"]["student"] = [
        {"epoch": 1, "terms": {"soft_labels": 4.0, "hints": 0.8}, "weights": {"soft_labels": 0.9, "hints": 0.5}},
        {"epoch": 2, "terms": {"soft_labels": 2.0, "hints": 0.4}, "weights": {"soft_labels": 0.9, "hints": 2.0}},
    ]
    return run, evidence


def section(pair: Pair) -> str:
    page = report.html(*pair)
    start = page.index('<section aria-labelledby="taught">')
    return page[start : page.index("</section>", start)].replace("\u00a0", " ")


def test_every_term_is_there_with_its_course(taught: Pair) -> None:
    said = section(taught)
    for words in ("soft_labels", "2.0 * linear(0 to 1 in 4 steps)", "temperature^2 * KL", ">4<", ">2<"):
        assert words in said, words
    assert ">69 %<" in said  # 0.9 * 2.0 of 0.9 * 2.0 + 2.0 * 0.4 at the end
    assert ">31 %<" in said
    assert said.count("<figure") == 2
    assert said.count('class="line weighted"') == 2  # both weights differ from 1
    assert "hints: value ends at 0.4; weighted ends at 0.8" in said


def test_a_weight_of_one_draws_no_second_line(taught: Pair) -> None:
    for epoch in taught[1]["curves"]["student"]:
        epoch["weights"] = {"soft_labels": 1.0, "hints": 1.0}
    assert "weighted ends" not in section(taught)


def test_steps_and_cohort_are_told(taught: Pair) -> None:
    said = section(taught)
    assert "The student learnt from first, which a step before trained." in said
    assert "2 models learnt together." in said
    assert "93.0 %" in said
    assert said.count("ships") == 1


def test_nothing_in_it_is_markup(taught: Pair) -> None:
    assert "<script>" not in section(taught)
    assert "&lt;script&gt;" in section(taught)


def test_a_run_without_terms_has_no_such_section(taught: Pair) -> None:
    del taught[0]["objective"]
    assert 'aria-labelledby="taught"' not in report.html(*taught)
