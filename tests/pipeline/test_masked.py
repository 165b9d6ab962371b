"""Task-agnostic distillation, from texts to a smaller encoder that any program opens."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.pipeline import corpus_data
from tests.pipeline.test_interrupted import Enough, Listener
from tests.pipeline.test_tasks import QUICK

from understudy import runtime, students
from understudy.errors import RecipeError
from understudy.statistics import METRICS

TASK = "masked-language-model"
DIALS = {
    **QUICK, "task": TASK, "student.family": "cut", "student.layers": 1, "train.epochs": 12,
    "teacher.epochs": 25, "teacher.learning_rate": 1e-2, "train.learning_rate": 5e-3,
}  # fmt: skip


def recipe_of(data: Path, teacher: Path, name: str | None = None, **dials: Any) -> Any:
    from understudy.pipeline.recipe import load_recipe

    options = {"data.path": str(data), "teacher.path": str(teacher), **DIALS, **dials}
    return load_recipe(*([name] if name else []), options=options)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_data.write(tmp_path_factory.mktemp("corpus") / "data")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all runs, so that the head is trained once."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def finished(corpus: Path, store: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run with the recipe of DistilBERT."""
    from understudy.pipeline import distill

    return distill(
        recipe_of(corpus, tiny_encoder, "distilbert", store=str(store)), tmp_path_factory.mktemp("runs") / "run"
    )


def test_from_texts_to_a_smaller_encoder(finished: Any) -> None:
    facts = finished.facts
    assert facts["task"] == TASK
    models = facts["models"]
    losses = {name: models[name]["metrics"]["masked_loss"]["value"] for name in models}
    assert losses["teacher"] < losses["baseline"] - 0.5
    assert losses["artefact"] < losses["baseline"] - 0.5
    assert losses["artefact"] == pytest.approx(losses["student"], abs=0.05)
    assert [one["name"] for one in facts["baselines"]] == ["unigrams"]
    assert all(gate["passed"] for gate in facts["verdict"]["gates"])
    assert "less is better" in finished.summary()


def test_less_is_better_everywhere(finished: Any) -> None:
    facts = finished.facts
    comparison = facts["comparison"]
    losses = {name: facts["models"][name]["metrics"]["masked_loss"]["value"] for name in facts["models"]}
    assert comparison["direction"] == "lower"
    assert comparison["retention"] == pytest.approx(losses["teacher"] / losses["artefact"])
    assert comparison["difference"]["value"] == pytest.approx(losses["student"] - losses["twin"])
    better = {"BEATS": comparison["difference"]["high"] < 0, "HARMS": comparison["difference"]["low"] > 0}
    assert better.get(facts["verdict"]["distillation"], True)
    curves = json.loads((finished.folder / "evidence.json").read_text())["curves"]["student"]
    assert min(epoch["validation"] for epoch in curves) < curves[0]["validation"]


def test_the_student_is_an_ordinary_encoder(finished: Any, tmp_path: Path) -> None:
    """What transformers opens is the trained student, its head included, and nothing in it says otherwise."""
    from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

    from understudy.encoding import load_encoder
    from understudy.teachers import open_teacher, score_rows

    folder = finished.folder / "student"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    base, told = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert all("pooler" in name for name in told["missing_keys"])
    inputs = tokenizer(["my card [MASK]", "when is the flight"], padding=True, return_tensors="pt")
    with torch.no_grad():
        ours = model.base_model(**inputs).last_hidden_state
        assert torch.equal(ours, base.eval()(**inputs).last_hidden_state)
    again = open_teacher(folder, task=TASK, label_names=())
    assert not again.fresh_head
    texts, predictor = ["my card please", "the flight when i want"], runtime.load(finished.folder)
    encoder = load_encoder(finished.folder / "artefact", predictor.manifest["encoder"])
    whole, shipped = score_rows(again.model, encoder, {"text": texts}), predictor.logits(texts)
    assert (whole[:, 0] == shipped[:, 0]).all()
    assert np.abs(whole - shipped).max() < 1.0  # INT8 beside fp32, sums of a text


def test_the_artefact_says_losses_and_fills_masks(finished: Any, corpus: Path) -> None:
    rows = [json.loads(line) for line in (corpus / "test.jsonl").read_text().splitlines()]
    predictor = runtime.load(finished.folder)
    found = METRICS["masked_loss"].function(np.zeros((len(rows), 1), np.int64), predictor.logits(rows))
    assert found == pytest.approx(finished.facts["models"]["artefact"]["metrics"]["masked_loss"]["value"], abs=0.02)
    said = predictor.predict(["refund please charge [MASK] invoice me", "my card"])
    assert len(said[0]["filled"]) == 1
    shares = [one["probability"] for one in said[0]["filled"][0]]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1
    assert said[1]["filled"] == []
    assert all(one["loss"] > 0 for one in said)


def test_the_recipe_of_minilm_and_an_interruption(
    corpus: Path, store: Path, tiny_encoder: Path, finished: Any, tmp_path: Path
) -> None:
    """Relations of the last layer; stopped in the middle, the same call ends in the same weights, bit for bit."""
    from understudy.errors import Interrupted
    from understudy.pipeline import distill

    dials = {"store": str(store), "train.epochs": 2}

    def call(out: Path, listener: Listener) -> None:
        distill(recipe_of(corpus, tiny_encoder, "minilm", **dials), out, progress=listener)

    class Stop(Listener):
        def advance(self, done: int, total: int, **facts: float | str) -> None:
            if self.current.startswith("train-student") and done == 9:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        call(tmp_path / "a", Stop("export"))
    for name in ("a", "b"):
        with pytest.raises(Enough):
            call(tmp_path / name, Listener("export"))
    for role in ("student", "twin"):
        files = [(tmp_path / name / role / "model.safetensors").read_bytes() for name in ("a", "b")]
        assert files[0] == files[1]
    assert (tmp_path / "a" / "student" / "tokenizer.json").is_file()


def test_the_student_is_fine_tuned_like_any_encoder(
    finished: Any, tiny_bert: Any, tiny_texts: Callable[..., tuple[list[str], list[int]]], tiny_labels: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    """The folder as the teacher of a run, and as what the student of another teacher starts from."""
    from understudy.pipeline import distill
    from understudy.pipeline.recipe import load_recipe
    from understudy.teachers import open_teacher

    folder = finished.folder / "student"
    loaded = open_teacher(folder, task="text-classification", label_names=tiny_labels, head="auto")
    assert loaded.fresh_head
    texts, ids = tiny_texts(200)
    lines = [json.dumps({"text": text, "label": tiny_labels[i]}) for text, i in zip(texts, ids, strict=True)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    dials = {
        **QUICK, "data.path": str(tmp_path / "train.jsonl"), "teacher.path": str(tiny_bert(steps=80)),
        "student.family": "cut", "student.folder": str(folder), "train.epochs": 1,
    }  # fmt: skip
    with pytest.raises(Enough):
        distill(load_recipe(options=dials), tmp_path / "run", progress=(heard := Listener("export")))
    assert any("starts from student: " in said for said in heard.said)
    student: Any = students.load(tmp_path / "run" / "student")
    assert student.config.num_hidden_layers == 1
    with pytest.raises(RecipeError, match="cut student is cut from"):
        distill(load_recipe(options={**dials, "student.family": "static"}), tmp_path / "other")


def test_the_task_is_said_by_the_teacher(finished: Any, corpus: Path, tiny_encoder: Path) -> None:
    from understudy.pipeline.stages import load_splits

    name, splits = load_splits(recipe_of(corpus, finished.folder / "student", task=None))
    assert name == TASK
    assert any("the teacher is a BertForMaskedLM" in note for note in splits.notes)
    assert load_splits(recipe_of(corpus, tiny_encoder, task=None))[0] == "sentence-embedding"


def test_a_trained_head_is_kept_and_less_of_the_width_can_be_cut(finished: Any, corpus: Path, tmp_path: Path) -> None:
    from understudy.pipeline import distill

    dials = {"student.layers": None, "student.width": 16, "student.feed_forward": 32, "train.epochs": 1}
    run = distill(recipe_of(corpus, finished.folder / "student", **dials), tmp_path / "run")
    losses = {name: one["metrics"]["masked_loss"]["value"] for name, one in run.facts["models"].items()}
    assert losses["teacher"] == pytest.approx(finished.facts["models"]["student"]["metrics"]["masked_loss"]["value"])
    assert run.facts["models"]["student"]["parameters"] < 0.6 * run.facts["models"]["teacher"]["parameters"]


def bad_teacher(kind: str, finished: Any, tiny_bert: Any, tmp_path: Path) -> Path:
    if kind == "another task":
        return Path(tiny_bert())
    folder = shutil.copytree(finished.folder / "student", tmp_path / "teacher")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "mask_token"}))
    return folder


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        ("another task", 4, "BertForSequenceClassification"),
        ("no mask", 4, "has no mask token"),
        ("short", 3, "too short a corpus"),
        ("empty", 3, "is empty"),
        ("stored", 2, "hidden in every epoch"),
        ("vocabulary", 2, "shares a tokenizer"),
        ("static", 2, "cannot do masked-language-model"),
    ],
)
def test_bad_input_is_one_line(
    kind: str, code: int, says: str, finished: Any, corpus: Path, store: Path, tiny_bert: Any, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from understudy.cli.app import run

    data, teacher, more = corpus, finished.folder / "student", ["--student", "cut"]
    if kind in ("another task", "no mask"):
        teacher = bad_teacher(kind, finished, tiny_bert, tmp_path)
    if kind in ("short", "empty"):
        data = tmp_path / "data"
        data.mkdir()
        lines = [json.dumps({"text": f"text {i}" if kind == "short" or i else " "}) for i in range(8)]
        (data / "train.jsonl").write_text("\n".join(lines))
    more = {"stored": [*more, "--set", "teacher.targets=stored"], "static": ["--student", "static"]}.get(kind, more)
    if kind == "vocabulary":
        more = [*more, "--set", "student.vocabulary=50"]
    named = ["--task", TASK, "--teacher", str(teacher), "--data", str(data), "--out", str(tmp_path / "run")]
    assert run(["check", *named, *more]) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert says in said[-1]
    assert not any("Traceback" in line for line in said)


def test_init_speaks_of_no_labels(corpus: Path) -> None:
    from understudy.pipeline.init import init

    said = init(str(corpus), task=TASK)
    assert "a text is its own label" in said
    assert f"task: {TASK}  # as you said" in said
    assert "know" not in said  # how exactly a few rows know a share of rows: none is measured here
