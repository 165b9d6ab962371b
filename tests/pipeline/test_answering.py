"""Answering questions, from files to an artefact: trained for real, exported, and asked without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline import answering_data
from tests.pipeline.test_tasks import QUICK

from understudy import runtime
from understudy.passages import Gold

CUT = {"student.family": "cut", "student.layers": 1, "train.epochs": 8, "objective.temperature": 2.0}
STATES = [{"shorthand": {}}, {"hidden_states": {"layers": "last", "weight": 0.1}}]
LINES = {
    "stored, views": ({**CUT, "data.views": 1}, 0.0),
    "live, windows, no answer": ({**CUT, "data.limit": 18, "teacher.targets": "live", "objective.terms": STATES}, 0.3),
}


def distilled(dials: dict[str, Any], bare: float, teacher: Path, out: Path) -> Any:
    from understudy.pipeline import distill
    from understudy.pipeline.recipe import load_recipe

    data = answering_data.write(out / "data", unlabelled=30, bare=bare)
    options = {
        "data.path": str(data),
        "teacher.path": str(teacher),
        "store": str(teacher.with_name("store")),
        **QUICK,
        "teacher.epochs": 10,
        **dials,
    }
    return distill(load_recipe(options=options), out / "run")


@pytest.mark.parametrize(("dials", "bare"), LINES.values(), ids=LINES)
def test_questions_from_files_to_an_artefact(
    dials: dict[str, Any], bare: float, tiny_encoder: Path, tmp_path: Path
) -> None:
    run = distilled(dials, bare, tiny_encoder, tmp_path)
    facts = run.facts
    assert facts["task"] == "question-answering"
    assert facts["comparison"]["metric"] == "span_f1"
    models = facts["models"]
    reached = {name: models[name]["metrics"]["span_f1"]["value"] for name in ("teacher", "student", "artefact")}
    assert min(reached.values()) > 0.7, reached
    assert reached["artefact"] == pytest.approx(reached["student"], abs=0.05)
    assert [one["name"] for one in facts["baselines"]] == ["opening_words", "nearest_words"]
    assert all(gate["passed"] for gate in facts["verdict"]["gates"])
    assert facts["comparison"]["per_class"] == []
    manifest = json.loads((run.folder / "artefact" / "understudy.json").read_text())
    assert [manifest["no_answer_above"]] == models["artefact"].get("thresholds", [0.0])
    assert ("thresholds" in models["teacher"]) == (bare > 0)
    looked_at(run.folder, facts, tmp_path / "data" / "test.jsonl")


def looked_at(folder: Path, facts: dict[str, Any], test: Path) -> None:
    """What run.json says of the artefact, from nothing but the artefact's own words; and what evidence.json shows."""
    rows = [json.loads(line) for line in test.read_text().splitlines()]
    said = runtime.load(folder).predict([{key: row[key] for key in ("question", "context")} for row in rows])
    scores = []
    for row, one in zip(rows, said, strict=True):
        gold = Gold.of(row["context"], row["answers"]["text"], row["answers"]["answer_start"])
        exact = any(one["answer"] == text for text in gold.texts or ("",))
        scores.append(exact)
        assert 0 <= one["probability"] <= 1
        if one["answer"]:
            assert row["context"][one["start"] : one["end"]] == one["answer"]
        else:
            assert one["start"] is one["end"] is None
    wanted = facts["models"]["artefact"]["metrics"]["span_em"]["value"]
    assert np.mean(scores) == pytest.approx(wanted, abs=0.02)
    for one in json.loads((folder / "evidence.json").read_text())["answers"]:
        assert one["teacher"] != one["artefact"]
        assert all(text in one["context"] for text in (*one["gold"], one["teacher"] or "", one["artefact"] or ""))


def test_the_command_line_knows_questions(
    tiny_encoder: Path, tiny_bert: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from understudy.cli.app import run
    from understudy.pipeline.init import init

    data = answering_data.write(tmp_path / "data", bare=0.2)
    said = init(str(data))
    assert "task: question-answering" in said
    assert "family: cut" in said
    assert "words of an answer: median 1, longest 2" in said
    named = ["--data", str(data), "--out", str(tmp_path / "run"), "--student"]
    teacher = ["--teacher", str(tiny_encoder)]
    assert run(["check", *teacher, *named, "cut"]) == 0
    assert "teacher and student read the same passages" in " ".join(capsys.readouterr().out.split())
    assert run(["check", *teacher, *named, "static"]) == 2
    capsys.readouterr()
    other = ["--teacher", str(tiny_bert()), "--set", "teacher.fine_tune=never"]
    assert run(["check", *other, *named, "cut"]) == 4
    assert "answers no questions" in capsys.readouterr().err
    row = {"question": "what?", "context": "now snow", "answers": {"text": ["snow"], "answer_start": [3]}}
    with (data / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    assert run(["check", *teacher, *named, "cut"]) == 3
    told = capsys.readouterr().err
    assert "row 121" in told
    assert "but at 4" in told
    assert "Traceback" not in told


def test_a_model_that_was_trained_elsewhere_is_taken_as_it_is(tiny_tokenizer: Any, tmp_path: Path) -> None:
    import torch
    from tests.conftest import _config
    from transformers import BertForQuestionAnswering

    from understudy.teachers import open_teacher

    torch.manual_seed(3)
    model = BertForQuestionAnswering(_config(tiny_tokenizer)).eval()
    model.save_pretrained(tmp_path / "theirs")
    tiny_tokenizer.save_pretrained(tmp_path / "theirs")
    teacher = open_teacher(tmp_path / "theirs", task="question-answering", label_names=("start", "end"))
    assert not teacher.fresh_head
    rows = {"question": ["what now?"], "context": ["my flight, today"]}
    said = teacher.scores(rows)[0]
    inputs = tiny_tokenizer("what now?", "my flight, today", return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        theirs = model(**inputs)
    first = inputs["token_type_ids"][0].tolist().index(1)
    places = [0, first, first + 1, first + 2, first + 3]  # no answer, my, flight, the comma, today
    np.testing.assert_allclose(said[:, 0], theirs.start_logits[0, places].numpy(), atol=1e-5)
    np.testing.assert_allclose(said[:, 1], theirs.end_logits[0, places].numpy(), atol=1e-5)
