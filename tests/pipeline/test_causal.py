"""A decoder distilled from texts, or from prompts and completions, to a folder that any program opens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.decoders import saved, tokenizer_of
from tests.pipeline import corpus_data
from tests.pipeline.test_interrupted import Enough, Listener
from tests.pipeline.test_tasks import QUICK

from understudy import runtime
from understudy.statistics import METRICS
from understudy.targets.packing import bytes_per_position

TASK = "causal-lm"
DIALS = {
    **QUICK, "student.family": "cut", "student.layers": 1, "train.epochs": 3, "train.learning_rate": 5e-3,
    "teacher.fine_tune": "always", "teacher.epochs": 8, "teacher.learning_rate": 1e-2,
}  # fmt: skip

WRITING = {"objective.on_policy_share": 0.5, "objective.rollout_tokens": 5}


def recipe_of(data: Path, teacher: Path, **dials: Any) -> Any:
    from understudy.pipeline.recipe import load_recipe

    return load_recipe(options={"data.path": str(data), "teacher.path": str(teacher), **DIALS, **dials})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_data.write(tmp_path_factory.mktemp("corpus") / "data")


@pytest.fixture(scope="module")
def tokenizer(corpus: Path) -> Any:
    return tokenizer_of(json.loads(line)["text"] for line in (corpus / "train.jsonl").read_text().splitlines())


@pytest.fixture(scope="module")
def teacher(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("gpt2", tokenizer, tmp_path_factory.mktemp("teacher") / "gpt2", layers=2)


@pytest.fixture(scope="module")
def finished(corpus: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from understudy.pipeline import distill

    return distill(recipe_of(corpus, teacher), tmp_path_factory.mktemp("runs") / "run")


def test_from_texts_to_a_smaller_decoder(finished: Any) -> None:
    facts = finished.facts
    assert facts["task"] == TASK  # said by the teacher's folder
    assert any("the teacher is a GPT2LMHeadModel" in note for note in facts["notes"])
    losses = {name: one["metrics"]["token_loss"]["value"] for name, one in facts["models"].items()}
    assert losses["teacher"] < losses["baseline"] - 0.5
    assert losses["student"] < losses["baseline"] - 0.5
    assert losses["artefact"] == pytest.approx(losses["student"], abs=0.05)
    assert [one["name"] for one in facts["baselines"]] == ["unigrams"]
    for one in facts["models"].values():
        found = {name: value["value"] for name, value in one["metrics"].items()}
        assert found["perplexity"] == pytest.approx(np.exp(found["token_loss"]))
        assert 0 < found["bits_per_byte"] < 8
    assert facts["comparison"]["direction"] == "lower"
    assert facts["comparison"]["retention"] == pytest.approx(losses["teacher"] / losses["artefact"])
    assert [term["name"] for term in facts["objective"]] == ["soft_tokens", "hard_tokens"]
    assert "less is better" in finished.summary()
    beside = facts["language"]["beside"]
    assert 0 < beside["student"]["token_kl"]["value"] < beside["before"]["token_kl"]["value"]
    assert beside["student"]["token_agreement"]["value"] > beside["before"]["token_agreement"]["value"]
    said = facts["language"]
    assert said["written"] is None  # plain texts have no prompts
    assert said["beside"]["student"]["token_kl"]["value"] < said["beside"]["before"]["token_kl"]["value"]


def test_the_student_is_an_ordinary_decoder(finished: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = finished.folder / "student"
    assert not [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.config.num_hidden_layers == 1
    inputs = tokenizer("my card", return_tensors="pt")
    with torch.no_grad():
        said = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert said.shape[1] > inputs["input_ids"].shape[1]


def test_the_artefact_says_how_likely_texts_are(finished: Any, corpus: Path) -> None:
    assert all(gate["passed"] for gate in finished.facts["verdict"]["gates"])
    rows = [json.loads(line) for line in (corpus / "test.jsonl").read_text().splitlines()]
    predictor = runtime.load(finished.folder)
    found = METRICS["token_loss"].function(np.zeros((len(rows), 1), np.int64), predictor.logits(rows))
    assert found == pytest.approx(finished.facts["models"]["artefact"]["metrics"]["token_loss"]["value"], abs=0.02)
    likely, odd = predictor.predict([rows[0], {"text": "zq xx zq jj qq"}])
    assert likely["loss"] < odd["loss"]
    assert likely["bits_per_byte"] > 0


def test_prompts_with_completions_and_a_llama(tokenizer: Any, corpus: Path, tmp_path: Path) -> None:
    """Another family, narrower, learnt by adapters, no twin better than chance needed: only completions count."""
    from understudy.pipeline import distill

    texts = [json.loads(line)["text"].split() for line in (corpus / "train.jsonl").read_text().splitlines()]
    rows = [{"prompt": " ".join(one[:3]), "completion": " " + " ".join(one[3:6])} for one in texts]
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    folder = saved("llama", tokenizer, tmp_path / "llama", layers=2)
    terms = [
        {"soft_tokens": {"divergence": {"jensen_shannon": {"beta": 0.5}}}},
        {"hidden_states": {"layers": "last"}},
        {"hard_tokens": {"weight": 0.5}},
    ]
    narrow = {
        "student.layers": 2,
        "student.width": 16,
        "student.heads": 2,
        "student.feed_forward": 40,
        "student.lora": 4,
    }
    dials = {"train.epochs": 1, "teacher.fine_tune": "auto", "objective.terms": terms, "evaluation.written_rows": 9}
    run = distill(recipe_of(data, folder, **dials, **narrow, **WRITING), tmp_path / "run")
    _the_student_wrote(run)
    _what_is_said_is_told(run)
    assert run.facts["task"] == TASK
    assert run.facts["fields"] == ["prompt", "completion"]
    assert {"prompt", "completion", "loss"} <= set(runtime.load(run.folder).predict([rows[0]])[0])
    inherited = run.facts["models"]["student"]["inheritance"]
    assert "16 of 32 channels (copied)" in inherited["sentence"]
    assert "activations on" in inherited["chosen_by"]
    student, twin = (load_file(run.folder / role / "model.safetensors") for role in ("student", "twin"))
    alike = {name for name, value in student.items() if torch.equal(value, twin[name])}
    assert not any("lora" in name for name in student)
    assert {name for name in student if "_proj" not in name} == alike  # maps of layers learnt, from one start


def _what_is_said_is_told(run: Any) -> None:
    """Token by token beside the teacher, before and after; and texts of a few test prompts, with a section each."""
    said = run.facts["language"]
    assert said["rows"] == run.facts["data"]["test"]["rows"]
    assert set(said["beside"]) == {"student", "twin", "before"}
    kl = {name: one["token_kl"]["value"] for name, one in said["beside"].items()}
    assert min(kl.values()) > 0
    assert all(0 <= one["token_agreement"]["value"] <= 1 for one in said["beside"].values())
    wrote = said["written"]
    assert (wrote["rows"], set(wrote["models"])) == (9, {"teacher", "student", "twin"})
    for one in wrote["models"].values():
        assert 0 <= one["exact_match"]["low"] <= one["exact_match"]["high"] <= 1
        assert 0 <= one["ended"] <= 1
        assert one["tokens"] <= wrote["longest"] == 128
    assert wrote["data"]["ended"] == 1.0
    shown = json.loads((run.folder / "evidence.json").read_text())["written"]
    assert len(shown) == 9
    assert set(shown[0]) == {"prompt", "data", "teacher", "student"}
    page = (run.folder / "report.html").read_text()
    assert "Token by token" in page
    assert "What they write" in page


def _the_student_wrote(run: Any) -> None:
    """Some of its batches, whose time is told; the twin wrote none."""
    cost = run.facts["cost"]
    assert 0 < cost["rollout_seconds"] < cost["train_seconds"]
    learnt = {role: json.loads((run.folder / "stages" / f"train-{role}-0.json").read_text())["facts"]
              for role in ("student", "twin")}  # fmt: skip
    assert learnt["student"]["rollout_seconds"] == cost["rollout_seconds"]
    assert learnt["twin"]["rollout_seconds"] == 0.0
    (note,) = (note for note in learnt["student"]["notes"] if "the student wrote" in note)
    wrote, steps = re.findall(r"\d+", note)[:2]
    assert 0 < int(wrote) < int(steps) == learnt["student"]["steps"]
    assert not any("wrote" in note for note in learnt["twin"]["notes"])
    logged = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    (line,) = (line for line in logged if line["event"] == "rollouts")
    assert (line["role"], line["seconds"], line["text"]) == ("student", cost["rollout_seconds"], note)


def test_what_a_teacher_said_is_stored_and_learnt_from(
    corpus: Path, finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Heads and samples of tails in the place of a live teacher, in a few bytes; asked once for two runs."""
    from understudy.cli.app import run
    from understudy.pipeline import distill

    teacher = finished.folder / "student"
    dials = {
        "teacher.targets": "stored", "teacher.kept": 4, "teacher.drawn": 8, "teacher.fine_tune": "auto",
        "objective.temperature": 2.0, "train.epochs": 1, "store": str(tmp_path / "store"),
    }  # fmt: skip
    found = distill(recipe_of(corpus, teacher, **dials), tmp_path / "one")
    assert [term["name"] for term in found.facts["objective"]] == ["sampled_tokens", "hard_tokens"]
    assert found.facts["cost"]["teacher_calls"] == found.facts["data"]["train"]["rows"]
    (folder,) = (tmp_path / "store" / "targets").iterdir()
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert held < 80 * 20 * found.facts["data"]["train"]["rows"]
    terms = [{"sampled_tokens": {"divergence": "reverse_kl"}}, {"hard_tokens": {"weight": 0.2}}]
    other = recipe_of(corpus, teacher, **dials, **WRITING, **{"objective.terms": terms})
    mixed = distill(other, tmp_path / "two")
    assert mixed.facts["cost"]["teacher_calls"] == 0  # on what the student wrote it is asked live
    _the_student_wrote(mixed)
    asked = ["--json", "--rows", "8"]
    assert run(["targets", "verify", str(tmp_path / "one"), *asked]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["rows"], again["unit"], again["same_weights"]) == (8, "nats", True)
    assert again["max_error"] < 0.01 < again["tolerance"]
    assert run(["targets", "stats", str(tmp_path / "one"), "--json"]) == 0
    held_now = json.loads(capsys.readouterr().out)
    assert held_now["bytes"] == held
    assert held_now["rows"] == found.facts["data"]["train"]["rows"]
    assert held_now["bytes_per_token"] > bytes_per_position(256, k=4, n=8)
    mass = held_now["head_mass"]
    assert 0 < mass["p5"] <= mass["p50"] <= mass["p95"] <= 1
    assert mass["p5"] < mass["mean"] < mass["p95"]
    assert held_now["log_p_error"] < 0.01
    short = recipe_of(corpus, teacher, **dials, **{"teacher.log_p_bits": 8})
    with pytest.raises(Enough):
        distill(short, tmp_path / "eight", progress=Listener("train-student-0"))
    (other_store,) = {*(tmp_path / "store" / "targets").iterdir()} - {folder}
    assert run(["targets", "stats", str(other_store), "--json"]) == 0
    small = json.loads(capsys.readouterr().out)
    assert small["rows"] == held_now["rows"]
    vocabulary = int(small["identity"]["vocabulary"])
    sizes = [bytes_per_position(vocabulary, k=4, n=8, eight_bits=bits) for bits in (False, True)]
    assert held - small["bytes"] == pytest.approx(small["tokens"] * (sizes[0] - sizes[1]), abs=64)
    assert (small["log_p_bits"], small["log_p_lowest"]) == (8, -20)
    assert 0.07 < small["log_p_error"] < 0.08
    named = ["--task", TASK, "--teacher", str(teacher), "--data", str(corpus), "--out", str(tmp_path / "three")]
    sets = [part for key, value in dials.items() for part in ("--set", f"{key}={value}")]
    sets += ["--set", "objective.on_policy_share=.5"]
    assert run(["check", *named, "--student", "cut", *sets]) == 0
    told = capsys.readouterr()
    assert "sampled_tokens" in told.out
    assert "in which the student writes" in told.out + told.err
    _look_at_what_is_wrong(tmp_path / "one", folder, teacher, capsys)


def _look_at_what_is_wrong(run_folder: Path, store: Path, teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A teacher that learnt something else, one that went away, a shard that lost a byte: one line, and its code."""
    from safetensors.torch import load_file, save_file

    from understudy.cli.app import run

    weights, moved = teacher / "model.safetensors", teacher.with_name("moved")
    kept = load_file(weights)
    save_file({name: 1.5 * value for name, value in kept.items()}, weights, metadata={"format": "pt"})
    assert run(["targets", "verify", str(run_folder)]) == 3
    assert "another teacher's targets" in capsys.readouterr().err
    teacher.rename(moved)
    assert run(["targets", "verify", str(run_folder)]) == 4
    assert capsys.readouterr().err.count("\n") == 1
    moved.rename(teacher)
    save_file(kept, weights, metadata={"format": "pt"})
    assert run(["targets", "stats", str(store)]) == 0
    assert "mass of the head" in capsys.readouterr().out
    shard = next(store.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert run(["targets", "stats", str(store)]) == 3
    assert "is corrupt" in capsys.readouterr().err
    assert shard.exists()  # it looks, and changes nothing
    assert run(["targets", "stats", str(run_folder.parent)]) == 3
    assert "is neither a run nor" in capsys.readouterr().err
    assert run(["targets", "verify", str(run_folder)]) == 3
    assert "is corrupt" in capsys.readouterr().err
    (store / "manifest.json").write_text("{}")
    assert run(["targets", "stats", str(store)]) == 3
    assert "is not the manifest" in capsys.readouterr().err


def test_only_a_language_model_writes() -> None:
    from understudy.errors import RecipeError
    from understudy.pipeline.recipe import load_recipe
    from understudy.pipeline.written import refuse_rollouts

    named = {"data.path": "d", "teacher.path": "t", "student.family": "static", "task": "text-classification"}
    said = {**named, "objective.on_policy_share": 0.5}
    with pytest.raises(RecipeError, match="text-classification writes no text"):
        refuse_rollouts(load_recipe(options=said))


def test_how_many_prompts_lose_their_beginning_is_said(teacher: Path, tmp_path: Path) -> None:
    from understudy.pipeline import check

    rows = [
        {"prompt": f"{number} my card " * (1 + number // 30 * 60), "completion": " is lost"} for number in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes = check(recipe_of(tmp_path / "rows.jsonl", teacher, task=TASK), tmp_path / "run")["notes"]
    (said,) = (note for note in notes if "are read up to" in note)
    assert re.search(r"up to 64 sub-word tokens; \d+ of 32 training rows are longer and lose the beginning", said)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--set", "teacher.targets=stored", "--set", "objective.terms=[soft_tokens: {}]"], "use sampled_tokens"),
        (["--set", "teacher.targets=live", "--set", "objective.terms=[sampled_tokens: {}]"], "teacher.targets=stored"),
        (["--set", "teacher.targets=stored", "--temperature", "auto"], "stored at one temperature"),
        (["--set", "teacher.targets=stored", "--set", "teacher.kept=9999"], "tokens of the teacher"),
        (["--set", "student.vocabulary=50"], "shares a tokenizer"),
        (["--student", "static"], "cannot do causal-lm"),
        (["--metric", "accuracy"], "token_loss"),
        (["--set", "student.lora=2", "--set", "student.initialise=false"], "correct weights that were learnt"),
        (["--set", "objective.rollout_tokens=9"], "set on_policy_share too"),
        (["--set", "objective.on_policy_share=.5", "--alpha", "1"], "nothing in the objective listens"),
    ],
)
def test_bad_input_is_one_line(
    more: list[str], says: str, corpus: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from understudy.cli.app import run

    named = ["--task", TASK, "--teacher", str(teacher), "--data", str(corpus), "--out", str(tmp_path / "run")]
    assert run(["check", *named, *([] if "--student" in more else ["--student", "cut"]), *more]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert says in said[-1]
    assert not any("Traceback" in line for line in said)
