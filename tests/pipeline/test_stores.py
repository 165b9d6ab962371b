"""Stored logits looked at and asked again; of samples of tokens test_causal.py does the same."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_stored_logits_are_counted_and_asked_again(finished: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from understudy.cli.app import run

    assert run(["targets", "stats", str(finished.folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rows"] == 380  # train, unlabelled, validation
    assert said["bytes_per_row"] == said["bytes"] / 380
    assert set(said["signals"]) == {"logits"}
    assert "tokens" not in said
    assert run(["targets", "verify", str(finished.folder), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["rows"], again["unit"], again["same_weights"]) == (32, "relative", True)
    assert again["max_error"] <= again["tolerance"]
