"""Factorised embeddings: the best approximation of a rank, kept on disk and in ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from understudy.errors import StoreError
from understudy.files import read_json, write_json
from understudy.students import FactorisedEmbedding, cut, inheritance, load, save


def logits(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "electra"])
def test_the_whole_rank_is_the_whole_table(hugging: Any, batch: Any, name: str) -> None:
    torch.manual_seed(0)
    model, inputs = hugging(name), batch("tokens", 4)
    width = model.get_input_embeddings().embedding_dim
    student = cut(model, rank=width).eval()
    assert student.config.num_hidden_layers == 6  # a rank alone leaves the layers alone
    torch.testing.assert_close(logits(student, inputs), logits(model, inputs), atol=1e-6, rtol=1e-6)
    report = inheritance(student, model)
    assert report["rank"]["energy"] == pytest.approx(1.0)
    assert report["fresh"] == []


@pytest.mark.parametrize("rank", [1, 5, 15])
def test_no_table_of_that_rank_is_closer(hugging: Any, rank: int) -> None:
    torch.manual_seed(0)
    model = hugging("bert")
    student: Any = cut(model, rank=rank)
    found = student.get_submodule("bert.embeddings.word_embeddings")
    assert isinstance(found, FactorisedEmbedding)
    wanted = model.get_input_embeddings().weight.detach().double().numpy()
    values = np.linalg.svd(wanted, compute_uv=False)
    error = float(np.square(found.whole().detach().double().numpy() - wanted).sum())
    assert error == pytest.approx(float(np.square(values[rank:]).sum()), rel=1e-4)
    energy = inheritance(student, model)["rank"]["energy"]
    assert energy == pytest.approx(1 - error / float(np.square(wanted).sum()), abs=1e-6)


def test_rows_say_which_sub_words_matter(hugging: Any) -> None:
    torch.manual_seed(0)
    model = hugging("bert")
    wanted = model.get_input_embeddings().weight.detach()
    rows = [
        {"input_ids": torch.tensor([[7, 9, 7], [9, 7, 50]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    ]
    blind, seeing = cut(model, rank=2), cut(model, rank=2, rows=rows)

    def error(student: Any, ids: list[int]) -> float:
        whole = student.get_submodule("bert.embeddings.word_embeddings").whole().detach()
        return float((whole - wanted)[ids].square().sum() / wanted[ids].square().sum())

    assert error(seeing, [7, 9]) < 0.1 < error(blind, [7, 9])
    assert error(seeing, [50]) > 0.5  # padding is no use
    report = inheritance(seeing, model)
    assert report["rank"]["energy"] < inheritance(blind, model)["rank"]["energy"] < report["rank"]["used"]
    assert "weighted by use" in report["sentence"]
    assert inheritance(blind, model)["rank"]["used"] is None
    assert inheritance(cut(model, rank=2, initialise=False), model)["rank"]["energy"] is None


def test_on_disk(hugging: Any, batch: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = hugging("roberta", id2label={0: "no", 1: "yes", 2: "maybe"})
    model.config._name_or_path = "/somewhere/private"
    student = cut(model, 2, rank=4).eval()
    save(student, tmp_path / "student")
    state = torch.get_rng_state()
    again: Any = load(tmp_path / "student")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(again, batch("tokens", 4)), logits(student, batch("tokens", 4)))
    assert again.config.id2label == {0: "no", 1: "yes", 2: "maybe"}
    config = read_json(tmp_path / "student" / "config.json")
    assert (config["understudy_family"], config["rank"]) == ("factorised", 4)
    assert "private" not in str(config)
    for change in ({"architecture": "os"}, {"rank": 99}, {"rank": 3}, {"rank": "x"}, {"config": {"hidden_size": 7}}):
        write_json(tmp_path / "student" / "config.json", {**config, **change})
        with pytest.raises(StoreError):
            load(tmp_path / "student")


def test_exported_and_quantised(hugging: Any, batch: Any, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    from understudy import export

    torch.manual_seed(0)
    model = hugging("bert", vocab_size=1200)
    student, inputs = cut(model, 1, width=8, rank=4).eval(), batch("tokens", 4)
    export.to_onnx(student, inputs, tmp_path / "fp32.onnx")
    export.quantise_dynamic(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    tables = {tuple(t.dims): t.data_type for t in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    assert tables[1200, 4] == onnx.TensorProto.INT8  # a scale for each row
    assert tables[1200, 1] == onnx.TensorProto.FLOAT
    fed = {name: value.numpy() for name, value in inputs.items()}
    wanted = logits(student, inputs).numpy()
    for name, most in (("fp32", 1e-4), ("int8", 0.05)):
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        assert np.abs(session.run(["logits"], fed)[0] - wanted).max() < most
