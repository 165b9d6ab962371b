"""The terminal's lines, the card and the comparison."""

from __future__ import annotations

import ast
import copy
import random
import re

from understudy import report
from understudy.report.across import front

from .conftest import Pair
from .runs import NASTY


def test_the_summary_is_short_aligned_and_starts_with_the_verdict(digits: Pair) -> None:
    text = report.summary(digits[0])
    lines = text.splitlines()
    assert 13 <= len(lines) <= 18
    assert max(map(len, lines)) <= 100
    assert lines[0] == "BEATS  Distilling paid off: the student beats its twin by 1.4 points of accuracy."
    table = [line for line in lines if re.match(r"(teacher|twin|student|artefact|baseline) ", line)]
    assert [line.split()[0] for line in table] == ["teacher", "twin", "student", "artefact", "baseline"]
    assert len({len(line) for line in table}) == 1, "columns do not line up"
    assert table[3].split() == ["artefact", "97.5", "%", "95.3", "to", "98.7", "9.8", "kB", "29", "µs", "181,000", "/s"]
    assert lines[-1].startswith("next       Digit 8 lost most")
    assert "98.6 % of the teacher’s accuracy kept · 74.3× smaller on disk · 19.8× the teacher’s throughput" in lines
    assert "\u00a0" not in text


def test_the_summary_of_next_to_nothing(minimal: Pair) -> None:
    assert report.summary(minimal[0]).splitlines() == [
        "NO VERDICT  No verdict: the student was not compared with a twin.",
        "",
        "           accuracy",
        "teacher      90.0 %",
        "student           –",
    ]
    assert report.summary({}) == "NO VERDICT  No verdict: the student was not compared with a twin."


def test_the_card_says_what_how_and_how_good(intents: Pair) -> None:
    run = intents[0]
    run["labels"]["names"][2] = f"a|b {NASTY} `x`"
    card = report.card(run)
    headings = re.findall(r"^#+ .*", card, re.M)
    assert headings == [
        "# A distilled model for text classification",
        "## Use",
        "## Measured",
        "## Limits",
        "## Gates",
        "## Labels (151)",
        "## How it was measured",
    ]
    code = re.findall(r"```python\n(.*?)```", card, re.S)
    assert len(code) == 1
    assert len(ast.parse(code[0]).body) == 3 == len(code[0].strip().splitlines())
    assert len(re.findall(r"```sh\n(.*)\n```", card)) == 1
    assert "understudy predict" in card
    assert "| artefact | 94.9 % | 94.2 to 95.5 | 2.18 MB | 28 µs | 71,500 /s | 1.3 % |" in card
    assert "Latency at batch 1, threads 1; throughput at batch 32, threads 1; metrics on 5,500 test rows." in card
    assert "Weakest classes: exchange\\_rate (70.0 %)" in card
    assert "passed: max drop 0.02 points (limit 0.5 points)" in card
    assert NASTY not in card
    assert "a\\|b &lt;script&gt;alert(1)&lt;/script&gt; \\`x\\`" in card
    assert not re.search(r"\bnan\b|None", card)
    assert card.endswith("\n")


def test_the_card_uses_what_the_runtime_offers(digits: Pair) -> None:
    from understudy import runtime

    code = re.findall(r"```python\n(.*?)```", report.card(digits[0]), re.S)[0]
    called = {node.attr for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)}
    assert called == {"load", "predict"}
    assert callable(runtime.load)
    assert hasattr(runtime.Predictor, "predict")
    assert '{"image": "example.png"}' in code


def test_compare_is_one_table_and_two_pictures(digits: Pair, intents: Pair, failed: Pair) -> None:
    runs = [("runs/a", copy.deepcopy(digits[0])), ("runs/<b>", intents[0]), ("runs/c", failed[0])]
    html, rows = report.compare(runs)
    assert [row["name"] for row in rows] == ["runs/a", "runs/<b>", "runs/c"]
    assert rows[1]["artefact"]["value"] == 0.9487
    assert rows[1]["compression"] == 42.0
    assert rows[1]["p50_ms"] == 0.028
    assert [row["gates_passed"] for row in rows][2] == 3
    assert rows[2]["gates"] == 4
    assert html.count("<table") == 1
    assert html.count('role="img"') == 2
    assert "Nothing is better at less cost than" in html
    assert "<b>b" not in html
    assert "✕ 1 failed" in html
    assert "runs/&lt;b&gt;" in html
    other = copy.deepcopy(intents[0])
    other["comparison"]["metric"] = "macro_f1"
    html, rows = report.compare([*runs[:1], ("d", other)])
    assert "Runs measured by macro F1 are in the table only." in html
    assert rows[1]["metric"] == "macro_f1"
    assert report.compare([])[1] == []
    assert report.other_rows([]) == ""
    other["data"]["test"]["fingerprint"] = "another"
    runs = [("a", intents[0]), ("<b>", other), ("c", intents[0])]
    said = "<b> was tested on other rows than a: their metrics cannot be compared."
    assert report.other_rows(runs) == said
    assert said.replace("<b>", "&lt;b&gt;") in report.compare(runs)[0]


def test_the_front_is_what_no_other_beats() -> None:
    generator = random.Random(0)
    for _ in range(50):
        points = [(generator.randint(1, 6) * 1.0, generator.randint(1, 6) / 10) for _ in range(8)]
        found = front(points)
        for i, (cost, quality) in enumerate(points):
            beaten = any(
                c <= cost and q >= quality and (c, q) != (cost, quality) for j, (c, q) in enumerate(points) if j != i
            )
            assert ((cost, quality) in [points[j] for j in found]) == (not beaten)
        assert [points[i][0] for i in found] == sorted({points[i][0] for i in found})
