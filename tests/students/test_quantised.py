"""A fake-quantised module says what its INT8 export says, and goes back to what it was."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from understudy.encoding import Ragged
from understudy.errors import UsageError
from understudy.export import quantise_dynamic, quantise_static, static_tensors, static_values, to_onnx
from understudy.runtime.static import StaticModel
from understudy.students import Cnn, Mlp, Ngram, Static, fake_quantised, plain
from understudy.students.quantised import rounded_activations, rounded_weights

VOCABULARY = 1500
SIZES = {"vocab_size": VOCABULARY, "max_position_embeddings": 32, "num_labels": 5, "initializer_range": 0.2}


def bert() -> nn.Module:
    return BertForSequenceClassification(
        BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, **SIZES)
    )


def distilbert() -> nn.Module:
    return DistilBertForSequenceClassification(DistilBertConfig(dim=32, n_layers=1, n_heads=4, hidden_dim=64, **SIZES))


def tokens(rows: int, length: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(2, length + 1, rows)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return {"input_ids": draw.integers(0, VOCABULARY, (rows, length)), "attention_mask": mask}


def pixels(rows: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    return {"pixels": np.random.default_rng(seed).integers(0, 256, (rows, 3, 16, 16), dtype=np.uint8)}


def said(module: nn.Module, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        answer: Any = module(**{name: torch.as_tensor(value) for name, value in inputs.items()})
    return getattr(answer, "logits", answer).numpy()


def graph(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {node.name: inputs[node.name] for node in session.get_inputs()})[0]


@pytest.mark.parametrize("make", [bert, distilbert])
def test_an_encoder_is_its_export(make: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = make().eval()
    inputs = tokens(9, 13)
    exact = said(module, inputs)
    to_onnx(module, {name: torch.as_tensor(value) for name, value in inputs.items()}, tmp_path / "a.onnx")
    quantise_dynamic(tmp_path / "a.onnx", tmp_path / "b.onnx")
    fake_quantised(module, "dynamic")
    off = []
    for shape in [(9, 13), (1, 5), (4, 31), (8, 8), (2, 20), (3, 3)]:
        some = tokens(*shape, seed=sum(shape))
        off.append(np.abs(said(module, some) - graph(tmp_path / "b.onnx", some)).max())
    # a value within fp32's last digit of a rounding edge may fall the other way, and move every scale behind it
    assert sorted(off)[-2] < 1e-3, off
    assert max(off) < 0.1, off
    assert np.abs(said(module, inputs) - exact).max() > 1e-3, "INT8 that changes nothing would prove nothing"
    np.testing.assert_array_equal(said(plain(module), inputs), exact)


@pytest.mark.parametrize("family", [Cnn, Mlp])
def test_a_calibrated_model_is_its_export(family: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = family((16, 16), 3, 4, width=8).train()
    for seed in range(20):  # batch normalisation that has seen something
        said(module, pixels(16, seed=seed))
    module.eval()
    rows = [pixels(16, seed=seed) for seed in range(50, 56)]
    exact = said(module, pixels(32))
    to_onnx(module, {name: torch.as_tensor(value) for name, value in pixels(4).items()}, tmp_path / "a.onnx")
    quantise_static(tmp_path / "a.onnx", tmp_path / "b.onnx", rows)
    fake_quantised(module, "calibrated", rows=rows)
    int8 = graph(tmp_path / "b.onnx", pixels(32))
    np.testing.assert_allclose(said(module, pixels(32)), int8, atol=1e-3)
    assert np.median(np.abs(said(module, pixels(32)) - int8)) < 1e-6
    assert np.abs(int8 - exact).max() > 1e-3
    np.testing.assert_array_equal(said(plain(module), pixels(32)), exact)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("texts", [1, 2])
@pytest.mark.parametrize("family", ["static", "ngram"])
def test_a_table_is_its_export(family: str, texts: int, bits: int) -> None:
    torch.manual_seed(0)
    static, ngram = Static(300, 16, 4, hidden=32, texts=texts), Ngram(300, 3, 5, texts=texts)
    module = {"static": static, "ngram": ngram}[family].eval()
    with torch.no_grad():
        module.weights.uniform_(-3, 0)
    ids, offsets = torch.randint(0, 300, (40,)), torch.tensor([0, 3, 4, 20, 40])
    names, exact = [name for name, _ in module.named_parameters()], module(ids, offsets).detach().numpy()
    small = StaticModel(static_tensors(module, bits=bits)).logits(Ragged(ids.numpy(), offsets.numpy()))
    fake = fake_quantised(module, "static", stored=partial(static_values, bits=bits))(ids, offsets)
    np.testing.assert_allclose(fake.detach().numpy(), small, atol=1e-5)
    assert np.abs(fake.detach().numpy() - exact).max() > 1e-4
    fake.sum().backward()
    assert [name for name, parameter in module.named_parameters() if parameter.grad is not None] == names
    np.testing.assert_array_equal(plain(module)(ids, offsets).detach().numpy(), exact)


def test_a_table_is_rounded_as_somebody_says() -> None:
    with pytest.raises(UsageError, match="needs stored"):
        fake_quantised(Static(30, 4, 2), "static")
    with pytest.raises(UsageError, match="a vector of scores for every token"):
        static_values(Ngram(30, 8, 2))


def test_a_copy_rounds_for_itself() -> None:
    """What is trained is a copy: undoing it must leave the other as it is, and its weights must be its own."""
    torch.manual_seed(0)
    first = fake_quantised(Mlp((16, 16), 3, 4, width=8).eval(), "dynamic")
    second = copy.deepcopy(first)
    before = said(first, pixels(5))
    np.testing.assert_array_equal(said(second, pixels(5)), before)
    with torch.no_grad():
        second.get_parameter("output.weight").zero_()
    plain(second)
    np.testing.assert_array_equal(said(first, pixels(5)), before)
    assert np.abs(said(second, pixels(5))).max() < 1.0


def test_every_weight_hears_the_loss() -> None:
    torch.manual_seed(0)
    module = fake_quantised(bert().train(), "dynamic")
    names = {name for name, _ in module.named_parameters()}
    assert names == {name for name, _ in bert().named_parameters()}
    inputs = {name: torch.as_tensor(value) for name, value in tokens(4, 9).items()}
    module(**inputs, labels=torch.arange(4)).loss.backward()
    silent = [name for name, p in module.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert [name for name in silent if "key.bias" not in name] == []  # a key's bias changes no attention at all


def test_the_gradient_ends_where_a_value_is_cut_off() -> None:
    values = torch.tensor([-2.0, -0.5, 0.5, 2.0], requires_grad=True)
    rounded_activations(values, torch.tensor(-1.0), torch.tensor(1.0)).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    weight = torch.randn(3, 4, requires_grad=True)
    rounded_weights(weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.eq(1).all()


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UsageError, match='no INT8 scheme "dynamik"'):
        fake_quantised(nn.Linear(2, 2), "dynamik")
    with pytest.raises(UsageError, match="calibration rows, got none"):
        fake_quantised(nn.Linear(2, 2), "calibrated")
