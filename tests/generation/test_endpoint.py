"""Text from an endpoint: paid for once, within its limits, whatever the server does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from tests.generation.server import KEY, NAMES, Server, fault, reply
from understudy.cli.app import run
from understudy.data.tables import read_file
from understudy.errors import Interrupted, TeacherError
from understudy.generation import Limits, Rules, Sampling, generate

FAST = Limits(concurrency=2, timeout=5, retries=2)
LOOSE = Rules(near=0)


def call(server: Server, questions: Path, out: Path, *more: str) -> list[str]:
    words = ["generate", "--prompts", str(questions), "--teacher", server.url, "--model", "tiny", "--out", str(out)]
    return [*words, "--near", "0", *more]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def facts(out: Path) -> dict[str, Any]:
    return json.loads(out.with_suffix(".card.json").read_text("utf-8"))


def test_answers_become_rows_and_the_same_command_pays_nothing(
    server: Server, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / "answers.parquet"
    words = call(server, questions, out, "--samples", "2", "--concurrency", "3", "--price-in", "1", "--price-out", "2")
    server.says = lambda prompt, times: (0.02, f"It is {prompt} indeed, said {times} times over.")
    assert run([*words, "--licence", "ours"]) == 0
    said = capsys.readouterr()
    table = read_file(out)
    assert len(table) == 24
    assert table.columns == (
        "prompt", "completion", "model", "finish_reason", "tokens_in", "tokens_out", "sample", "topic",
    )  # fmt: skip
    assert table.values("prompt") == [f"number {name}" for name in NAMES for _ in range(2)]
    assert table.values("sample") == [0, 1] * 12
    assert set(table.values("model")) == {"tiny-1"}
    assert (len(server.asked), server.keys, server.most_at_once) == (24, {KEY}, 3)
    assert server.asked[0]["temperature"] == 1.0
    known = facts(out)
    assert known["cost"]["total"] == pytest.approx(24 * (10 + 2 * 5) / 1e6)
    assert known["tokens"] == {"in": 240, "out": 120}
    assert "requests 24" in said.err
    assert "cost 0.0005" in said.err
    card = out.with_suffix(".card.md").read_text("utf-8")
    assert "| teacher | tiny, asked at 127.0.0.1:" in card
    assert "\nours\n" in card

    assert run(words) == 0
    assert len(server.asked) == 24
    assert facts(out)["counts"] == {"wanted": 24, "answered": 24, "reused": 24, "requests": 0, "kept": 24}
    assert "Not stated." in out.with_suffix(".card.md").read_text("utf-8")
    with questions.open("a") as file:
        file.write("number thirteen,13\n")
    assert run(words) == 2  # another job's table is not written over
    assert run([*words, "--fresh"]) == 0
    assert len(server.asked) == 26
    everything = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert KEY.encode() not in everything


def test_another_house_is_not_told_of_an_account(
    server: Server, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    assert run(call(server, questions, tmp_path / "a.jsonl")) == 0
    assert server.asked
    assert server.accounts == set()


def test_limits_and_errors_of_a_server_are_the_sdks_to_retry(server: Server, questions: Path, tmp_path: Path) -> None:
    slow = (2.0, "too late")
    scripts: dict[str, list[Any]] = {
        "number two": [fault(429, "slow down"), "second"],
        "number three": [fault(500, "oops"), fault(503, "busy"), "third"],
        "number four": [slow, "fourth"],
    }
    server.says = lambda prompt, times: scripts.get(prompt, ["fine"])[min(times, len(scripts.get(prompt, [0]))) - 1]
    done = generate(
        questions, server.url, tmp_path / "a.jsonl", model="tiny", rules=LOOSE,
        limits=Limits(concurrency=2, timeout=0.4, retries=2),
    )  # fmt: skip
    by_prompt = {row["prompt"]: row["completion"] for row in rows(tmp_path / "a.jsonl")}
    assert (by_prompt["number two"], by_prompt["number three"]) == ("second", "third")
    assert by_prompt["number four"] == "fourth"
    assert done["counts"] == {"wanted": 12, "answered": 12, "reused": 0, "requests": 16, "kept": 12}
    assert done["stopped"] is None


def test_what_cannot_be_answered_is_counted_and_what_failed_is_asked_again(
    server: Server, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: dict[str, Any] = {
        "number two": reply("half of", finish="length"),
        "number three": reply("", written=0),
        "number four": reply(None, refusal="No."),
        "number five": fault(400, "This model's maximum context length is 8 tokens", "context_length_exceeded"),
        "number six": fault(422, "the content policy"),
        "number seven": fault(500, "down"),
        "number ten": Response(json.dumps(reply("half a \ud83d character")), media_type="application/json"),
        "number eight": reply("I’m sorry, but I can’t help with that."),
        "number nine": {"object": "list", "data": []},
    }
    server.says = lambda prompt, times: said.get(prompt, "A fine number.")
    out = tmp_path / "a.jsonl"
    words = call(server, questions, out, "--retries", "1")
    assert run(words) == 75
    err = capsys.readouterr().err
    assert "2 answers are missing" in err
    assert {row["filter"]: row["taken"] for row in facts(out)["attrition"] if row["taken"]} == {
        "too long": 1, "not taken": 1, "no answer": 2, "truncated": 1, "empty": 1, "refusal": 2,
    }  # fmt: skip
    assert len(rows(out)) == 4
    assert next(row["completion"] for row in rows(out) if row["prompt"] == "number ten") == "half a ? character"
    assert {row["prompt"]: row["filter"] for row in rows(tmp_path / "a.rejected.jsonl")} == {
        "number two": "truncated", "number three": "empty", "number four": "refusal", "number eight": "refusal",
    }  # fmt: skip
    before = len(server.asked)
    said.clear()
    assert run(words) == 0  # failures are not in the cache; empty and cut answers are paid for, and are
    assert sorted(set(server.prompts[before:])) == ["number five", "number nine", "number seven", "number six"]
    assert len(rows(out)) == 8


@pytest.mark.parametrize(
    ("more", "sent", "answered"),
    [
        (["--max-requests", "5"], 5, 5),
        # an answer costs 20, its worst case 10 letters + 8 + 64 read and 10 written: 102 and more
        (["--max-cost", "0.000215", "--price-in", "1", "--price-out", "2", "--max-tokens", "10"], 6, 6),
    ],
)
def test_a_budget_ends_it_with_everything_kept(
    more: list[str], sent: int, answered: int, server: Server, questions: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "a.jsonl"
    assert run(call(server, questions, out, *more)) == 75
    assert f"{12 - answered} answers are missing" in capsys.readouterr().err
    assert (len(server.asked), len(rows(out))) == (sent, answered)
    known = facts(out)
    assert known["stopped"].startswith(more[0])
    assert known["cost"] is None or known["cost"]["total"] <= 0.000215
    assert "**Not complete**" in out.with_suffix(".card.md").read_text("utf-8")
    if more[0] == "--max-cost":  # of the table, not of one call
        assert run(call(server, questions, out, *more)) == 75
        assert len(server.asked) == sent
    assert run(call(server, questions, out, *more[2:])) == 0
    assert len(server.asked) == 12


def test_retries_count_as_requests(server: Server, questions: Path, tmp_path: Path) -> None:
    server.says = lambda prompt, times: fault(429, "slow down") if times < 3 else "at last"
    limits = Limits(max_requests=7, concurrency=1, retries=4)
    done = generate(questions, server.url, tmp_path / "a.jsonl", model="tiny", limits=limits, rules=LOOSE)
    assert (len(server.asked), done["counts"]["answered"], done["stopped"]) == (7, 2, "--max-requests 7")


def test_tries_that_nobody_answered_may_be_billed(server: Server, questions: Path, tmp_path: Path) -> None:
    server.says = lambda prompt, times: (1.0, "late") if prompt == "number three" else "fine"
    # an answer costs 15, its worst case 10 or 12 letters + 8 + 64 read and 20 written: 104 at most
    limits = Limits(max_cost=270e-6, price_in=1, price_out=1, concurrency=1, retries=4, timeout=0.3)
    done = generate(
        questions, server.url, tmp_path / "a.jsonl", model="tiny", limits=limits, sampling=Sampling(max_tokens=20),
    )  # fmt: skip
    assert server.prompts == ["number one", "number two", *["number three"] * 2]
    assert done["stopped"] == "--max-cost 0.00027"
    assert done["cost"]["total"] + done["cost"]["possible"] <= 270e-6


def test_a_budget_below_one_request_asks_nothing(server: Server, questions: Path, tmp_path: Path) -> None:
    limits = Limits(max_cost=1e-6, price_in=1, price_out=1)
    with pytest.raises(Interrupted, match=r"one request may cost 0\.0005") as caught:
        generate(questions, server.url, tmp_path / "a.jsonl", model="tiny", limits=limits)
    assert (caught.value.exit_code, server.asked) == (75, [])


def test_a_server_that_stops_answering_loses_nothing(server: Server, questions: Path, tmp_path: Path) -> None:
    server.says = lambda prompt, times: "fine" if len(server.asked) <= 4 else fault(500, "down")
    with pytest.raises(
        TeacherError, match=r"stopped answering, 5 requests in a row: error 500.*4 of 12 answers are kept"
    ):
        generate(questions, server.url, tmp_path / "a.jsonl", model="tiny", limits=Limits(concurrency=1, retries=0))
    assert not (tmp_path / "a.jsonl").exists()
    server.says = lambda prompt, times: "fine"
    assert generate(questions, server.url, tmp_path / "a.jsonl", model="tiny")["counts"]["reused"] == 4


def test_a_server_that_wants_another_name_for_the_most_tokens_is_heard(
    server: Server, questions: Path, tmp_path: Path
) -> None:
    def says(prompt: str, times: int) -> Any:
        old = "max_tokens" in server.asked[-1]
        return fault(400, "Unsupported parameter: use 'max_completion_tokens' instead.") if old else "fine"

    server.says = says
    how = Sampling(max_tokens=7, seed=3, top_p=0.9)
    done = generate(questions, server.url, tmp_path / "a.jsonl", model="tiny", sampling=how, limits=FAST, rules=LOOSE)
    assert done["notes"] == ["the server wants --max-tokens as max_completion_tokens"]
    sent = server.asked[-1]
    assert (sent["max_completion_tokens"], sent["seed"], sent["top_p"], "max_tokens" in sent) == (7, 3, 0.9, False)
    assert len(server.asked) == 13


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_on_the_way_it_pays_at_most_for_what_was_under_way(
    how: int, server: Server, questions: Path, tmp_path: Path
) -> None:
    server.says = lambda prompt, times: (0.05 if len(server.asked) < 6 else 1.0, "fine")
    out = tmp_path / "a.jsonl"
    words = call(server, questions, out, "--concurrency", "2")
    code = "import signal, sys; from understudy.__main__ import main\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a suite in the background is deaf to it
    code += "code = main(sys.argv[1:])\n"
    code += "sys.exit('torch is not wanted' if 'torch' in sys.modules else code)"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True, env=os.environ)
    while len(server.asked) < 7:
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(how)
    _, err = process.communicate(timeout=20)
    paid = len(server.asked)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert f"{paid} of 12 answers are kept" in err
    assert not out.exists()
    server.says = lambda prompt, times: "fine"
    done = generate(questions, server.url, out, model="tiny", rules=LOOSE)
    lost = 0 if how == signal.SIGINT else 2
    assert paid - lost <= done["counts"]["reused"] <= paid
    assert len(server.asked) <= 12 + lost
