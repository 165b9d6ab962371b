"""The parts of a student with exits as ONNX: the same numbers on every shape, in fp32, and nearly in INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from understudy.errors import UsageError
from understudy.export import parts_to_onnx, quantise_parts
from understudy.runtime.graph import GraphModel
from understudy.students import Cnn, Exits, with_exits

from .conftest import VOCABULARY, tokens


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exits, list[Path]]:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=128, num_labels=5, initializer_range=0.2,
    )  # fmt: skip
    module = with_exits(BertForSequenceClassification(config), [1, 2]).train()
    example = {name: torch.as_tensor(array) for name, array in tokens(3, 11).items()}
    folder = tmp_path_factory.mktemp("bert")
    paths = parts_to_onnx(module, example, folder)
    assert all(part.training for part in module.modules())
    assert module.config._attn_implementation == "sdpa"
    return module.eval(), paths


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exits, list[Path]]:
    torch.manual_seed(0)
    module = with_exits(Cnn((16, 16), 3, 4, width=8), "all").train()
    for seed in range(20):  # batch normalisation that has seen something
        module(images(16, seed))
    return module.eval(), parts_to_onnx(module, {"pixels": images(4, 0)}, tmp_path_factory.mktemp("cnn"))


def images(rows: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, 3, 16, 16), generator=draw, dtype=torch.uint8)


def through(paths: list[Path], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    found, inputs = [], dict(inputs)
    for path in paths:
        said = GraphModel(path, threads=1).run(inputs)
        found.append(said["logits"])
        inputs["state"] = said.get("next_state", np.empty(0))
    return found


def wanted(module: nn.Module, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        said = module(**{name: torch.as_tensor(array) for name, array in inputs.items()})
    return [said[name].numpy() for name in ("exit.0.logits", "exit.1.logits", "logits")]


@pytest.mark.parametrize("shape", [(1, 5), (3, 17), (8, 64), (1, 1), (2, 128)])
def test_an_encoder_on_every_shape(bert: tuple[Exits, list[Path]], shape: tuple[int, int]) -> None:
    inputs = tokens(*shape, seed=sum(shape))
    module, paths = bert
    for got, right in zip(through(paths, inputs), wanted(module, inputs), strict=True):
        assert np.abs(right).max() > 0.1, "logits near zero would prove nothing"
        np.testing.assert_allclose(got, right, atol=1e-4)


def test_padding_and_leaving_change_nothing_for_those_who_stay(bert: tuple[Exits, list[Path]]) -> None:
    """The state of some rows, with their masks, goes on alone; what is padding may hold anything."""
    _, paths = bert
    inputs = tokens(6, 9)
    whole = through(paths, inputs)
    first = GraphModel(paths[0], threads=1).run(inputs)
    stay = np.array([False, True, True, False, True, True])
    state = first["next_state"][stay].copy()
    state[inputs["attention_mask"][stay] == 0] = 77.0
    said = GraphModel(paths[1], threads=1).run({"state": state, "attention_mask": inputs["attention_mask"][stay]})
    np.testing.assert_allclose(said["logits"], whole[1][stay], atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 33])
def test_a_cnn_on_every_batch(cnn: tuple[Exits, list[Path]], rows: int) -> None:
    inputs = {"pixels": images(rows, rows).numpy()}
    module, paths = cnn
    assert len(paths) == 3, "stages of 16, 8 and 4 pixels a side"
    for got, right in zip(through(paths, inputs), wanted(module, inputs), strict=True):
        np.testing.assert_allclose(got, right, atol=1e-4)


def test_the_files_have_the_stated_form(bert: tuple[Exits, list[Path]], cnn: tuple[Exits, list[Path]]) -> None:
    carried = {"input_ids", "attention_mask", "token_type_ids"}
    forms = {
        "bert": [(carried, 2), ({"state", "attention_mask"}, 2), ({"state", "attention_mask"}, 1)],
        "cnn": [({"pixels"}, 2), ({"state"}, 2), ({"state"}, 1)],
    }
    for (_, paths), expected in zip((bert, cnn), forms.values(), strict=True):
        assert [path.name for path in paths] == ["model.0.onnx", "model.1.onnx", "model.2.onnx"]
        for path, (inputs, outputs) in zip(paths, expected, strict=True):
            graph = onnx.load(path)
            onnx.checker.check_model(graph)
            assert {node.name for node in graph.graph.input} == inputs
            assert [node.name for node in graph.graph.output] == ["logits", "next_state"][:outputs]
            for node in (*graph.graph.input, *graph.graph.output):
                assert node.type.tensor_type.shape.dim[0].dim_param == "N"
            assert b"site-packages" not in path.read_bytes()
    tables = [tensor for path in bert[1][1:] for tensor in onnx.load(path).graph.initializer
              if tensor.dims[:1] == [VOCABULARY]]  # fmt: skip
    assert not tables, "only the first part carries the vocabulary"


def test_int8_parts_follow_each_other(cnn: tuple[Exits, list[Path]], tmp_path: Path) -> None:
    """The range of a part's state is what the INT8 part before gave on the calibration rows."""
    module, paths = cnn
    rows = [{"pixels": images(16, seed).numpy()} for seed in (50, 51)]
    small = quantise_parts(paths, tmp_path, rows)
    assert [path.name for path in small] == [path.name for path in paths]
    inputs = {"pixels": images(64, 99).numpy()}
    for got, right in zip(through(small, inputs), wanted(module, inputs), strict=True):
        assert 0 < np.abs(got - right).max() < 0.15 * np.abs(right).max()
    first = GraphModel(small[0], threads=1)
    most = max(first.run(batch)["next_state"].max() for batch in rows)
    graph = onnx.load(small[1]).graph
    (enters,) = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "state"]
    scale = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}[enters.input[1]]
    assert 255 * float(scale) == pytest.approx(float(most), rel=1e-4)  # a ReLU gave it: from 0 to the most
    with pytest.raises(UsageError, match="calibration rows"):
        quantise_parts(paths, tmp_path, [])


def test_int8_of_an_encoder(bert: tuple[Exits, list[Path]], tmp_path: Path) -> None:
    module, paths = bert
    small = quantise_parts(paths, tmp_path)
    inputs = tokens(8, 20, seed=3)
    for got, right in zip(through(small, inputs), wanted(module, inputs), strict=True):
        assert 0 < np.abs(got - right).max() < 0.25 * np.abs(right).max()
    assert sum(path.stat().st_size for path in small) < 0.75 * sum(path.stat().st_size for path in paths)
