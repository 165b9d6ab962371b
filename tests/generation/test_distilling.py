"""``distill --teacher URL``: an endpoint as the teacher of a run, from the command line."""

from __future__ import annotations

import csv
import json
import shlex
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.generation.server import KEY, Server, fault, reply
from tests.generation.speaker import Speaker
from understudy.cli.app import run

ROWS = {"train": 40, "validation": 16, "test": 20}
TEXTS = sum(ROWS.values())
SMALL = ["--student", "static", "--epochs", "2", "--temperature", "1", "--task", "text-classification"]
for _key, _value in (("buckets", 256), ("dimensions", 16), ("hidden", 16)):
    SMALL += ["--set", f"student.{_key}={_value}"]
SMALL += ["--set", "evaluation.latency_rows=20"]


@pytest.fixture
def data(tmp_path: Path, tiny_texts: Callable[..., Any]) -> Path:
    """Rows whose labels are the model's letters; its codes are the same, as the data sorts them."""
    texts, ids = tiny_texts(TEXTS, seed=3)
    (tmp_path / "data").mkdir()
    start = 0
    for name, rows in ROWS.items():
        with open(tmp_path / "data" / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            some = zip(texts[start : start + rows], ids[start : start + rows], strict=True)
            csv.writer(file).writerows([("text", "label"), *((text, "ABCD"[label]) for text, label in some)])
        start += rows
    return tmp_path / "data"


def call(server: Server, data: Path, *more: str, verb: str = "distill", out: str = "runs/tickets") -> list[str]:
    named = ["--teacher", server.url, "--model", "tiny", "--data", str(data), *SMALL, *more]
    return [verb, *named, "--out", str(data.parent / out)]


def errors(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr that says what is wrong."""
    message = capsys.readouterr().err.rpartition("understudy: ")[2]
    assert len(message.strip().splitlines()) == 1, message
    assert "Traceback" not in message
    assert "a bug" not in message
    return message


def test_a_run_asks_once_and_says_whom(
    speaking: Server, speaker: Speaker, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(call(speaking, data, "--price-in", "1", "--price-out", "2")) == 0
    assert len(speaking.asked) == TEXTS  # each text once: probe, labels, test and timing
    folder = data.parent / "runs" / "tickets"
    facts = json.loads((folder / "run.json").read_text())
    endpoint = facts["endpoint"]
    assert {key: endpoint[key] for key in ("url", "model", "quality", "top_logprobs", "probed_rows", "answers")} == {
        "url": speaking.url, "model": "tiny", "quality": "full", "top_logprobs": 20, "probed_rows": 3, "answers": TEXTS,
    }  # fmt: skip
    tokens = [len(speaker.tokenizer.encode(f"{text} >")) for text in speaking.prompts]
    assert endpoint["cost"] == pytest.approx((sum(tokens) + 2 * TEXTS) / 1e6)
    assert facts["cost"]["teacher_cost_per_million"] == pytest.approx(1e6 * endpoint["cost"] / TEXTS)
    assert facts["models"]["teacher"]["model"] == f"tiny at {speaking.url}"
    assert facts["models"]["teacher"]["metrics"]["accuracy"]["value"] > 0.8
    assert facts["models"]["teacher"]["latency_ms"]["calls"] == TEXTS
    assert "the endpoint's answers are of the quality full, as found on 3 rows" in facts["notes"]
    for name in ("report.html", "artefact/README.md"):
        assert f"tiny at {speaking.url}" in (folder / name).read_text()
    page = (folder / "report.html").read_text()
    assert "of the quality full, as found on 3 rows" in page
    assert f"<dt>the endpoint&#39;s answers</dt><dd>{TEXTS}</dd>" in page
    assert "<dt>their cost</dt>" in page
    assert "<dt>mass seen on labels, mean</dt>" in page

    (store,) = (data.parent / "runs" / ".store" / "targets").iterdir()
    from understudy.targets import Store
    from understudy.targets.identity import read_manifest

    found = read_manifest(store)
    assert found is not None
    kept = Store(store, identity=found[0])
    assert set(kept.stats()["signals"]) == {"logits", "mass"}
    from understudy.data import Examples

    text = speaking.prompts[0]
    said = kept.read(Examples.of({"text": [text]}, [0]).keys)
    known = speaker.log_probabilities(speaker.tokenizer.encode(f"{text} >"))[-1].exp().numpy()
    shares = known[speaker.tokenizer.convert_tokens_to_ids(list("ABCD"))]
    np.testing.assert_allclose(np.exp(said["logits"][0]), shares / shares.sum(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(said["mass"], [shares.sum()], rtol=1e-4)
    assert endpoint["mass"]["least"] <= endpoint["mass"]["mean"] <= 1

    capsys.readouterr()
    assert run(call(speaking, data, "--price-in", "1", "--price-out", "2")) == 0
    assert len(speaking.asked) == TEXTS
    again = json.loads((folder / "run.json").read_text())
    assert again["endpoint"] == endpoint
    assert {stage["status"] for stage in again["stages"] if stage["name"] != "report"} == {"reused"}
    assert run(["targets", "verify", str(folder)]) == 0
    assert len(speaking.asked) == TEXTS
    for path in data.parent.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_the_probe_is_recorded_and_less_is_refused(
    speaking: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = speaking.says
    folder = data.parent / "runs" / "tickets"

    def without(prompt: str, times: int) -> Any:  # as servers do that drop the parameter silently
        body = speaking.asked[-1]
        return speaking.speaker.chat({**body, "logprobs": False, "max_tokens": 4}) if speaking.speaker else None

    speaking.says = without
    assert run(call(speaking, data, "--set", "teacher.quality=top", out="runs/top")) == 4
    message = errors(capsys)
    assert "does not give the quality top: it answers without the log-probabilities" in message
    assert len(speaking.asked) == 3
    assert run(call(speaking, data, "--max-requests", "20")) == 75
    assert "--max-requests 20 is reached" in errors(capsys)
    before = len(speaking.asked)
    assert before == 3 + 20
    speaking.says = said  # now it would give more; what was found stays
    assert run(call(speaking, data, "--set", "train.epochs=1", "--epochs", "1", "--max-requests", "20")) == 2
    assert "epochs: was 2, now 1" in errors(capsys)
    assert run(call(speaking, data, "--max-requests", "30")) == 75  # a higher limit is no other recipe
    assert "--max-requests 30 is reached, 9 rows have no label" in errors(capsys)
    assert len(speaking.asked) == before + 30
    assert not any("logprobs" in body for body in speaking.asked[before:])
    assert len({body["messages"][-1]["content"] for body in speaking.asked[6:]}) == 17 + 30  # none twice
    assert json.loads((folder / "stages" / "teach.json").read_text())["facts"]["notes"][-3:-1] == [
        "it answers without the log-probabilities that were asked for",
        "the endpoint's answers are of the quality votes, as found on 3 rows",
    ]


def test_a_budget_ends_it_with_every_paid_answer_kept(
    speaking: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = ["--price-in", "0", "--price-out", "1000000", "--set", "teacher.concurrency=2"]  # an answer costs 1
    assert run(call(speaking, data, *prices, "--max-cost", "9")) == 75
    assert "--max-cost 9 is reached, " in errors(capsys)
    assert len(speaking.asked) == 9
    rows = sqlite3.connect(data.parent / "runs" / ".store" / "answers.sqlite").execute("SELECT count(*) FROM answers")
    assert rows.fetchone() == (9,)
    assert run(call(speaking, data, *prices, "--max-cost", "12")) == 75  # what was paid before counts
    assert "--max-cost 12 is reached" in errors(capsys)
    assert len(speaking.asked) == 12


def test_check_asks_nothing_and_says_what_a_run_would(
    speaking: Server, data: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = ["--price-in", "0", "--price-out", "1000000"]
    assert run([*call(speaking, data, *prices, verb="check"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert speaking.asked == []
    assert not (data.parent / "runs").exists()
    assert found["endpoint"] == {
        "url": speaking.url, "model": "tiny", "texts": TEXTS, "answered": 0, "requests": TEXTS + 9,
        "worst_cost": 8.0 * (TEXTS + 9),
    }  # fmt: skip
    assert found["teacher"]["accuracy on 16 validation rows"] is None
    assert run(call(speaking, data, "--student", "cut", "--set", f"student.folder={tiny_encoder}", verb="check")) == 0
    assert run(call(speaking, data, *prices, "--max-requests", "5")) == 75
    assert run(call(speaking, data, verb="check")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"nothing was asked of tiny at {speaking.url}" in printed
    assert f"about {TEXTS} different texts (5 are answered already) in at most {TEXTS + 4} requests" in printed
    assert len(speaking.asked) == 5


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("--teacher http://127.0.0.1:9/v1 --set teacher.retries=0", 4, "cannot connect"),
        ("--teacher {root}/page", 4, 'without what was asked: not JSON, but "<html>welcome'),
        ("--teacher {root}", 4, "(404): wanted a base URL such as"),
        ("--model tinny", 4, 'no model "tinny": did you mean "tiny"?'),
        ("--teacher https://me:pass@x.org/v1", 2, "the URL of x.org carries credentials or a query"),
        ("--teacher https://x.org/v1?key=k", 2, "carries credentials or a query"),
        ("--teacher ftp://x/v1", 2, "is no URL such as https://HOST/v1"),
        ("--teacher https://x.invalid/v1 --key-env NO", 4, "needs a key: set NO"),
        ("--max-cost 1", 2, "--max-cost needs --price-in and --price-out"),
        ("--student cut", 2, "nothing can be cut from an endpoint"),
        ("--set teacher.targets=live", 2, "cannot run in a training step"),
        ("--set teacher.fine_tune=always", 2, "cannot be trained here"),
        ("--set teacher.members.a.seed=1", 2, "no member of several"),
        ("--task regression --label label", 2, "an endpoint labels texts"),
        ("--set 'peers=[{{family: teacher}}]'", 2, "wants a model that can be trained"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_line(
    words: str, code: int, says: str, server: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [word.format(root=server.url.removesuffix("/v1")) for word in shlex.split(words)]
    if words.startswith("--task regression"):
        (data / "train.csv").write_text("text,label\n" + "".join(f"text {i},{i / 7}\n" for i in range(40)))
        for name in ("validation", "test"):
            (data / f"{name}.csv").unlink()
    assert run(call(server, data, *more)) == code
    message = errors(capsys)
    assert says in message
    assert "pass" not in message
    assert server.asked == []


def test_dials_of_an_endpoint_want_one(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = ["--data", str(data), *SMALL]
    assert run(["distill", "--teacher", "./nowhere", "--model", "gpt", "--max-requests", "3", *rest]) == 2
    assert "teacher.model, teacher.max_requests would change nothing: the teacher is no endpoint" in errors(capsys)
    assert run(["distill", "--teacher", "http://127.0.0.1:9/v1", *rest]) == 2
    assert "name one with --model" in errors(capsys)


@pytest.mark.parametrize(
    ("said", "code", "says"),
    [
        (reply("A") | {"choices": []}, 4, "answered 200 without what was asked: no choices"),
        (reply(""), 4, "does not answer with a label: nothing | nothing | nothing"),
        (fault(400, "maximum context length is 8 tokens", "context_length_exceeded"), 3, "are longer than tiny reads"),
        (fault(429, "You exceeded your current quota", "insufficient_quota"), 4, "the account has no money left"),
    ],
)
def test_a_server_of_no_use_is_named(
    said: Any, code: int, says: str, server: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.says = lambda prompt, times: said
    assert run(call(server, data, "--set", "teacher.retries=0")) == code
    assert says in errors(capsys)


def test_a_key_that_is_not_accepted_is_not_shown(
    server: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.key = "another"
    assert run(call(server, data)) == 4
    message = errors(capsys)
    assert "the key in OPENAI_API_KEY is not accepted" in message
    assert KEY not in message
    assert run(call(server, data, "--key-env", "none")) == 4
    assert "no key was given" in errors(capsys)


def test_long_rows_are_named_and_the_others_kept(
    speaking: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(data / "train.csv", "a", encoding="utf-8") as file:
        file.write("my card " * 12 + ",A\n")
    assert run(call(speaking, data)) == 3
    message = errors(capsys)
    assert "1 of 57 rows are longer than tiny reads (This model's maximum context length is 24 tokens" in message
    assert 'first "my card my card' in message
    (count,) = sqlite3.connect(data.parent / "runs" / ".store" / "answers.sqlite").execute(
        "SELECT count(*) FROM answers"
    )
    assert count == (56,)


def test_a_pair_is_named_column_by_column(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"why {i},since {i},{'yes' if i % 2 else 'no'}" for i in range(40)]
    (tmp_path / "pairs.csv").write_text("question1,question2,label\n" + "\n".join(rows) + "\n")
    server.says = lambda prompt, times: "B" if int(prompt.split()[2]) % 2 else "A"
    words = ["--teacher", server.url, "--model", "tiny", "--data", str(tmp_path / "pairs.csv"), *SMALL[:6]]
    words += ["--set", "teacher.instruction=Do they ask the same?", "--max-requests", "9"]
    assert run(["distill", *words, "--out", str(tmp_path / "run")]) == 75
    assert "--max-requests 9 is reached" in errors(capsys)
    system, user = (message["content"] for message in server.asked[-1]["messages"])
    assert system == "Do they ask the same?\nA: no\nB: yes\nAnswer with the code alone."
    number = user.split()[2]
    assert user == f"sentence1: why {number}\nsentence2: since {number}"
