"""An endpoint as a teacher of labels: what it can say is probed, recorded, and never quietly less."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.generation.server import Server, fault, reply
from understudy.endpoints import Limits
from understudy.errors import Interrupted, TeacherError, UsageError
from understudy.teachers import endpoint, settle

LABELS = ("billing", "travel", "weather")
TEXTS = ["my card", "a flight", "some rain", "my refund", "a train", "some snow"]
CODE = {"my": "A", "a": "B", "some": "C"}


def says(server: Server, listed: int, *, noise: float = 0.1, most: int = 20) -> None:
    """The right code first with 0.6 of the mass, the others after it; ``listed`` tokens at most are said."""

    def answer(prompt: str, times: int) -> Any:
        body = server.asked[-1]
        if body.get("top_logprobs", 0) > most:
            return fault(400, f"top_logprobs must be at most {most}")
        code = CODE[prompt.split()[0]]
        others = [f" {one}" for one in CODE.values() if one != code]
        shares = {code: 0.6, others[0]: 0.25, others[1]: 0.15 - noise, "The": noise}
        made = reply(code, written=1)
        if body.get("logprobs") and listed:
            ranked = sorted(shares.items(), key=lambda pair: -pair[1])[: min(listed, body["top_logprobs"])]
            top = [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in ranked]
            made["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        return made

    server.says = answer


def opened(server: Server, tmp_path: Path, **more: Any) -> Any:
    return endpoint(server.url, model="tiny", labels=LABELS, probe=TEXTS, store=tmp_path, **more)


def test_full_distributions_are_taken_where_they_are_listed(server: Server, tmp_path: Path) -> None:
    says(server, 20)
    teacher = opened(server, tmp_path)
    assert teacher.notes[-1] == "the endpoint's answers are of the quality full, as found on 3 rows"
    assert (len(server.asked), server.asked[0]["top_logprobs"], server.asked[0]["max_tokens"]) == (3, 20, 1)
    assert "A: billing\nB: travel\nC: weather" in server.asked[0]["messages"][0]["content"]
    there = settle(teacher, ("weather", "billing", "travel"), {"text": TEXTS})  # aligned by name
    said = np.exp(there.scores({"text": TEXTS}))
    wanted = np.array([0.05, 0.6, 0.25]) / 0.9
    np.testing.assert_allclose(said[0], wanted, rtol=1e-5)
    assert said.argmax(1).tolist() == [1, 2, 0, 1, 2, 0]
    assert len(server.asked) == 6
    again = opened(server, tmp_path)
    np.testing.assert_array_equal(again.scores({"text": TEXTS}), teacher.scores({"text": TEXTS}))
    assert (len(server.asked), again.fingerprint == teacher.fingerprint) == (6, True)
    speed = again.speed(1)
    assert (speed["latency_ms"]["calls"], speed["latency_ms"]["p50"] > 0.1) == (6, True)


def test_some_log_probabilities_leave_a_bound_and_the_mass_is_kept(server: Server, tmp_path: Path) -> None:
    from understudy.teachers.labeller import Labeller

    says(server, 2, most=5)
    teacher = opened(server, tmp_path)
    assert "20 log-probabilities were refused" in teacher.notes[1]
    assert "5 log-probabilities were asked for; at least 0.850 lies on codes of labels" in teacher.notes[2]
    assert "quality top" in teacher.notes[-1]
    said = np.exp(teacher.scores({"text": TEXTS}))
    np.testing.assert_allclose(said[0], [0.6, 0.25, 0.15], rtol=1e-5)  # no more is left than 1 - 0.85
    assert teacher.ask is not None
    one = teacher.ask.args[0]
    assert isinstance(one, Labeller)
    assert [round(mass, 3) for mass in one.masses.values()] == [0.85] * 6
    with pytest.raises(TeacherError, match="lists only some of the 3 labels"):
        opened(server, tmp_path, quality="full")


def test_without_log_probabilities_there_are_votes_and_it_is_said(server: Server, tmp_path: Path) -> None:
    says(server, 0)
    teacher = opened(server, tmp_path)
    assert teacher.notes[-2] == "it answers without the log-probabilities that were asked for"
    assert "quality votes" in teacher.notes[-1]
    np.testing.assert_allclose(np.exp(teacher.scores({"text": TEXTS[:2]})), np.eye(3)[:2], atol=1e-6)
    with pytest.raises(TeacherError, match="does not give the quality top: it answers without"):
        opened(server, tmp_path, quality="top")


def test_what_was_probed_is_what_is_wanted(server: Server, tmp_path: Path) -> None:
    says(server, 20)
    teacher = opened(server, tmp_path)
    says(server, 0)
    with pytest.raises(TeacherError, match="gave no log-probabilities for row 4, which it did when it was probed"):
        teacher.scores({"text": TEXTS})
    says(server, 20)
    teacher.scores({"text": TEXTS})  # what came with less was not kept
    limited = opened(server, tmp_path / "other", limits=Limits(max_requests=5, concurrency=1))
    with pytest.raises(Interrupted, match="--max-requests 5 is reached, 4 rows have no label") as caught:
        limited.scores({"text": [*TEXTS, "a hotel", "a ticket", "some hail"]})
    assert caught.value.exit_code == 75
    before = len(server.asked)
    opened(server, tmp_path / "other").scores({"text": [*TEXTS, "a hotel", "a ticket", "some hail"]})
    assert len(server.asked) - before == 4


@pytest.mark.parametrize(
    ("more", "error", "says_"),
    [
        ({"labels": ("one",)}, UsageError, "two different labels"),
        ({"probe": ["a"]}, UsageError, "probed on 3 rows, got 1"),
        ({"quality": "best"}, UsageError, 'no quality "best"'),
        ({"model": "tinny"}, TeacherError, 'did you mean "tiny"'),
        ({}, TeacherError, "does not answer with a label: Let me think | Let me think"),
    ],
)
def test_bad_input(more: dict[str, Any], error: type[Exception], says_: str, server: Server, tmp_path: Path) -> None:
    server.says = lambda prompt, times: "Let me think"
    known: dict[str, Any] = {"model": "tiny", "labels": LABELS, "probe": TEXTS, "store": tmp_path}
    with pytest.raises(error, match=says_.replace("|", r"\|")):
        endpoint(server.url, **(known | more))


def test_votes_that_name_no_label_are_shared_out(server: Server, tmp_path: Path) -> None:
    says(server, 0)
    teacher = opened(server, tmp_path)
    answer = server.says
    server.says = lambda prompt, times: "Hm" if prompt.endswith("9") else answer(prompt, times)
    said = np.exp(teacher.scores({"text": [f"my card {i}" for i in range(10, 30)][:10]}))
    np.testing.assert_allclose(said[9], 1 / 3, rtol=1e-5)
    with pytest.raises(TeacherError, match="names no label for 3 of 10 rows"):
        teacher.scores({"text": [f"my {i}9" for i in range(3)] + [f"my {i}0" for i in range(7)]})


def test_a_stop_waits_for_what_is_under_way_and_keeps_it(server: Server, tmp_path: Path) -> None:
    from understudy.teachers.labeller import Labeller
    from understudy.teachers.question import Question

    says(server, 20)
    heard: list[tuple[int, int]] = []
    question = Question(server.url, "tiny", LABELS, limits=Limits(concurrency=2))
    one = Labeller(
        question,
        tmp_path,
        heard=lambda done, total, facts: heard.append((done, total)),
        stopping=lambda: len(heard) >= 5,
    )
    rows = [{"text": f"my card {i}"} for i in range(20)]
    one.probe(rows)
    with pytest.raises(Interrupted, match="every answer is kept, the same command goes on"):
        one(rows)
    assert 5 <= len(server.asked) <= 6  # one more may have been under way
    assert heard[:4] == [(1, 3), (2, 3), (3, 3), (4, 20)]
    other = Labeller(question, tmp_path)
    other.probe(rows)
    assert other(rows).argmax(1).tolist() == [0] * 20
    assert len(server.asked) == 20
