"""Texts of a teacher, then a student that learns from them: the example, and the two commands in sequence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.decoders import saved, tokenizer_of
from tests.generation.server import Server
from tests.test_examples import example
from understudy.cli.app import run
from understudy.pipeline.texts import NOTE

DIALS = ["--set", "evaluation.latency_rows=20", "--set", "train.precision=fp32", "--set", "train.batch_size=8"]


@pytest.fixture
def prompts(tmp_path: Path, tiny_texts: Callable[..., Any]) -> Path:
    """Forty that the server's model reads, one of them twice, and one that is longer than its context."""
    texts = tiny_texts(40, seed=5)[0]
    path = tmp_path / "prompts.csv"
    path.write_text("\n".join(["prompt", *texts, texts[0].upper(), "my card " * 12]) + "\n")
    return path


@pytest.fixture
def small(tmp_path: Path, tiny_texts: Callable[..., Any]) -> Path:
    """A decoder that knows nothing yet, with a tokenizer that is not the teacher's."""
    return saved("llama", tokenizer_of(tiny_texts(240)[0]), tmp_path / "small", layers=1)


def test_the_example_from_a_server_to_a_report(
    speaking: Server, prompts: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = prompts.parent / "out"
    words = ["--prompts", prompts, "--teacher", speaking.url, "--model", "tiny", "--student", small, "--out", out]
    words += ["--max-tokens", "4", "--epochs", "4", "--learning-rate", "1e-2", *DIALS]
    made = example("endpoint_to_student").main([*map(str, words), "--price-in", "1", "--price-out", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "42 answers wanted, 42 requests sent"
    assert [line.strip() for line in lines[1:3]] == ["1 taken: too long", "1 taken: duplicate"]
    assert lines[3].strip().startswith("40 kept; cost: 0.00")
    assert lines[-1] == str(out / "run" / "report.html")
    assert (out / "run" / "report.html").is_file()
    losses = {
        who: made.facts["models"][who]["metrics"]["token_loss"]["value"] for who in ("teacher", "student", "twin")
    }
    assert losses["student"] < losses["teacher"] - 1
    assert losses["twin"] == losses["student"]
    assert f"{losses['teacher']:.3f} before, {losses['student']:.3f} after" in lines[-2]
    assert made.facts["fields"] == ["prompt", "completion"]
    assert made.facts["models"]["teacher"]["model"].startswith("the student before it learnt (LlamaForCausalLM")
    assert "student and twin are one training" in made.facts["verdict"]["why"]
    assert made.facts["cost"]["twin_seconds"] == 0
    example("endpoint_to_student").main([*map(str, words), "--price-in", "1", "--price-out", "1"])
    assert len(speaking.asked) == 42 + 1  # nobody answered the one that is too long


def test_the_two_commands_in_sequence(
    speaking: Server, prompts: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = prompts.parent / "answers.parquet"
    words = ["--prompts", prompts, "--teacher", speaking.url, "--model", "tiny", "--out", table, "--max-tokens", "4"]
    assert run(["generate", *map(str, words)]) == 0
    capsys.readouterr()
    learn = ["--data", str(table), "--student", "cut", "--set", f"student.folder={small}", *DIALS]
    assert run(["check", *learn, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["task"], found["data"]["train"]) == ("causal-lm", 32)
    assert [term["name"] for term in found["terms"]] == ["hard_tokens"]
    assert found["teacher"]["model"].startswith("the student before it learnt")
    assert found["notes"].count(NOTE) == 1
    for more, key in (
        (["--alpha", "0.5"], "objective.alpha"),
        (["--temperature", "2"], "objective.temperature"),
        (["--set", "teacher.fine_tune=always"], "teacher.fine_tune"),
        (["--set", "objective.terms=[soft_tokens: {}]"], "objective.terms"),
    ):
        assert run(["check", *learn, *more]) == 2
        message = capsys.readouterr().err.rpartition("understudy: ")[2]
        assert message.startswith(f"{key}: no teacher is named, so the student learns from the texts alone")
    assert run(["check", *learn[:4], *DIALS]) == 4
    assert "a causal-lm can learn from texts alone" in capsys.readouterr().err
