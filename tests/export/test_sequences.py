"""Students that read words in order as ONNX: the same answers, small, and what is stored as bytes is folded at load.

Each also as it is for pairs of texts, whose inputs have one dimension more.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from understudy import runtime
from understudy.encoding import PairEncoder, SequenceEncoder, WordEncoder
from understudy.errors import DataError
from understudy.export import parity, quantise_dynamic, write_artefact
from understudy.students import Conv, Gru, Transformer, fake_quantised

from .conftest import VOCABULARY, Exported, _export, answer, tokens

BUILD: dict[str, Any] = {"conv": Conv, "gru": Gru, "transformer": Transformer}
NAMES = [f"{name}{of}" for name in BUILD for of in ("", " of pairs")]


def texts(name: str, rows: int, length: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows for the family of that name: [N, L], or [N, 2, L]."""
    if not name.endswith(" of pairs"):
        return tokens(rows, length, types=False, seed=seed)
    return {
        key: value.reshape(rows, 2, length) for key, value in tokens(2 * rows, length, types=False, seed=seed).items()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Exported, Path]]:
    """``made("gru")`` -> the family exported in fp32, and the INT8 file made of it; once each."""

    @functools.cache
    def build(name: str) -> tuple[Exported, Path]:
        torch.manual_seed(0)
        shape = {"dimensions": 32, "width": 32, "hidden": 32, "texts": 1 + name.endswith(" of pairs")}
        module = BUILD[name.removesuffix(" of pairs")](VOCABULARY, 5, **shape)
        with torch.no_grad():  # rows as they are in a trained model: some words are many times longer than others
            module.words.table.weight *= torch.logspace(-0.5, 1, VOCABULARY)[torch.randperm(VOCABULARY), None]
        folder = tmp_path_factory.mktemp(name)
        found = _export(module, texts(name, 3, 11), folder / "model.onnx")
        quantise_dynamic(found.path, folder / "int8.onnx")
        return found, folder / "int8.onnx"

    return build


@pytest.mark.parametrize("shape", [(64, 9), (1, 1), (1, 5), (3, 60)])
@pytest.mark.parametrize("name", NAMES)
def test_the_graph_says_what_the_module_says(made: Any, name: str, shape: tuple[int, int]) -> None:
    exported, int8 = made(name)
    inputs = texts(name, *shape, seed=1)
    wanted = exported.wanted(inputs)
    np.testing.assert_allclose(answer(exported.path, inputs), wanted, atol=1e-4)
    assert np.abs(answer(int8, inputs) - wanted).max() < 0.15 * exported.wanted(texts(name, 64, 9)).std()
    assert exported.untouched


@pytest.mark.parametrize("name", NAMES)
def test_int8_is_a_quarter_and_keeps_the_labels(made: Any, name: str) -> None:
    exported, int8 = made(name)
    inputs = texts(name, 300, 12, seed=2)
    found = parity(exported.wanted(inputs), answer(int8, inputs))
    assert found["agreement"] >= 0.97
    assert int8.stat().st_size < 0.45 * exported.path.stat().st_size
    sizes = [
        [one.dim_param or one.dim_value for one in i.type.tensor_type.shape.dim] for i in onnx.load(int8).graph.input
    ]
    assert sizes == 2 * [["N", 2, "L"] if name.endswith(" of pairs") else ["N", "L"]]
    floats = [
        list(tensor.dims)
        for tensor in onnx.load(int8).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2 and min(tensor.dims) > 2
    ]
    assert [dims for dims in floats if dims != [64, 32]] == [], "only a transformer's positions stay"


@pytest.mark.parametrize("name", ["conv of pairs", "transformer of pairs"])  # recurrent weights are not rounded there
def test_training_with_rounding_hears_what_ships(made: Any, name: str) -> None:
    exported, int8 = made(name)
    module = fake_quantised(copy.deepcopy(exported.module), "dynamic")
    off = []
    for seed, shape in enumerate([(9, 13), (1, 5), (4, 31), (8, 8), (2, 20), (3, 3)]):
        inputs = texts(name, *shape, seed=seed)
        with torch.no_grad():
            fake = module(**{key: torch.as_tensor(value) for key, value in inputs.items()}).numpy()
        off.append(np.abs(fake - answer(int8, inputs)).max())
    # a value within fp32's last digit of a rounding edge may fall the other way, and move every scale behind it
    assert sorted(off)[-2] < 1e-3, off


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(" of pairs")])
def test_an_artefact_of_pairs_says_what_the_module_says(made: Any, name: str, tmp_path: Path) -> None:
    exported, int8 = made(name)
    words = ["where", "is", "my", "card", "?"]
    inner = SequenceEncoder(WordEncoder(words, buckets=VOCABULARY - len(words) - 2), limit=6)
    encoder = PairEncoder(inner, fields=("question", "answer"))
    assert encoder.size == VOCABULARY
    sides = ["where is my card ?", "", "zebra", "my " * 7, "\ud800", "x" * 1_000_000], ["a card"] * 6
    rows = [
        {"question": one, "answer": two} for one, two in [*zip(*sides, strict=True), *zip(*sides[::-1], strict=True)]
    ]
    features = encoder.encode({field: [row[field] for row in rows] for field in encoder.fields})
    wanted = exported.wanted(encoder.collate(features, range(len(rows))))
    for file, near in ((exported.path, 1e-4), (int8, 0.2 * wanted.std())):
        write_artefact(tmp_path / "a", task="t", labels=list("abcde"), encoder=encoder, model=file)
        loaded = runtime.load(tmp_path / "a")
        for batch in (1, 5, 32):
            np.testing.assert_allclose(loaded.logits(rows, batch=batch), wanted, atol=near)
    cut = [one.get("truncated", False) for one in loaded.predict(rows)]
    assert cut == [
        len(one.split()) > 6 or len(two.split()) > 6 or len(one + two) > 1e5 for one, two in map(dict.values, rows)
    ]
    with pytest.raises(DataError, match='row 2, column "answer": there is no such column'):
        loaded.predict([rows[0], {"question": "alone"}])


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
