"""The server of transformers itself, with a tiny model behind it: no fixture of ours that answers as we expect."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.errors import TeacherError
from understudy.generation import Rules, Sampling, generate
from understudy.teachers import endpoint

pytest.importorskip("fastapi")
LABELS = ("billing", "travel", "weather", "music")
LOOSE = Rules(near=0)


@pytest.fixture(scope="module")
def served(tiny_sorter: Path) -> Iterator[str]:
    """``transformers serve`` of one model, on a thread."""
    from transformers.cli.serve import Serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where: dict[str, Any] = {"host": "127.0.0.1", "port": port, "device": "cpu"}
    serving = Serve(str(tiny_sorter), **where, log_level="critical", non_blocking=True)
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                break
        except urllib.error.URLError:
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/v1"
    serving.kill_server()


def test_the_probe_notices_log_probabilities_that_are_left_out(
    served: str, tiny_sorter: Path, tiny_texts: Callable[..., Any], tmp_path: Path
) -> None:
    texts, ids = tiny_texts(20, seed=4)
    named: dict[str, Any] = {"model": str(tiny_sorter), "labels": LABELS, "probe": texts, "key_env": "none"}
    with pytest.raises(TeacherError, match="does not give the quality full: it answers without"):
        endpoint(served, store=tmp_path / "other", quality="full", **named)
    teacher = endpoint(served, store=tmp_path / "answers", **named)
    assert teacher.notes[-2] == "it answers without the log-probabilities that were asked for"
    assert "quality votes" in teacher.notes[-1]
    said = np.exp(teacher.scores({"text": texts}))
    assert (said.argmax(1) == np.array(ids)).mean() > 0.8
    np.testing.assert_allclose(said.max(1), 1, atol=0.01)


def test_texts_from_it_are_those_of_the_model(
    served: str, tiny_sorter: Path, tiny_texts: Callable[..., Any], tmp_path: Path
) -> None:
    texts, _ = tiny_texts(8, seed=5)
    (tmp_path / "prompts.csv").write_text("\n".join(["prompt", *texts]) + "\n", encoding="utf-8")
    how = Sampling(max_tokens=4, temperature=0.0)
    rows = {}
    for name, teacher, more in (("served", served, {"model": str(tiny_sorter)}), ("local", str(tiny_sorter), {})):
        out = tmp_path / f"{name}.jsonl"
        generate(tmp_path / "prompts.csv", teacher, out, sampling=how, rules=LOOSE, key_env="none", **more)
        rows[name] = [(one["prompt"], one["completion"]) for one in map(json.loads, out.read_text().splitlines())]
    assert rows["served"] == rows["local"]
    assert len(rows["local"]) == 8
