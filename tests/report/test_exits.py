"""The exits of a student on the page: a curve, a table and one sentence, and no trace where there are none."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from understudy import report
from understudy.report import exits as leaving
from understudy.report.facts import read

from .browser import Browser
from .conftest import Pair
from .test_browser import OVERLAPS, quiet
from .test_page import nothing_odd


def curve() -> list[dict[str, Any]]:
    """Thresholds as a run writes them: the lower, the cheaper and the worse; the last one is never leaving."""
    steps = [(0.31 + 0.034 * i, 0.7 + 0.015 * i, 0.944 + 0.04 * (1 - 0.8**i)) for i in range(20)]
    found = [{"threshold": t, "cost": c, "metric": m} for t, c, m in steps]
    return [*found, {"threshold": None, "cost": 1.0, "metric": 0.9833}]


def of(exit_: int, share: float, cost: float, right: float | None) -> dict[str, Any]:
    return {"exit": exit_, "share_of_rows": share, "cost": cost, "accuracy_of_those_who_left": right}


@pytest.fixture
def early(digits: Pair) -> Pair:
    """The digits with two exits and the end: 60 %, 30 % and 10 % of the validation rows."""
    run, evidence = digits
    run["export"]["exits"] = {
        "threshold": 0.8237,
        "per_exit": [of(0, 0.6, 0.7, 0.995), of(1, 0.3, 0.85, 0.97), of(2, 0.1, 1.0, 0.91)],
        "mean_cost": 0.775,
        "metric": {"name": "accuracy", "with_exits": 0.979, "full_depth": 0.9833, "exact": 0.9833},
        "curve": curve(),
        "measured": "Cost: seconds of the parts up to an exit / of all parts, batch 32, 1 thread",
    }
    evidence["exits"] = {
        "per_exit": [of(0, 0.55, 0.7, 0.99), of(1, 0.3, 0.85, 0.95), of(2, 0.15, 1.0, None)],
        "mean_cost": 0.79,
    }
    return run, evidence


def test_the_page_says_who_leaves_and_marks_what_ships(early: Pair) -> None:
    run, evidence = early
    html = report.html(run, evidence)
    text = nothing_odd(html).text.replace("\u00a0", " ")
    assert "Who leaves early" in nothing_odd(html).headings
    assert (
        "90.0 % of the validation rows leave early, from a confidence of 0.824 on: a row costs 78 % of the full depth "
        "on average, at 97.9 % accuracy instead of 98.3 %." in text
    )
    assert "On the test split a row costs 79 % on average. Cost: seconds" in text
    section = html[html.index('id="exits"') : html.index("</section>", html.index('id="exits"'))]
    assert section.count("<circle") == 21 + 1
    assert section.count('class="zero"') == 1
    assert "nobody leaves early" in section
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", section)
    cells = [[name, *re.findall(r"[\d.]+(?=\u00a0%)|–", rest)] for name, rest in rows]
    assert cells == [
        ["exit 0", "70", "60.0", "99.5", "55.0", "99.0"],
        ["exit 1", "85", "30.0", "97.0", "30.0", "95.0"],
        ["the end", "100", "10.0", "91.0", "15.0", "–"],
    ]


def test_the_marked_point_lies_where_it_belongs(early: Pair) -> None:
    """The axis spans the curve's costs (0.7 to 1) and the marked one, with 4 % of air at either end."""
    run, _ = early
    exits = run["export"]["exits"]
    for cost, lowest in ((0.85, 0.7), (0.625, 0.625)):
        air = 0.04 * (1 - lowest)
        place = (cost - lowest + air) / (1 - lowest + 2 * air)
        exits["mean_cost"] = cost
        drawn = str(leaving.picture(read(run)))
        (found,) = re.findall(r'<circle cx="([\d.]+)%" cy="[\d.]+" r="6"', drawn)
        assert float(found) == pytest.approx(100 * place, abs=0.01)


def test_nobody_leaves(early: Pair) -> None:
    run, evidence = early
    exits = run["export"]["exits"]
    exits |= {"threshold": None, "mean_cost": 1.0, "per_exit": [of(0, 0.0, 0.5, None), of(1, 1.0, 1.0, 0.98)]}
    text = nothing_odd(report.html(run, {**evidence, "exits": None})).text
    assert "No row leaves early: no threshold stayed within the limit on validation." in text
    assert "test split a row costs" not in text


def test_the_terminal_and_the_card_say_it_too(early: Pair) -> None:
    run, _ = early
    assert "90.0 % of the validation rows leave early" in report.card(run)
    assert re.search(r"^exits +90.0 % of the validation rows leave early", report.summary(run), re.M)


def test_a_run_may_say_it_at_the_top(early: Pair) -> None:
    run, evidence = early
    top = copy.deepcopy(run)
    top["exits"] = top["export"].pop("exits")
    assert report.html(top, evidence).count("Who leaves early") == 1


def test_no_exits_no_trace(digits: Pair) -> None:
    run, evidence = digits
    for exits in (None, {}, {"per_exit": []}, "all", {"per_exit": "x", "curve": 3}):
        run["export"]["exits"] = exits
        html = report.html(run, evidence)
        assert "leaves early" not in html
        assert "exits" not in report.summary(run)
    run["export"]["exits"] = {"per_exit": [{}, {}], "curve": [{"cost": float("nan")}], "metric": None}
    nothing_odd(report.html(run, evidence))  # numbers that are missing leave dashes


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_browser_it_fits_and_nothing_covers_anything(
    browser: Browser, page: Any, early: Pair, width: int, dark: bool
) -> None:
    browser.open(page(*early), width=width, dark=dark)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(OVERLAPS) == ""
    ring = "getComputedStyle(document.querySelector('[aria-labelledby=exits] .ring')).fill"
    assert browser.value(ring) == ("rgb(95, 227, 176)" if dark else "rgb(22, 128, 92)")
    quiet(browser)
