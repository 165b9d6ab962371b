"""What the page says about a student that was chosen."""

from __future__ import annotations

import copy
from typing import Any

from understudy import report

from .runs import NASTY

Pair = tuple[dict[str, Any], dict[str, Any]]


def chosen(pair: Pair, *candidates: dict[str, Any]) -> str:
    run, evidence = copy.deepcopy(pair)
    run["choice"] = {"why": "student auto chose gru: so it is", "candidates": list(candidates)}
    return report.html(run, evidence).replace("\u00a0", " ")


def candidate(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "bytes": None, "p95_ms": None, "fits": False, "skipped": ""} | more


def test_every_candidate_is_a_row_with_its_figures_or_its_reason(digits: Pair) -> None:
    page = chosen(
        digits,
        candidate("cut", skipped=f"no {NASTY} here"),
        candidate("conv", bytes=390_000, p95_ms=0.21),
        candidate("gru", bytes=290_000, p95_ms=1.4, fits=True),
    )
    said = page[page.index('id="choice"') :]
    said = said[: said.index("</section>")]
    assert "student auto chose gru: so it is. From the most capable to the smallest, each exported before" in said
    assert said.count('<th scope="row">') == 3
    assert "<td>–</td><td>–</td><td>cannot be made</td>" in said
    assert "cut<small>no &lt;script&gt;alert(1)&lt;/script&gt; here</small>" in said
    assert "conv</th><td>390 kB</td><td>210 µs</td><td>over a limit</td>" in said
    assert "gru</th><td>290 kB</td><td>1.4 ms</td><td>chosen</td>" in said


def test_a_student_that_was_named_or_simply_the_first_needs_no_table(digits: Pair) -> None:
    assert 'id="choice"' not in report.html(*digits)
    assert 'id="choice"' not in chosen(digits, candidate("cut", fits=True))
    skipped = chosen(digits, candidate("cut", skipped="no layers"), candidate("gru", fits=True))
    assert "From the most capable to the smallest:" in skipped
