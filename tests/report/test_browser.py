"""The page in a real browser: the slider moves the bars, nothing overflows, nothing is fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from understudy.report.formats import probability
from understudy.report.knowledge import softened

from .browser import Browser
from .conftest import Pair
from .other_runs import OTHERS

BARS = """JSON.stringify([...document.querySelectorAll('#textbook, [data-example]')].map(card => ({
  example: card.dataset.example ?? null,
  rows: [...card.querySelectorAll('li[data-at]')].map(row => ({
    at: Number(row.dataset.at),
    width: [...row.querySelectorAll('i')].map(bar => parseFloat(bar.style.width)),
    real: [...row.querySelectorAll('i')].map(bar => bar.offsetWidth / bar.parentElement.offsetWidth),
    text: [...row.querySelectorAll('.num b')].map(b => b.textContent),
  }))})))"""


def bars(browser: Browser) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(browser.value(BARS))
    return found


def quiet(browser: Browser) -> None:
    """No error, no dialog, no request but the file itself and its pictures."""
    kinds = [event["method"] for event in browser.events]
    assert not {"Runtime.exceptionThrown", "Page.javascriptDialogOpening"} & set(kinds)
    assert not [
        e for e in browser.events if e["method"] == "Log.entryAdded" and e["params"]["entry"]["level"] == "error"
    ]
    asked = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith(("file:", "data:")) for url in asked), asked


def expect(found: list[dict[str, Any]], evidence: dict[str, Any], temperature: float) -> int:
    """Every bar and number on the page against softmax in Python; how many were compared."""
    given = [*evidence["examples"], *evidence["disagreements"]]
    compared = 0
    for card in found:
        sides = [softened((5, 1, 0.5), temperature)]
        if card["example"] is not None:
            raw = given[int(card["example"])]
            others = max(len(evidence["labels"]) - len(raw["labels"]), 1)
            sides = [softened(raw[side], temperature, raw[f"{side}_rest"], others) for side in ("teacher", "student")]
        for row in card["rows"]:
            wanted = [[*shown, rest][row["at"]] for shown, rest in sides]
            assert row["width"] == pytest.approx([100 * p for p in wanted], abs=0.02)
            assert [float(text) for text in row["text"]] == pytest.approx(wanted, abs=0.0006)
            compared += len(wanted)
    return compared


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0, 3.3])
def test_the_address_sets_every_bar(browser: Browser, page: Any, intents: Pair, temperature: float) -> None:
    browser.open(page(*intents), fragment=f"#temperature={temperature:g}")
    assert expect(bars(browser), intents[1], temperature) == 3 + 16 * 9 * 2
    assert browser.value("document.getElementById('shown').textContent") == f"{temperature:g}"
    quiet(browser)


def test_the_textbook_case(browser: Browser, page: Any, digits: Pair) -> None:
    path: Path = page(*digits)
    browser.open(path, fragment="#temperature=1")
    assert [row["text"][0] for row in bars(browser)[0]["rows"]] == [".971", ".018", ".011"]
    browser.open(path, fragment="#temperature=2")
    card = bars(browser)[0]
    assert [row["text"][0] for row in card["rows"]] == [".806", ".109", ".085"]
    assert [row["real"][0] for row in card["rows"]] == pytest.approx([0.806, 0.109, 0.085], abs=0.006)


def test_the_keyboard_moves_the_slider_and_the_slider_the_bars(browser: Browser, page: Any, digits: Pair) -> None:
    browser.open(page(*digits), fragment="#temperature=1")
    before = bars(browser)
    assert expect(before, digits[1], 1.0) == 3 + 23 * 10 * 2
    browser.value("document.getElementById('temperature').focus()")
    browser.press("ArrowRight", 39)
    assert browser.value("location.hash") == "#temperature=1.2"
    expect(bars(browser), digits[1], 1.2)
    browser.press("End", 35)
    assert browser.value("location.hash") == "#temperature=10"
    assert browser.value("document.getElementById('temperature').getAttribute('aria-valuetext')") == "temperature 10"
    after = bars(browser)
    expect(after, digits[1], 10.0)
    assert after[1]["rows"][0]["real"][0] < before[1]["rows"][0]["real"][0] / 2, "the bar is no shorter on the screen"
    browser.press("Home", 36)
    expect(bars(browser), digits[1], 0.5)
    quiet(browser)


def test_without_an_address_it_starts_where_the_page_was_drawn(browser: Browser, page: Any, digits: Pair) -> None:
    path: Path = page(*digits)
    assert ">.591<" in path.read_text(encoding="utf-8"), "the bars are drawn without a script too"
    browser.open(path)
    expect(bars(browser), digits[1], 4.0)
    assert probability(softened((5, 1, 0.5), 4.0)[0][0]) == ".591"
    browser.open(path, fragment="#temperature=banana")
    expect(bars(browser), digits[1], 4.0)
    browser.open(path, fragment="#temperature=1000")
    expect(bars(browser), digits[1], 10.0)


@pytest.mark.parametrize("width", [360, 390, 820, 1280])
@pytest.mark.parametrize("name", ["digits", "intents", "failed", "minimal", *OTHERS])
def test_nothing_is_wider_than_the_screen(
    browser: Browser, page: Any, name: str, width: int, request: pytest.FixtureRequest
) -> None:
    run, evidence = OTHERS[name]() if name in OTHERS else request.getfixturevalue(name)
    if name == "intents":
        run["comparison"]["per_class"][0]["label"] = evidence["examples"][1]["label"] = "long" * 40
        run["notes"] = ["w" * 300]
    browser.open(page(run, evidence), width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    beyond = browser.value(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre, .hidden') && "
        "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 90)).join('\\n')"
    )
    assert not beyond, beyond
    quiet(browser)


OVERLAPS = """[...document.querySelectorAll('svg')].flatMap(svg => {
  const names = [...svg.querySelectorAll('text.name')].map(t => [t.textContent, t.getBoundingClientRect()]);
  return names.flatMap(([a, p], i) => names.slice(i + 1).filter(([b, q]) =>
    p.left + 2 < q.right && q.left + 2 < p.right && p.top + 4 < q.bottom && q.top + 4 < p.bottom
  ).map(([b]) => a + ' on ' + b));
}).join(', ')"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["digits", "intents"])
def test_no_label_lies_on_another(
    browser: Browser, page: Any, name: str, width: int, request: pytest.FixtureRequest
) -> None:
    browser.open(page(*request.getfixturevalue(name)), width=width)
    assert browser.value("document.querySelectorAll('svg text.name').length") >= 13
    assert browser.value(OVERLAPS) == ""


FAINT = """(() => {
  const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (c.startsWith('rgb(')) return c; } return 'rgb(255, 255, 255)'; };
  return JSON.stringify([...document.querySelectorAll('mark, .chip, .sides dt, .sides dd, .near li, .legend, .says b')]
    .filter(e => !e.closest('.hidden')).map(e => { const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 80)]; })
    .filter(([ratio]) => ratio < 4.5));
})()"""


def test_dark_is_dark_and_light_is_light(browser: Browser, page: Any, digits: Pair) -> None:
    path: Path = page(*digits)
    grounds = []
    for dark in (False, True):
        browser.open(path, dark=dark)
        grounds.append(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(251, 251, 249)", "rgb(20, 22, 26)"]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("other", OTHERS, indirect=True)
def test_other_answers_can_be_read_in_the_dark_and_are_quiet(
    browser: Browser, page: Any, other: Pair, dark: bool
) -> None:
    """Every word of the new sections stands out from its ground, which the style of one scheme alone would miss."""
    browser.open(page(*other), dark=dark)
    assert browser.value("document.getElementById('temperature')") is None
    faint = json.loads(browser.value(FAINT))
    assert not faint, faint
    quiet(browser)


def test_hostile_text_runs_nowhere(browser: Browser, page: Any, intents: Pair) -> None:
    run, evidence = intents
    run["verdict"]["why"] = "<img src=x onerror=alert(1)><script>document.title='taken'</script>"
    browser.open(page(run, evidence))
    assert browser.value("document.title") == "INCONCLUSIVE · Understudy"
    assert browser.value("document.querySelector('blockquote').textContent").startswith("<script>alert(1)</script>")
    quiet(browser)
