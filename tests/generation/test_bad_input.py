"""Bad input of generate: one line, the promised exit code, nothing sent that need not be, nothing lost."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.generation.server import KEY, Server, fault, reply
from understudy.cli.app import run

GOOD = "--prompts {q} --teacher {url} --model tiny --out {here}/a.jsonl"
TO = "--prompts {q} --out {here}/a.jsonl --teacher "


def refused(words: str, code: int, says: str, capsys: pytest.CaptureFixture[str], **names: Any) -> str:
    got = run(["generate", *(word.format(**names) for word in shlex.split(words))])
    err = capsys.readouterr().err
    message = err.rpartition("understudy: ")[2]
    assert (got, says in message) == (code, True), err
    assert len(message.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert "a bug" not in err
    assert KEY not in err
    return message


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (TO + "http://127.0.0.1:9/v1 --model tiny --retries 0", 4, "cannot connect"),
        (TO + "{root}/page --model tiny", 4, 'not JSON, but "<html>welcome'),
        (TO + "{root} --model tiny", 4, "(404): wanted a base URL such as"),
        (TO + "{url} --model tinny", 4, 'no model "tinny": did you mean "tiny"?'),
        (TO + "{url}", 2, "name one with --model"),
        (TO + "https://x.org:port/v1 --model m", 2, "no URL such as https://HOST/v1"),
        (TO + "http://[::1/v1 --model m", 2, "no URL such as https://HOST/v1"),
        (TO + "{url} --model tiny --key-env ODD", 4, "ODD holds no key"),
        (TO + "ftp://x/v1 --model m", 2, "no URL such as https://HOST/v1"),
        (TO + "https://me:pass@x.org/v1 --model m", 2, "put the key into an env"),
        (TO + "https://x.invalid/v1 --model m --key-env NO", 4, "needs a key: set NO"),
        (TO + "./nowhere", 4, "no teacher at ./nowhere"),
        (TO + "./nowhere --model m", 2, "./nowhere is a model itself"),
        (TO + "./nowhere --max-cost 1 --price-in 1 --price-out 1", 2, "for endpoints"),
        ("--prompts {here}/no.csv --teacher {url} --model tiny --out {here}/a.jsonl", 3, "no file"),
        (GOOD + " --prompt promt", 3, 'no column "promt" (did you mean "prompt"?'),
        (GOOD + " --template 'Say {{topik}}'", 3, 'no column "topik"'),
        (GOOD + " --template 'Say it'", 3, "names no column"),
        (GOOD + " --template 'Say {{prompt}}' --prompt prompt", 2, "leave one out"),
        (GOOD + " --avoid {here}/no", 3, "--avoid takes evaluation data"),
        (GOOD + " --avoid {here}", 3, "no validation or test file"),
        (GOOD + " --max-cost 1", 2, "--max-cost needs --price-in and --price-out"),
        (GOOD + " --price-in 1", 2, "go together"),
        (GOOD + " --samples 0", 2, "--samples is 0, wanted 1 or more"),
        (GOOD + " --samples 2 --temperature 0", 2, "the same 2 times over"),
        (GOOD + " --temperature nan", 2, "--temperature is nan"),
        (GOOD + " --top-p 0", 2, "--top-p is 0"),
        (GOOD + " --near 0.2", 2, "wanted 0.5 to 1"),
        (GOOD + " --min-chars 9 --max-chars 3", 2, "leave no answer"),
        (GOOD + " --timeout 0", 2, "--timeout is 0"),
        ("--prompts {q} --teacher {url} --model tiny --out {here}/a.csv", 2, "ends in .parquet or .jsonl"),
        ("--prompts {q} --teacher {url} --model tiny --out {here}/theirs.jsonl", 2, "already there, and not by this"),
        (GOOD + " --store {here}/foreign", 3, "as a cache of answers: file is not a database"),
    ],
)  # fmt: skip
def test_what_can_be_known_before_an_answer_costs_none(
    words: str, code: int, says: str, server: Server, questions: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("ODD", "sk-… or so")
    (tmp_path / "theirs.jsonl").write_text("{}\n")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "answers.sqlite").write_text("this is no database at all, however long it may be\n" * 20)
    names = {"q": questions, "url": server.url, "root": server.url.removesuffix("/v1"), "here": tmp_path}
    refused(words, code, says, capsys, **names)
    assert server.asked == []
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prompt,n\nhello,1\n  ,2\n", "row 2: the text in column \"prompt\" is empty"),
        ("prompt\n", "it has no row"),
        ('{"messages": []}\n', "row 1: wanted a list of messages"),
        ('{"messages": [{"role": "user", "content": " "}]}\n', "row 1: the user message is empty"),
        ('{"messages": [{"role": "assistant", "content": "b"}]}\n', "nothing to answer"),
        ('{"messages": [{"role": "pope", "content": "a"}]}\n', "a message has a role"),
        ('{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}\n', "leave --system"),
        ('messages\n"[{""role"": ""pope"", ""content"": ""a""}]"\n', "row 1: a message has a role"),
        ('{"prompt": 3}\n', "row 1: column \"prompt\" holds an int"),
    ],
)  # fmt: skip
def test_prompts_that_are_none(
    text: str, says: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"q.{'jsonl' if text.startswith('{') else 'csv'}"
    path.write_text(text)
    refused(GOOD + " --system 'Be brief.'", 3, says, capsys, q=path, url=server.url, here=tmp_path)
    assert server.asked == []


def test_a_wrong_key_costs_one_request_and_is_not_shown(
    server: Server, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.key = "another"
    words = GOOD + " --concurrency 8"
    names = {"q": questions, "url": server.url, "here": tmp_path}
    message = refused(words, 4, "the key in OPENAI_API_KEY is not accepted", capsys, **names)
    assert "0 of 12 answers are kept" in message
    refused(words + " --key-env none", 4, "no key was given", capsys, **names)
    server.key = None
    server.says = lambda prompt, times: fault(500, f"what is {KEY}?")
    assert "what is [key]?" in refused(words + " --retries 0", 4, "gives no answer: error 500", capsys, **names)


@pytest.mark.parametrize(
    ("said", "code", "says"),
    [
        (reply(None, tool_calls=[]) | {"choices": []}, 4, "answered 200 without what was asked: no choices"),
        ({"error": {"message": "overloaded"}}, 4, "without what was asked: an error: overloaded"),
        (reply("x") | {"choices": [{"text": "x"}]}, 4, "a choice without a message of text"),
        ([1], 4, "without what was asked: a list"),
        (fault(400, "unknown parameter: temperature"), 4, "it refuses the request (400): unknown parameter"),
        (fault(429, "You exceeded your current quota", "insufficient_quota"), 4, "the account has no money left"),
        (fault(400, "maximum context length is 8 tokens", "context_length_exceeded"), 3, "every prompt is longer"),
        (reply(""), 3, 'no row is left: "empty" took 12'),
    ],
)
def test_a_server_of_no_use_is_named(
    said: Any, code: int, says: str, server: Server, questions: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    server.says = lambda prompt, times: said
    refused(GOOD + " --retries 0", code, says, capsys, q=questions, url=server.url, here=tmp_path)
    assert len(server.asked) in ((12,) if code == 3 else (1, 3))


def test_without_the_sdk_it_says_what_to_install(
    server: Server, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    refused(GOOD, 2, "pip install", capsys, q=questions, url=server.url, here=tmp_path)


def test_json_is_one_object(
    server: Server, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(q=questions, url=server.url, here=tmp_path) for word in shlex.split(GOOD)]
    assert run(["generate", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["answered"] == 12
