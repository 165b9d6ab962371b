"""``student: auto``: the most capable student within the limits, found before anything is trained, and kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from understudy.cli.app import run
from understudy.errors import RecipeError
from understudy.pipeline import check, choosing, distill_models, stage
from understudy.pipeline.recipe import Recipe, load_recipe

from .test_main_job import Enough, Until, complete, distilled_until, facts_of, recipe_of, stage_facts, weights

LOOKUPS = {"export.bits": 4, "export.max_mb": 0.2}  # nothing but a lookup has 4 bits, so no graph is exported


def auto(finished: Any, **more: Any) -> Recipe:
    """A recipe on the rows and with the teacher of the finished run."""
    named = {"teacher.path": str(finished.teacher), "data.path": str(finished.data), "student.family": "auto"}
    quick = {"train.epochs": 3, "objective.temperature": 2, "train.learning_rate": 3e-2}
    gates = {"evaluation.latency_rows": 20, "export.max_drop": 5}  # of 80 validation rows one is 1.25 points
    return load_recipe(options={**named, **quick, **gates, **more})


def refusal(recipe: Recipe, out: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        check(recipe, out)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def chosen(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run whose student only a limit decided, and its call."""
    runs = tmp_path_factory.mktemp("chosen")
    shutil.copytree(finished.folder.parent / ".store", runs / ".store")
    call = ["distill", "--teacher", str(finished.teacher), "--data", str(finished.data), "--student", "auto"]
    call += ["--max-mb", "0.2", "--max-drop", "5", "--epochs", "8", "--temperature", "2", "--out", str(runs / "auto")]
    call += ["--set", "train.learning_rate=3e-2", "--set", "evaluation.latency_rows=20", "--set", "export.bits=4"]
    assert run(call) == 0
    return runs / "auto", call


def test_without_limits_it_is_the_first_candidate(finished: Any, tmp_path: Path) -> None:
    found = check(auto(finished), tmp_path / "run")
    assert found["choice"]["chosen"] == {"student.family": "cut"}
    assert [one["fits"] for one in found["choice"]["candidates"]] == [True]
    (why,) = [note for note in found["notes"] if note.startswith("student auto chose cut to half of the layers")]
    assert why.endswith("the most capable candidate, since neither --max-mb nor --max-ms is said")
    assert found["sizes"]["student"]["parameters"] < found["sizes"]["teacher"]["parameters"]
    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_only_a_lookup_meets(chosen: tuple[Path, list[str]]) -> None:
    out, _ = chosen
    complete(out)
    facts = facts_of(out)
    assert facts["choice"]["chosen"] == {
        "student.family": "ngram", "student.dimensions": 32, "student.buckets": 16_384, "export.bits": 4,
    }  # fmt: skip
    fates = {one["name"]: bool(one["skipped"]) for one in facts["choice"]["candidates"] if not one["fits"]}
    assert list(fates.values()) == [True, True, True, True, False, False]
    assert facts["choice"]["why"] in facts["notes"]
    assert "passed over: 2 too large or slow and 4 that cannot be made here" in facts["choice"]["why"]
    assert "Why this student" in (out / "report.html").read_text()
    gates = {gate["name"]: gate for gate in facts["verdict"]["gates"]}
    assert gates["size (MB)"]["passed"]
    before_training = facts["choice"]["candidates"][-1]["bytes"]
    assert before_training == pytest.approx(1e6 * gates["size (MB)"]["value"], abs=50)  # digits of numbers in JSON
    decided = yaml.safe_load((out / "recipe.yaml").read_text())
    assert (decided["student"]["family"], decided["student"]["buckets"]) == ("ngram", 16_384)
    assert (decided["export"]["bits"], decided["train"]["batch_size"]) == (4, 64)
    assert yaml.safe_load((out / "stages" / "asked.yaml").read_text())["student"]["family"] == "auto"


def test_what_was_chosen_learns_as_if_it_had_been_named(
    chosen: tuple[Path, list[str]], finished: Any, tmp_path: Path
) -> None:
    shutil.copytree(chosen[0].parent / ".store", tmp_path / ".store")
    named = load_recipe(chosen[0] / "recipe.yaml")
    distilled_until("train-twin-0", named, tmp_path / "named")
    ours, theirs = weights(chosen[0] / "student"), weights(tmp_path / "named" / "student")
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == value).all() for name, value in theirs.items())


def test_a_run_keeps_its_student(
    chosen: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Path(shutil.copytree(chosen[0].parent, tmp_path / "runs"))
    call = list(chosen[1])
    call[call.index("--out") + 1] = str(runs / "auto")

    def never(*_: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(choosing, "choose", never)
    assert run(call) == 0
    assert {one["name"]: one["status"] for one in facts_of(runs / "auto")["stages"]}["choose"] == "reused"
    assert "student auto chose ngram" in capsys.readouterr().err
    assert run(["compare", str(chosen[0]), str(runs / "auto")]) == 0
    with pytest.raises(Enough):  # what is said goes before what was chosen
        stage("export", runs / "auto", changes={"export.bits": 8}, progress=Until("evaluate"))
    assert [rung["rung"] for rung in stage_facts(runs / "auto", "export")["ladder"]] == ["fp32", "int8"]
    assert stage_facts(runs / "auto", "choose")["why"].endswith("; export.bits was made 8 since")
    with pytest.raises(Enough):
        stage("train", runs / "auto", progress=Until("train-twin-0"))
    assert yaml.safe_load((runs / "auto" / "recipe.yaml").read_text())["student"]["buckets"] == 16_384


def test_impossible_limits_are_one_line_and_block_nothing(
    finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs" / "auto"
    call = ["distill", "--teacher", str(finished.teacher), "--data", str(finished.data), "--student", "auto"]
    assert run([*call, "--max-mb", "0.001", "--set", "evaluation.latency_rows=20", "--out", str(out)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("understudy: student auto: no candidate keeps within 0.001 MB (2 % to spare): the small")
    assert "ngram of 4,096 entries in 4 bits (0.0215 MB and p95 0." in said[-1]
    assert "fastest" in said[-1]
    (cut,) = [line for line in said if line.startswith("  cut to half of the layers: ")]
    assert cut.endswith("over 0.001 MB (2 % to spare)")
    assert not list(tmp_path.rglob("*.safetensors"))
    listener = distilled_until("teach", auto(finished, **LOOKUPS), out)
    assert "choose" in listener.stages


def test_a_choice_binds_nobody_before_there_is_a_teacher(finished: Any, tmp_path: Path) -> None:
    first, larger = auto(finished, **LOOKUPS), auto(finished, **{**LOOKUPS, "export.max_mb": 1})
    out = tmp_path / "runs" / "auto"
    assert "choose" in distilled_until("teach", first, out).stages
    assert "choose" not in distilled_until("teach", first, out).stages
    assert stage_facts(out, "choose")["chosen"]["student.family"] == "ngram"
    assert "choose" in distilled_until("teach", larger, out).stages
    assert stage_facts(out, "choose")["chosen"]["student.dimensions"] == 64


def test_a_dial_that_does_not_go_with_the_choice_leaves_the_run_as_it_was(finished: Any, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "auto"
    distilled_until("teach", auto(finished), out)
    before = (out / "stages" / "asked.yaml").read_text()
    with pytest.raises(RecipeError, match="the student is a cut"):
        stage("export", out, changes={"export.bits": 4})
    assert (out / "stages" / "asked.yaml").read_text() == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"student.width": 8}, "student.width: student auto chooses family and sizes"),
        ({"student.layers": [0], "student.words": 9}, "student.layers, student.words: student auto"),
        ({"student.blocks": "depthwise"}, "student.blocks: student auto"),
        ({"student.exits": "all"}, "student.exits: student auto"),
        ({"steps": [{"name": "first"}]}, "steps: student auto chooses family and sizes of one student that learns al"),
        ({"peers": [{}]}, "peers: student auto"),
        ({"objective.terms": [{"shorthand": {}}, {"soft_label": {}}]}, 'no term "soft_label"'),
    ],
)
def test_what_does_not_go_with_it_is_refused(finished: Any, tmp_path: Path, more: Any, words: str) -> None:
    assert words in refusal(auto(finished, **more), tmp_path / "run")


def test_terms_that_a_candidate_cannot_give_skip_it(finished: Any, tmp_path: Path) -> None:
    terms = [{"shorthand": {}}, {"hidden_states": {"layers": "last"}}]
    found = check(auto(finished, **{"objective.terms": terms}), tmp_path / "run")
    assert found["choice"]["name"] == "cut to half of the layers"
    said = refusal(auto(finished, **LOOKUPS, **{"objective.terms": terms}), tmp_path / "run")
    assert said.startswith("student auto: no candidate can be made; cut to half of the layers: export.bits: 4 bits")


def test_other_dials_of_the_student_stay(finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listener = distilled_until("teach", auto(finished, **LOOKUPS, **{"student.feature_dropout": 0.3}), tmp_path / "r")
    assert "choose" in listener.stages
    call = ["check", "--teacher", str(finished.teacher), "--data", str(finished.data), "--student", "auto"]
    call += ["--max-mb", "0.2", "--set", "export.bits=4", "--set", "student.feature_dropout=0.3"]
    assert run(call) == 0
    said = capsys.readouterr().out.replace("\u00a0", " ")
    assert "ngram of 16,384 entries in 4 bits" in said
    assert "82.9 kB" in said
    assert "chosen" in said
    assert run([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["choice"]["chosen"]["student.family"] == "ngram"


def test_a_teacher_that_is_a_function_cannot_be_cut(finished: Any, tmp_path: Path) -> None:
    import numpy as np

    from understudy import teachers
    from understudy.pipeline.stages import load_splits

    recipe = auto(finished)
    rows = load_splits(recipe)[1]

    def guess(texts: list[str]) -> Any:
        return np.tile(np.log([0.1, 0.2, 0.3, 0.4]), (len(texts), 1))

    listener = Until("teach")
    teacher = teachers.function(guess, fields=("text",))
    with pytest.raises(Enough):
        distill_models(teacher, rows, recipe, tmp_path / "run", progress=listener)
    assert stage_facts(tmp_path / "run", "choose")["chosen"] == {"student.family": "gru"}
    assert [line for line in listener.said if line.startswith("cut to half of the layers cannot be made here: ")]


def test_images(tmp_path: Path) -> None:
    options = {"data.path": "digits", "teacher.path": "cnn", "student.family": "auto", "export.max_mb": 0.02}
    found = check(load_recipe(options={**options, "evaluation.latency_rows": 20}), tmp_path / "run")["choice"]
    assert found["chosen"] == {"student.family": "cnn", "student.width": 8}
    equal, over, fits = found["candidates"]
    assert equal["skipped"] == "65,834 parameters are no fewer than the teacher's 65,834"
    assert over["bytes"] > 20_000 > fits["bytes"]
    assert [one["fits"] for one in found["candidates"]] == [False, False, True]


def test_a_family_of_a_step_is_named(finished: Any, tmp_path: Path) -> None:
    changed = {"student__family": "static", "steps": [{"name": "first", "student": {"family": "auto"}}]}
    assert 'student "auto" cannot do text-classification' in refusal(recipe_of(finished, **changed), tmp_path / "run")
