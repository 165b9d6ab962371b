"""Entities that are right, mistaken, missed and made up, counted by hand."""

from __future__ import annotations

import numpy as np

from understudy.answers import TAGS
from understudy.evaluation import Scored, span_facts
from understudy.ragged import Ragged, as_rows
from understudy.tags import named

NAMES = named(["city", "day"])  # O, B-city, I-city, B-day, I-day
WORDS = [["fly", "to", "New", "York", "on", "Monday"], ["Rome", "please"], ["leave", "today"]]
TRUTH = [[0, 0, 1, 2, 0, 3], [1, 0], [0, 3]]


def scored(name: str, tags: list[list[int]]) -> Scored:
    """A model that says these tags."""
    flat = np.array([tag for row in tags for tag in row])
    logits = Ragged(np.eye(len(NAMES), dtype=np.float32)[flat] * 5, np.cumsum([0, *map(len, tags)]))
    labels = as_rows([np.array(row, np.int64) for row in TRUTH])
    return Scored(name, logits, labels, answer=TAGS)


def test_a_table_counts_every_entity_once_and_what_was_made_up() -> None:
    teacher = scored("teacher", TRUTH)
    artefact = scored("artefact", [[0, 0, 1, 0, 0, 3], [3, 0], [1, 3]])  # New alone; Rome a day; leave a city
    facts = span_facts(WORDS, teacher, artefact, label_names=NAMES)
    assert facts["types"] == ["city", "day"]
    assert facts["confusion"]["teacher"] == [[2, 0, 0], [0, 2, 0], [0, 0, 0]]
    #                                          city: Rome is a day, New York is missed; made up: New, leave
    assert facts["confusion"]["artefact"] == [[0, 1, 1], [0, 2, 0], [2, 0, 0]]
    assert [one["row"] for one in facts["lost"]] == [1, 0]  # one each: the shorter first
    assert facts["lost"][1] == {
        "row": 0,
        "words": WORDS[0],
        "gold": [[2, 4, "city"], [5, 6, "day"]],
        "teacher": [[2, 4, "city"], [5, 6, "day"]],
        "artefact": [[2, 3, "city"], [5, 6, "day"]],
    }
