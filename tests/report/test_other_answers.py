"""Pages and cards of runs whose answer is not one label: what does not apply leaves no trace, what does is there."""

from __future__ import annotations

import ast
import copy
import json
import math
import random
import re

import pytest

from understudy import report
from understudy.report import neighbours, questions, residuals, several, spans, speech
from understudy.report.facts import read

from .conftest import Pair
from .other_runs import OTHERS
from .runs import NASTY
from .test_page import MOST, Reader, leaves, nasty, nothing_odd

SECTIONS = {
    "scores": ["How far off it is", "Mean absolute error", "Where they are farthest apart"],
    "several": ["Who gains, who loses", "From when on a label holds", "Where their labels differ"],
    "spans": ["Who gains, who loses", "Which entities are taken for which", "Entities it lost"],
    "neighbours": ["Neighbours that changed"],
    "questions": ["Answers that moved"],
    "speech": ["Token by token", "What they write"],
}  # fmt: skip
ONE_LABEL = ("What the teacher knows beyond the label", "Where they disagree, and are sure")


@pytest.mark.parametrize("other", OTHERS, indirect=True)
def test_every_page_is_whole_and_has_its_own_sections(other: Pair, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["other"]
    html = report.html(*other)
    read = nothing_odd(html)
    assert len(html.encode()) < MOST / 4
    assert NASTY not in html
    assert read.seen.count("script") == 1
    assert "temperature" not in read.seen
    assert 'id="temperature"' not in html
    every = {heading for headings in SECTIONS.values() for heading in headings}
    mine = [heading for heading in read.headings if heading in every]
    assert mine == SECTIONS[name]
    assert not set(ONE_LABEL) & set(read.headings)
    assert ("ECE" in read.text) == (name == "several")


def test_a_run_of_one_label_has_none_of_it(digits: Pair) -> None:
    nothing = {"apart": [], "spans": {}, "residuals": {}, "neighbours": [], "answers": [], "written": []}
    assert report.html(digits[0], digits[1] | nothing) == report.html(*digits)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("other", OTHERS, indirect=True)
def test_holes_anywhere_are_survived(other: Pair, seed: int) -> None:
    draw = random.Random(seed)
    run, evidence = other
    for path in draw.sample(list(leaves(evidence)), k=8 + 8 * seed):
        part = evidence
        try:
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = draw.choice([None, math.nan, math.inf, [], {}, "text", 3])
        except (KeyError, TypeError, IndexError):
            continue  # an earlier hole has swallowed this path
    evidence = {key: evidence.get(key) for key in ("spans", "neighbours", "answers", "residuals", "apart", "written")}
    nothing_odd(report.html(run, evidence))


@pytest.mark.parametrize("other", OTHERS, indirect=True)
def test_hostile_text_stays_text(other: Pair) -> None:
    run, evidence = nasty(other[0]), nasty(other[1])
    run |= {"task": other[0]["task"], "answer": other[0]["answer"], "fields": [NASTY, "text"]}
    html = report.html(run, evidence)
    read = Reader(html)
    assert NASTY not in html
    assert read.seen.count("script") == 1
    assert "49|" not in html
    assert NASTY not in report.card(run)


@pytest.mark.parametrize("other", OTHERS, indirect=True)
def test_a_failed_export_is_a_candidate_everywhere(other: Pair) -> None:
    other[0]["verdict"]["gates"][0]["passed"] = False
    other[0]["verdict"]["next"] = "Try again."
    read = Reader(report.html(*other))
    for said in (read.text, report.summary(other[0]), report.card(other[0])):
        assert "candidate" in said
        assert "artefact" not in said.lower()


def test_the_page_stays_small_however_much_it_is_given() -> None:
    long = "word " * 20_000
    types = [f"type {k} {'x' * 300}" for k in range(80)]
    counts = [[k + j for j in range(81)] for k in range(81)]
    row = {"text": long, "data": 1.0, "teacher": 2.0, "artefact": 3.0}
    labels = [f"label {k} {long}" for k in range(300)]
    lists = {"data": labels, "teacher": labels[9:], "artefact": labels}
    scores = {"models": ["teacher", "twin", "artefact"], "points": [[1.0, 2.0, 3.0, 4.0]] * 90_000}
    answer = {"question": long, "context": long, "gold": [long] * 9, "teacher": long, "artefact": long + "!"}
    spans_of = [[k, k + 1, long] for k in range(4000)]
    sentence = {"words": [long] * 4000, "gold": spans_of, "teacher": spans_of, "artefact": []}
    for evidence in (
        {"apart": [row] * 500, "residuals": scores},
        {"apart": [{"text": long, **lists}] * 500},
        {"spans": {"types": types, "confusion": {"teacher": counts, "artefact": counts}, "lost": [sentence] * 500}},
        {"neighbours": [{"text": long, "teacher": [long] * 50, "artefact": [long + "!"] * 50}] * 500},
        {"answers": [answer] * 500},
    ):
        html = report.html({"answer": "labels"}, evidence)
        assert len(html.encode()) < MOST / 3, list(evidence)
        Reader(html)
    assert spans.section(read({}), {"spans": {"types": types, "confusion": {"teacher": counts}}})["left_out"] == 60


def test_scores_are_drawn_where_they_are() -> None:
    run, evidence = OTHERS["scores"]()
    found = residuals.section(read(run), evidence)
    assert found is not None
    assert [name for name, _ in found["pictures"]] == ["teacher", "artefact"]
    drawn = str(found["pictures"][1][1])
    truth, _, _, said = evidence["residuals"]["points"][7]
    values = [v for row in evidence["residuals"]["points"] for v in (row[0], row[1], row[3])]
    low, high = min(values), max(values)
    pad = 0.08 * (high - low)
    place = (truth - low + pad) / (high - low + 2 * pad), 230 * (1 - (said - low + pad) / (high - low + 2 * pad))
    assert f'cx="{100 * place[0]:.2f}%" cy="{place[1]:.1f}"' in drawn
    assert drawn.count("<circle") == 300
    means = evidence["residuals"]["mean_absolute"]
    assert [(role, float(mean)) for role, _, mean in found["means"]] == [
        (role, pytest.approx(means[role], rel=0.01)) for role in ("teacher", "twin", "artefact")
    ]
    assert "a Pearson correlation of 0.962" in found["together"]


def test_labels_that_are_missing_or_extra_are_marked() -> None:
    run, evidence = OTHERS["several"]()
    first, *_, last = several.section(read(run), evidence)
    assert first["lines"][2][2] == [("", "", "grain"), ("missing", "−", "wheat"), ("extra", "+", "ships")]
    assert [labels for _, _, labels in last["lines"]] == [[], [("extra", "+", "trade")], []]
    text = " ".join(Reader(report.html(run, evidence)).text.split())
    assert "missing: − wheat extra: + ships" in text
    assert "Of 6 labels 2 lose and 4 gain against the teacher, measured by F1." in text
    assert "0.267" in text
    assert "97.0\u00a0% → 91.0\u00a0%".replace("\u00a0", " ") in text.replace("\u00a0", " ")


def test_entities_are_counted_and_the_lost_ones_marked() -> None:
    run, evidence = OTHERS["spans"]()
    found = spans.section(read(run), evidence)
    assert found is not None
    _, name, rows = found["tables"][0]
    assert name == "teacher"
    assert [cell["count"] for cell in rows[1]["cells"]] == ["4", "90", "2", "0", "14"]
    assert rows[4]["cells"][4] == {"count": "", "kind": "none", "weight": "0"}
    assert [row["cells"][k]["kind"] for k, row in enumerate(rows[:4])] == ["right"] * 4
    pieces = found["lost"][1]["pieces"]
    assert [(p["text"], p["kind"], p.get("fate", "")) for p in pieces if p["kind"]] == [
        ("Angela Merkel", "person", ""), ("Rolling Stones", "group", "gone"), ("Paris", "location", ""),
    ]  # fmt: skip
    assert " ".join(p["text"] for p in pieces) == " ".join(evidence["spans"]["lost"][1]["words"])
    assert [one["right"] for one in found["lost"][1]["says"][1][2]] == [True, False, True]
    assert "entity F1" in report.html(run, evidence)


def test_neighbours_that_only_one_has_are_marked() -> None:
    found = neighbours.section(read({}), OTHERS["neighbours"]()[1])
    assert [(cosine, alone) for _, cosine, alone in found[0]["sides"][0][2]] == [("0.91", k == 2) for k in range(3)]
    assert [(cosine, alone) for _, cosine, alone in found[1]["sides"][1][2]] == [("", k == 1) for k in range(3)]
    assert [one["shared"] for one in found[:2]] == ["4 of the ten nearest are the same", ""]


def test_answers_that_stayed_are_left_out_and_the_text_is_cut_around_the_answer() -> None:
    found = questions.section(read({}), OTHERS["questions"]()[1])
    assert len(found) == 2
    assert found[0]["found"] == "Ralph Freeman"
    assert found[0]["before"].startswith("…")
    assert len(found[0]["before"]) == 171
    assert found[0]["before"].endswith("It was designed by ")
    assert found[1]["says"][2][2] == []
    assert found[1]["found"] == ""


ROWS = {
    "scores": [{"sentence1": str, "sentence2": str}],
    "several": [str],
    "spans": [str],
    "questions": [{"question": str, "context": str}],
}


@pytest.mark.parametrize("name", ROWS)
def test_the_card_shows_the_right_row(name: str) -> None:
    run, _ = OTHERS[name]()
    card = report.card(run)
    rows = ast.literal_eval(re.findall(r"predict\((.*)\)\)", card)[0])
    assert [{k: type(v) for k, v in row.items()} if isinstance(row, dict) else type(row) for row in rows] == ROWS[name]
    line = json.loads(re.findall(r"echo '(.*)' \|", card)[0])
    assert list(line) == run["fields"]


def test_the_card_says_what_comes_back_and_where_it_ends() -> None:
    card = report.card(OTHERS["scores"]()[0])
    assert "comes back with `score`, on the scale of the data." in card
    assert "| artefact | 0.857 | 0.845 to 0.869 |" in card
    assert "a Pearson correlation of 0.962 (95 % interval 0.950 to 0.974)" in card
    for wrong in ("ECE", "one of its labels", "Labels (", "classes", "teacher’s answer"):
        assert wrong not in card
    card = report.card(OTHERS["several"]()[0])
    assert "comes back with `labels`, those whose probability" in card
    assert "Weakest labels, by F1: grain (84.0 %)" in card
    assert "ECE" in card
    old = copy.deepcopy(OTHERS["scores"]()[0])
    del old["answer"], old["fields"]
    assert "`score`" in report.card(old), "a run.json from before it said its answer"


def test_the_summary_writes_correlations_as_they_are() -> None:
    lines = report.summary(OTHERS["scores"]()[0]).splitlines()
    assert lines[0] == "BEATS  Distilling paid off: the student beats its twin by 2.0 points of Spearman correlation."
    assert max(map(len, lines)) <= 100
    assert next(line for line in lines if line.startswith("artefact")).split()[1:5] == ["0.857", "0.845", "to", "0.869"]
    assert "97.6 % of the teacher’s Spearman correlation kept" in lines


def test_the_card_of_a_table_names_its_columns_and_nothing_that_a_shell_reads() -> None:
    run = OTHERS["scores"]()[0] | {"task": "tabular-regression", "fields": ["age", "it's; rm", "city", NASTY]}
    card = report.card(run)
    assert """echo '{"age": "...", "city": "..."}' |""" in card
    assert "tokenizers" not in card
    del run["answer"]
    assert "`score`" in report.card(run)


def test_a_decoder_is_beside_its_teacher_and_writes() -> None:
    run, evidence = OTHERS["speech"]()
    found = speech.section(read(run), evidence)
    assert found is not None
    assert [row[1] for row in found["beside"]] == ["twin", "student", "student before its training"]
    assert found["beside"][1][2] == "0.21 (0.198 to 0.222)"
    assert [row[0] for row in found["written"]] == ["data", "teacher", "twin", "student"]
    assert found["written"][0][2:] == ("–", "31.5", "100.0\u00a0%", "–")
    assert [right for _, _, right in found["shown"][0]["lines"]] == [None, True, False]
    run["language"]["written"] = None
    again = speech.section(read(run), {})
    assert again is not None
    assert (again["written"], again["shown"]) == ([], [])
    assert "What they write" not in report.html(run, {})
    assert speech.section(read({}), evidence) is None
