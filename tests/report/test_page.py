"""The page as text: complete, closed, escaped, small, and silent about what was not measured."""

from __future__ import annotations

import copy
import json
import math
import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from understudy import report

from .conftest import Pair
from .runs import NASTY

VOID = {"meta", "input", "img", "br", "hr"}
MOST = 1_200_000


class Reader(HTMLParser):
    """Checks that elements are closed in order; keeps visible text, headings, scripts and addresses."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[str] = []
        self.said: list[str] = []
        self.headings: list[str] = []
        self.scripts: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        found = {key: value or "" for key, value in attrs}
        self.addresses += [found[key] for key in ("src", "href", "xlink:href", "action", "data") if key in found]
        self.said += [found[key] for key in ("aria-label", "title", "alt", "aria-valuetext") if key in found]
        assert not [key for key in found if key.startswith("on")], f"an inline handler: {found}"
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] not in ("style", "pre"):
            self.said.append(data)
            if self.open and self.open[-1] in ("h1", "h2", "h3"):
                self.headings[-1] += data

    @property
    def text(self) -> str:
        """Everything that a reader, or a screen reader, is told."""
        return " ".join(self.said)


def nothing_odd(html: str) -> Reader:
    """No trace of a missing number, and no heading without a word or a section below it."""
    read = Reader(html)
    odd = re.findall(r"\b(?:nan|inf|infinity|none|null|undefined)\b", read.text.lower().replace("none of the", ""))
    assert not odd, odd
    assert all(heading.strip() for heading in read.headings)
    assert "NaN" not in html.replace("NaN;", "")
    assert "Infinity" not in "".join(read.scripts[:-1])  # all but the page's own
    return read


@pytest.mark.parametrize("name", ["digits", "intents", "failed", "minimal"])
def test_every_page_is_closed_small_and_alone(name: str, request: pytest.FixtureRequest) -> None:
    html = report.html(*request.getfixturevalue(name))
    read = nothing_odd(html)
    assert len(html.encode()) < 400_000
    assert all(address.startswith("data:image/png;base64,") for address in read.addresses)
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", html)
    assert "<link" not in html
    assert read.seen.count("script") == 2


def test_the_whole_story_is_there_in_order(digits: Pair) -> None:
    read = Reader(report.html(*digits))
    assert read.headings == [
        "Distilling paid off: the student beats its twin by 1.4\u00a0points of accuracy.",
        "What it costs to be this good",
        "All models",
        "How they learned",
        "Who gains, who loses",
        "Can its confidence be trusted?",
        "What the teacher knows beyond the label",
        "Where they disagree, and are sure",
        "What it was taught",
        "Was it worth it?",
        "What was decided on the way",
        "How it was made",
        "Stages",
        "Environment",
        "Export, rung by rung",
        "How each number was measured",
    ]
    text = read.text.replace("\u00a0", " ")
    run = digits[0]
    for said in (
        "BEATS",
        "+1.4 points, 95 % interval +0.3 to +2.8, margin ±0.5",
        "98.6 %",
        "74.3×",
        "19.8×",
        "728 kB → 9.8 kB",
        "97.2 to 99.6",
        "181 k",
        "744 µs, 982 µs",
        "batch 1, 1 thread",
        "batch 32, 1 thread",
        "2.1 % → 0.9 %",
        "majority",
        "10 hours at 200,000 calls a day",
        "temperature² · KL(teacher ‖ student)",
        "reused",
        "torch",
        "2.13.0",
        "1,437",
        "4 of 4 gates passed",
        *run["notes"],
        run["labels"]["sentence"],
        run["verdict"]["why"],
        run["verdict"]["next"],
        "10,000 paired bootstrap samples",
    ):
        assert said in text, said


def test_what_was_not_measured_leaves_no_heading(minimal: Pair) -> None:
    read = nothing_odd(report.html(*minimal))
    assert read.headings == [
        "No verdict: the student was not compared with a twin.",
        "All models",
        "What the teacher knows beyond the label",
    ]
    nothing = nothing_odd(report.html({}, {}))
    assert nothing.headings == [read.headings[0], read.headings[2]]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from leaves(item, (*path, key))


@pytest.mark.parametrize("seed", range(25))
def test_holes_anywhere_are_survived(intents: Pair, seed: int) -> None:
    draw = random.Random(seed)
    holed = copy.deepcopy(intents)
    for whole in holed:
        for path in draw.sample(list(leaves(whole)), k=min(60, 4 + seed * 3)):
            part: Any = whole
            try:
                for key in path[:-1]:
                    part = part[key]
                if isinstance(part, dict) and draw.random() < 0.3:
                    part.pop(path[-1])
                else:
                    part[path[-1]] = draw.choice([None, math.nan, math.inf])
            except (KeyError, TypeError, IndexError):
                continue  # an earlier hole has swallowed this path
    nothing_odd(report.html(*holed))
    for text in (report.summary(holed[0]), report.card(holed[0]), report.compare([("a", holed[0])])[0]):
        assert not re.search(r"\b(nan|inf|None)\b", text), text


def nasty(value: Any) -> Any:
    """The same run with every text of a human or a data set replaced by a hostile one."""
    if isinstance(value, dict):
        kept = ("dist", "metric", "direction", "image", "status")
        return {key: item if key.startswith(kept) else nasty(item) for key, item in value.items()}
    if isinstance(value, list):
        return [nasty(item) for item in value]
    return f"{NASTY}</script><img src=x onerror=alert(2)>|`{{{{7*7}}}}" if isinstance(value, str) else value


def test_hostile_text_stays_text(digits: Pair) -> None:
    run, evidence = nasty(digits[0]), nasty(digits[1])
    evidence["examples"][0] |= {"text": NASTY, "image": 'data:image/png;base64,AA" onerror="alert(3)'}
    evidence["examples"][1] |= {"image": "https://example.org/spy.png"}
    evidence["examples"][2] |= {"image": "data:image/svg+xml;base64,PHN2Zy8+"}
    html = report.html(run, evidence)
    read = Reader(html)  # its own checks: balanced, no inline handlers
    assert NASTY not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert read.seen.count("script") == 2
    assert read.text.count("alert(1)") > 50
    assert all(address.startswith("data:image/png;base64,") for address in read.addresses)
    assert "49|" not in html
    assert len(read.addresses) == 20
    assert NASTY not in report.card(run)
    assert NASTY not in report.compare([(NASTY, run)])[0]


def test_embedded_json_cannot_end_its_script(digits: Pair) -> None:
    from understudy.report.knowledge import script_json

    assert "<" not in script_json({"a": "</script><!--"})
    assert json.loads(script_json("</&>")) == "</&>"
    read = Reader(report.html(*digits))
    data = json.loads(read.scripts[0])
    assert len(data["examples"]) == 23
    assert data["textbook"] == [5, 1, 0.5]


def test_the_page_stays_small_however_much_it_is_given(digits: Pair) -> None:
    run, evidence = digits
    big = "data:image/png;base64," + "A" * 90_000
    evidence["examples"] = [{**evidence["examples"][0], "image": big, "text": "word " * 9000} for _ in range(60)]
    evidence["curves"]["student"] *= 40
    run["comparison"]["per_class"] = [
        {"label": f"class {k} " + "x" * 500, "teacher": 0.9, "artefact": 0.9 - k / 9000, "p_value": 0.5}
        for k in range(5000)
    ]
    run["labels"]["names"] = [f"class {k}" for k in range(5000)]
    run["recipe"]["long"] = ["x" * 100] * 5000
    html = report.html(run, evidence)
    assert len(html.encode()) < MOST
    assert html.count("data:image/png") >= 5
    assert "picture left out" in html
    Reader(html)


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        ("BEATS", "Distilling paid off: the student beats its twin by 1.4 points of accuracy."),
        ("HARMS", "Distilling did harm: the student falls behind its twin by 1.4 points of accuracy."),
        ("NO GAIN", "No gain: student and twin do not differ by more than 0.5 points of accuracy."),
        ("INCONCLUSIVE", "Inconclusive: this test split cannot tell the student from its twin."),
        (None, "No verdict: the student was not compared with a twin."),
    ],
)
def test_the_verdict_is_one_plain_sentence(digits: Pair, verdict: str | None, sentence: str) -> None:
    digits[0]["verdict"]["distillation"] = verdict
    assert Reader(report.html(*digits)).headings[0].replace("\u00a0", " ") == sentence
    assert report.summary(digits[0]).startswith(f"{verdict or 'NO VERDICT'}  {sentence}")


def test_a_failed_gate_is_loud_and_never_an_artefact(failed: Pair) -> None:
    html = report.html(*failed)
    read = Reader(html)
    assert html.index('class="failed"') < html.index("<h1")
    assert "1 of 4 gates failed (max drop). This export must not ship." in read.text
    assert "FAILED max drop" in " ".join(read.text.split())
    assert "GATE FAILED" in read.text
    for said in (read.text, report.summary(failed[0]), report.card(failed[0])):
        assert "candidate" in said
        assert "artefact" not in said.lower()
    assert "Do not ship" in report.card(failed[0])


@pytest.mark.parametrize("passed", [None, False, "true", 1])
def test_only_true_is_a_pass(digits: Pair, passed: object) -> None:
    digits[0]["verdict"]["gates"][0]["passed"] = passed
    assert "must not ship" in report.html(*digits)


def test_a_metric_that_is_no_share_is_printed_plainly(digits: Pair) -> None:
    run, evidence = digits
    run["comparison"] |= {
        "metric": "surprise",
        "direction": "lower",
        "difference": {"value": -1.5, "low": -2.5, "high": -0.5},
    }
    run["verdict"]["margin"] = 0.5
    for k, model in enumerate(run["models"].values()):
        model["metrics"] = {"surprise": {"value": 20.5 + k, "low": 19.25 + k, "high": 22 + k}}
    text = Reader(report.html(run, evidence)).text.replace("\u00a0", " ")
    assert "student − twin: −1.5, 95 % interval −2.5 to −0.5" in text
    assert "19.2 to 22" in text
    assert "surprise, lower is better" in text
    assert "beats its twin by 1.5 of surprise" in text


def test_the_page_is_the_same_every_time(digits: Pair) -> None:
    before = copy.deepcopy(digits)
    assert report.html(*digits) == report.html(*digits)
    assert digits == before, "the run was changed"
