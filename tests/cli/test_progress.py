"""Progress: lines are few and tell the time left; the bar keeps the sentences."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from understudy.cli.progress import Bar, Lines, listening


def test_lines_are_throttled_and_the_last_one_is_always_there() -> None:
    now = [0.0]
    stream = io.StringIO()
    lines = Lines(stream, clock=lambda: now[0])
    lines.stage("train")
    lines.say("bf16 is 1.9 times faster here")
    for step in range(1, 101):
        now[0] += 0.5
        lines.advance(step, 100, loss=1.0 / step, agreement="90 %")
    shown = stream.getvalue().replace("\u00a0", " ").splitlines()
    assert shown[:2] == ["train", "  bf16 is 1.9 times faster here"]
    assert len(shown[2:]) == 10
    assert shown[2] == "  train 11/100, loss 0.0909, agreement 90 %, 44 s left"
    assert shown[-1] == "  train 100/100, loss 0.01, agreement 90 %"


def test_a_resumed_count_does_not_claim_the_steps_of_the_first_sitting() -> None:
    now = [0.0]
    stream = io.StringIO()
    lines = Lines(stream, clock=lambda: now[0])
    lines.stage("train")
    lines.advance(900, 1000)
    now[0] = 10.0
    lines.advance(910, 1000)
    assert "910/1000, 1\u00a0min\u00a030\u00a0s left" in stream.getvalue()


def test_a_second_count_in_a_stage_begins_anew() -> None:
    stream = io.StringIO()
    lines = Lines(stream, clock=lambda: 0.0)
    lines.stage("label")
    for total in (3, 2):
        for step in range(1, total + 1):
            lines.advance(step, total)
    assert stream.getvalue().splitlines() == ["label", "  label 3/3", "  label 2/2"]


def test_elsewhere_than_on_a_terminal_it_is_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with listening() as progress:
        assert isinstance(progress, Lines)
        progress.stage("teach")
    assert capsys.readouterr() == ("", "teach\n")


def test_the_bar_keeps_sentences_as_they_are() -> None:
    stream = io.StringIO()
    bar = Bar(Console(file=stream, force_terminal=True, width=100))
    bar.stage("train")
    bar.say("labels [red]kept[/red] in the teacher's order")
    bar.advance(1, 2, loss=0.5)
    bar.advance(2, 2, loss=0.25)
    bar.close()
    said = stream.getvalue()
    assert "labels [red]kept[/red] in the teacher's order" in said
    assert "2/2" in said
    assert "loss 0.25" in said
