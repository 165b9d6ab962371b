"""What is written is what the runtime reads; and parity tells when it is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

import understudy
from understudy import runtime
from understudy.encoding import PixelEncoder, SubwordEncoder, WordEncoder
from understudy.errors import DiskFull, UsageError
from understudy.export import parity, quantise_dynamic, static_tensors, write_artefact
from understudy.files import read_json
from understudy.runtime import StaticModel
from understudy.students.families.static import Static

from .conftest import VOCABULARY, Exported, images

TEXTS = ["where is my card", "my cash", "", "is is is ?", "unknown words here"] * 8


def student() -> tuple[WordEncoder, Static]:
    torch.manual_seed(0)
    encoder = WordEncoder(["where", "is", "my", "card", "cash"], buckets=40, pairs=True)
    module = Static(encoder.size, 16, 4, hidden=8).eval()
    with torch.no_grad():
        module.weights.uniform_(-2, 2)
        module.table.weight *= torch.logspace(-1, 1, encoder.size)[:, None]
    return encoder, module


def test_the_numpy_forward_is_the_torch_forward() -> None:
    encoder, module = student()
    features = encoder.encode({"text": TEXTS})
    inputs = {name: torch.as_tensor(array) for name, array in encoder.collate(features, range(len(TEXTS))).items()}
    with torch.no_grad():
        wanted = module(**inputs).numpy()
    exact = StaticModel(static_tensors(module, bits=32)).logits(features)
    np.testing.assert_allclose(exact, wanted, atol=1e-5)
    int8 = parity(wanted, StaticModel(static_tensors(module)).logits(features), most_error=0.05, least_agreement=0.95)
    assert int8["passed"]
    assert int8["max_abs_error"] > 1e-6, "the table is not quantised"


def test_one_scale_per_row_beats_one_per_table() -> None:
    _, module = student()
    tensors = static_tensors(module)
    table = module.table.weight.detach().numpy()
    scale = tensors["scale"].astype(np.float32)[:, None]
    per_row = np.abs(tensors["table"] * scale - table)
    step = np.abs(table).max() / 127
    per_table = np.abs(np.rint(table / step) * step - table)
    assert (per_row <= 0.501 * scale).all()
    assert per_row.mean() < 0.5 * per_table.mean()
    assert tensors["table"].dtype == np.int8
    assert np.abs(tensors["table"]).max() == 127
    with torch.no_grad():
        module.table.weight.zero_()
    assert not static_tensors(module)["table"].any(), "rows of zeros stay zeros, not NaN"
    with pytest.raises(UsageError, match="4, 8 or 32"):
        static_tensors(module, bits=5)


def common(**changes: Any) -> dict[str, Any]:
    return {"task": "classification", "labels": ["a", "b", "c", "d"], "temperature": 1.5, **changes}


def test_static_round_trip(tmp_path: Path) -> None:
    encoder, module = student()
    tensors = static_tensors(module)
    write_artefact(
        tmp_path / "artefact", encoder=encoder, model=tensors, thresholds={"abstain_below": 0.4}, card="# Card\n",
        gates=[{"name": "parity", "limit": 1, "value": 0.5, "passed": True}], limits={"max_mb": 3}, extra={"x": [1]},
        **common(),
    )  # fmt: skip
    predictor = runtime.load(tmp_path / "artefact")
    wanted = StaticModel(tensors).logits(encoder.encode({"text": TEXTS}))
    np.testing.assert_allclose(predictor.logits(TEXTS), wanted, atol=1e-6)
    manifest = read_json(tmp_path / "artefact" / "understudy.json")
    assert manifest == predictor.manifest
    assert {"schema": 1, "understudy": understudy.__version__, "fields": ["text"], "x": [1]}.items() <= manifest.items()
    assert manifest["abstain_below"] == 0.4
    assert manifest["gates"][0]["name"] == "parity"
    assert set(manifest["files"]) == {"static.safetensors", "words.z"}
    assert (tmp_path / "artefact" / "README.md").read_text() == "# Card\n"


def test_subwords_round_trip(bert: Exported, tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w1"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    encoder = SubwordEncoder(tokenizer, limit=20)
    generator = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in generator.integers(0, VOCABULARY, n)) for n in generator.integers(1, 30, 70)]
    quantise_dynamic(bert.path, tmp_path / "int8.onnx")
    logits = {}
    for name, path in {"fp32": bert.path, "int8": tmp_path / "int8.onnx"}.items():
        write_artefact(tmp_path / name, encoder=encoder, model=path, **common(labels=list("abcde")))
        logits[name] = runtime.load(tmp_path / name).logits(texts)
    features = encoder.encode({"text": texts})
    wanted = np.concatenate([bert.wanted(encoder.collate(features, [row])) for row in range(len(texts))])
    np.testing.assert_allclose(logits["fp32"], wanted, atol=1e-4)
    assert parity(wanted, logits["int8"], least_agreement=0.95)["passed"]


def test_pixels_round_trip(mlp: Exported, tmp_path: Path) -> None:
    write_artefact(tmp_path / "artefact", encoder=PixelEncoder((12, 10), 3), model=mlp.path, **common())
    inputs = images(40)
    rows = [{"image": image.transpose(1, 2, 0)} for image in inputs["pixels"]]
    np.testing.assert_allclose(runtime.load(tmp_path).logits(rows), mlp.wanted(inputs), atol=1e-4)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_artefact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    encoder, module = student()
    write_artefact(tmp_path / "artefact", encoder=encoder, model=static_tensors(module), **common())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(DiskFull):
            write_artefact(tmp_path / "artefact", encoder=encoder, model={}, **common())
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]
    assert runtime.load(tmp_path).predict_one("my card")["label"] in "abcd"


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["a"]},
        {"labels": ["a", "a"]},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"thresholds": {"abstain_below": 1.5}},
    ],
)
def test_values_that_no_artefact_has(tmp_path: Path, changes: dict[str, Any]) -> None:
    encoder, module = student()
    with pytest.raises(UsageError):
        write_artefact(tmp_path / "artefact", encoder=encoder, model=static_tensors(module), **common(**changes))
    assert not (tmp_path / "artefact").exists()


def test_parity() -> None:
    reference = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 0.9], [3.0, 0.0]])
    candidate = reference + np.array([[0.5, 0.0], [0.0, 0.0], [0.0, 0.2], [0.0, 0.0]])
    found = parity(reference, candidate, most_error=0.5, least_agreement=0.75)
    assert found == {
        "rows": 4,
        "max_abs_error": 0.5,
        "mean_abs_error": pytest.approx(0.0875),
        "agreement": 0.75,
        "passed": True,
    }
    assert not parity(reference, candidate, most_error=0.49)["passed"]
    assert not parity(reference, candidate, least_agreement=0.76)["passed"]
    broken = reference.copy()
    broken[0, 0] = np.nan
    assert parity(reference, broken)["agreement"] == 0.75
    assert not parity(reference, broken, most_error=1e9)["passed"]
    for wrong in (reference[:2], reference[0], np.zeros((0, 2))):
        with pytest.raises(UsageError):
            parity(wrong, candidate if wrong.ndim == 2 and len(wrong) else wrong)
