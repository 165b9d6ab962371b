"""Students that read words in order as ONNX: the same answers, small, and what is stored as bytes is folded at load."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from understudy.export import parity, quantise_dynamic
from understudy.students import Conv, Gru, Transformer

from .conftest import VOCABULARY, Exported, _export, answer, tokens

BUILD: dict[str, Any] = {"conv": Conv, "gru": Gru, "transformer": Transformer}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Exported, Path]]:
    """``made("gru")`` -> the family exported in fp32, and the INT8 file made of it; once each."""

    @functools.cache
    def build(name: str) -> tuple[Exported, Path]:
        torch.manual_seed(0)
        module = BUILD[name](VOCABULARY, 5, dimensions=32, width=32, hidden=32)
        with torch.no_grad():  # rows as they are in a trained model: some words are many times longer than others
            module.words.table.weight *= torch.logspace(-0.5, 1, VOCABULARY)[torch.randperm(VOCABULARY), None]
        folder = tmp_path_factory.mktemp(name)
        found = _export(module, tokens(3, 11, types=False), folder / "model.onnx")
        quantise_dynamic(found.path, folder / "int8.onnx")
        return found, folder / "int8.onnx"

    return build


@pytest.fixture(params=list(BUILD))
def exported(request: pytest.FixtureRequest, made: Callable[[str], tuple[Exported, Path]]) -> tuple[Exported, Path]:
    return made(request.param)


@pytest.mark.parametrize("shape", [(64, 9), (1, 1), (1, 5), (3, 60)])
def test_the_graph_says_what_the_module_says(exported: tuple[Exported, Path], shape: tuple[int, int]) -> None:
    made, int8 = exported
    inputs = tokens(*shape, types=False, seed=1)
    wanted = made.wanted(inputs)
    np.testing.assert_allclose(answer(made.path, inputs), wanted, atol=1e-4)
    assert np.abs(answer(int8, inputs) - wanted).max() < 0.15 * made.wanted(tokens(64, 9, types=False)).std()
    assert made.untouched


def test_int8_is_a_quarter_and_keeps_the_labels(exported: tuple[Exported, Path]) -> None:
    made, int8 = exported
    inputs = tokens(300, 12, types=False, seed=2)
    found = parity(made.wanted(inputs), answer(int8, inputs))
    assert found["agreement"] >= 0.97
    assert int8.stat().st_size < 0.45 * made.path.stat().st_size
    floats = [
        list(tensor.dims)
        for tensor in onnx.load(int8).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2 and min(tensor.dims) > 2
    ]
    assert [dims for dims in floats if dims != [64, 32]] == [], "only a transformer's positions stay"


def test_recurrent_weights_are_folded_when_the_model_is_loaded(made: Any, tmp_path: Path) -> None:
    int8 = made("gru")[1]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "loaded.onnx"), 3
    onnxruntime.InferenceSession(str(int8), options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx").graph
    constants = {tensor.name for tensor in loaded.initializer}
    cells = [node for node in loaded.node if node.op_type == "GRU"]
    assert len(cells) == 1
    assert set(cells[0].input[1:4]) <= constants
