"""What the page says about a student that is cut from its teacher."""

from __future__ import annotations

import copy
from typing import Any

from understudy import report

from .runs import NASTY

Pair = tuple[dict[str, Any], dict[str, Any]]


def section(pair: Pair) -> str:
    page = report.html(*pair)
    start = page.index('<section aria-labelledby="inherited">')
    return page[start : page.index("</section>", start)].replace("\u00a0", " ")


def cut(pair: Pair, **more: Any) -> Pair:
    run, evidence = copy.deepcopy(pair)
    run["models"]["student"]["inheritance"] = {
        "layers": {"0": 0, "1": 2}, "teacher_layers": 4, "parameters": {"teacher": 61_443, "student": 15_555},
        "channels": {"kept": 16, "of": 32, "how": "copied", "from": "16 entries"},
        "heads": None,
        "vocabulary": {"kept": 300, "of": 30_522, "how": "copied", "from": "300 entries"},
        "rank": {"rank": 8, "of": 16, "energy": 0.5908}, "chosen_by": "the output of every channel",
    } | more  # fmt: skip
    return run, evidence


def test_every_part_that_was_cut_is_a_row(digits: Pair) -> None:
    said = section(cut(digits))
    assert "15.6 k of the teacher’s 61.4 k parameters, chosen by the output of every channel" in said
    assert said.count('<th scope="row">') == 4
    assert '<th scope="row">layers</th><td>2</td><td>4</td><td>copies of 0, 2</td>' in said
    assert '<th scope="row">channels</th><td>16</td><td>32</td><td>copied</td>' in said
    assert '<th scope="row">sub-words</th><td>300</td><td>30,522</td><td>copied</td>' in said
    assert "<td>8</td><td>16</td><td>two factors, 59.1 % of its squares</td>" in said
    assert "attention heads" not in said


def test_layers_that_were_projected_are_no_copies(digits: Pair) -> None:
    assert "none is a plain copy" in section(cut(digits, layers={"0": None}))


def test_another_student_inherits_nothing_that_is_shown(digits: Pair) -> None:
    assert 'id="inherited"' not in report.html(*digits)


def test_hostile_text_stays_text(digits: Pair) -> None:
    assert NASTY not in section(cut(digits, chosen_by=NASTY))
