"""The benchmarks run: what they measure is their own business."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def module(name: str) -> Any:
    """A benchmark as a module, without running it."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found


def test_the_cost_of_a_step_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["step_cost", "--rows", "70", "--steps", "1", "--clock", "cpu"])
    module("step_cost").main()
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if re.search(r"\d\.\d+x", line)]
    assert len(lines) == 7, printed


def told(folder: Path, name: str, predicted: dict[str, np.ndarray], labels: np.ndarray) -> None:
    from understudy.files import write_tensors

    (folder / name).mkdir(parents=True)
    inside = (np.arange(len(labels)) < 400).astype(np.int64)
    more = {"teacher": labels.copy(), "labels": labels, "inside": inside}
    write_tensors(folder / name / "test.safetensors", predicted | more)
    (folder / name / "facts.json").write_text(json.dumps({seed: {"seconds": 2.0} for seed in predicted}))


def test_the_table_of_recipes_compares_seed_by_seed_and_corrects_for_their_number(tmp_path: Path) -> None:
    knowledge = module("knowledge")
    random, labels = np.random.default_rng(9), np.arange(500) % 4
    labels = labels.astype(np.int64)

    def right(share: float, seed: int) -> np.ndarray:
        chosen = np.random.default_rng(seed).random(500) < share
        return np.where(chosen, labels, (labels + 1) % 4).astype(np.int64)

    twin = {str(seed): right(0.8, seed) for seed in range(3)}
    better = {seed: np.where(random.random(500) < 0.5, labels, said) for seed, said in twin.items()}
    told(tmp_path, "twin", twin, labels)
    told(tmp_path, "dkd", better, labels)
    told(tmp_path, "rkd", {seed: said.copy() for seed, said in twin.items()}, labels)
    rows = {row["recipe"]: row for row in knowledge.table(tmp_path)}
    assert list(rows) == ["teacher", "twin", "dkd", "rkd"]
    own = np.mean([(said[:400] == labels[:400]).mean() for said in twin.values()])
    assert rows["twin"]["accuracy"] == own  # rows outside do not count
    assert rows["teacher"]["accuracy"] == 1.0
    assert rows["rkd"]["difference"] == 0.0
    assert rows["rkd"]["holm"] > 0.9
    gain = np.mean([(better[s][:400] == labels[:400]).mean() - (twin[s][:400] == labels[:400]).mean() for s in twin])
    assert rows["dkd"]["difference"] == pytest.approx(gain)
    assert rows["dkd"]["low"] > 0
    assert rows["dkd"]["p"] < rows["dkd"]["holm"] < 0.01
    assert rows["dkd"]["gap_closed"] == pytest.approx(gain / (1 - own))
    assert knowledge.as_markdown(list(rows.values())).count("\n") == 5


def test_the_tables_of_compression_are_what_runs_and_exports_say(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compression = module("compression")
    monkeypatch.setattr(compression, "RUNS", {"static": compression.Line(finished.data.name)})
    monkeypatch.setattr(compression, "INT8", (finished.data.name,))
    monkeypatch.setattr(compression, "CALLS", 50)
    monkeypatch.setattr(compression, "SECONDS", 0.01)
    monkeypatch.setattr(compression, "_teacher_of", lambda *_: finished.teacher)
    shutil.copytree(finished.folder, tmp_path / "static")
    asked = ["compression", "--data", str(finished.data.parent), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*asked, "--only", f"int8-{finished.data.name}", "--speed"])
    compression.main()
    facts, exported = (json.loads((tmp_path / name).read_text()) for name in ("static/run.json", "int8-data/test.json"))
    (row,) = compression.rows_of(tmp_path)
    assert row["retention"] == pytest.approx(facts["comparison"]["retention"])
    assert row["bytes"] == facts["models"]["artefact"]["bytes"]
    assert row["faster"] == row["speed"]["artefact"] / max(row["speed"]["torch"], row["speed"]["onnxruntime"])
    assert 0 < row["speed"]["p50"] <= row["speed"]["p99"]
    assert exported["rows"] == 100
    assert exported["fp32"] / 100 == facts["models"]["teacher"]["metrics"]["accuracy"]["value"]
    said = capsys.readouterr().out
    assert f"| {100 * row['retention']:.1f} % |" in said
    assert f"| pooled | 100 | {exported['fp32']:.2f} | {exported['int8']:.2f} |" in said


def test_sentences_are_the_same_ones_in_the_same_order() -> None:
    sentences = module("compression")._sentences
    texts = ["One two three. Four five! And six seven eight?", "word " * 60 + "."]
    assert sorted(sentences(texts)) == ["And six seven eight?", "One two three."]
    assert sentences(texts * 20) == sentences(texts * 20)


def test_the_table_of_generative_teachers_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from tests.pipeline import corpus_data

    texts = corpus_data.write(tmp_path / "lines")
    (tmp_path / "data" / "topics").mkdir(parents=True)
    for split, rows in (("train", 60), ("validation", 20), ("test", 20)):
        some = [json.loads(line)["text"] for line in (texts / f"{split}.jsonl").read_text().splitlines()[:rows]]
        parquet.write_table(pa.table({"text": some}), tmp_path / "data" / "topics" / f"{split}.parquet")
    generative = module("generative")
    for name, width in (("TEACHER", 32), ("STUDENT", 16)):
        monkeypatch.setattr(generative, name, {"n_embd": width, "n_layer": 1, "n_head": 2})
    monkeypatch.setattr(generative, "KEPT", 3)
    dials = ["--sets", "topics", "--seeds", "2", "--epochs", "1", "--teacher-epochs", "2", "--entries", "300"]
    call = ["generative", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), *dials]
    monkeypatch.setattr(sys, "argv", call)
    generative.main()
    table = capsys.readouterr().out
    for row in generative.ROWS.values():
        assert f"| {row.called} | 2 | " in table
    assert "within 0.01: " in table
    assert "rows that beat the twin beyond their intervals: " in table
    facts = {name: json.loads((tmp_path / "out" / f"{name}-0" / "facts.json").read_text()) for name in generative.ROWS}
    assert len({one["tokens"] for one in facts.values()}) == 1
    assert facts["forward-kl-stored"]["on_disk"] > facts["forward-kl-stored"]["bytes_per_token"] > 60
    assert facts["jsd-live"]["bytes_per_token"] is None
    assert [name for name, one in facts.items() if one["writing_seconds"]] == ["on-policy"]
    _the_teacher_wrote_the_rows(generative, tmp_path)
    monkeypatch.setattr(generative, "train", None)  # a second call trains nobody
    generative.main()
    assert capsys.readouterr().out == table
    monkeypatch.setattr(sys, "argv", [*call, "--epochs", "3"])
    with pytest.raises(SystemExit, match="other settings"):
        generative.main()


def _the_teacher_wrote_the_rows(generative: Any, folder: Path) -> None:
    """Rows of sequence-level: as many tokens, the same beginnings and ends, other texts; and made once."""
    from understudy.files import read_tensors

    teacher = generative.open_teacher(folder / "out" / "teacher", task="causal-lm", label_names=(), limit=256)
    rows = generative.load(folder / "data" / "topics", task="causal-lm", layouts=generative.LAYOUTS)[1].train
    feed = generative.Feed(rows, {"student": teacher.encoder, "teacher": teacher.encoder})
    spoken = feed.features["student"]
    wrote = read_tensors(folder / "out" / "written.safetensors")["ids"]
    assert wrote.shape == spoken.ids.values.shape
    other = generative._written(folder / "out" / "written.safetensors", feed, None)
    assert np.array_equal(other.features["student"].ids.values, wrote)
    assert np.array_equal(generative._rewritten(spoken, feed, teacher), wrote)
    kept = generative.KEPT
    changed = 0
    for row in range(len(feed)):
        before, after = spoken.ids[row], other.features["student"].ids[row]
        assert np.array_equal(before[:kept], after[:kept])
        assert (before[-1] == 0) == (after[-1] == 0)
        assert not (after[1:-1] == 0).any()
        changed += not np.array_equal(before, after)
    assert changed > len(feed) / 2


def test_a_renormalised_head_sums_to_one_and_has_no_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from understudy.records import Targets

    generative = module("generative")
    said = {"t.sample.head_log_p": torch.tensor([[-1.0, -2.0]]), "t.sample.log_mass": torch.tensor([-0.7])}
    monkeypatch.setattr(generative.StoredTokens, "targets", lambda self, batch: Targets(said))
    source = object.__new__(generative.Renormalised)
    source.name = "t"
    found = source.targets(None)
    assert found["t.sample.head_log_p"].exp().sum().item() == pytest.approx(1.0)
    assert found["t.sample.log_mass"].tolist() == [-float("inf")]
