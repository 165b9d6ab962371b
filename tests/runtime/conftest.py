"""One small artefact of every kind, and the formula of each in plain numpy: the oracle of this room."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from understudy.encoding import PixelEncoder, SubwordEncoder, WordEncoder
from understudy.export.artefact import write_artefact

LABELS = ("card", "cash", "other")
WORDS = ("where", "is", "my", "card", "cash", "?")


@dataclass(frozen=True)
class Made:
    """An artefact folder, some rows for it, and their logits as numpy computes them without the runtime."""

    folder: Path
    rows: list[dict[str, Any]]
    logits: np.ndarray


def texts(number: int) -> list[str]:
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, length)) for length in generator.integers(0, 12, number)]


def static(folder: Path, *, bits: int = 8) -> Made:
    generator = np.random.default_rng(1)
    encoder = WordEncoder(WORDS, buckets=9, pairs=True)
    width, hidden = 6, 5
    table = generator.integers(-127, 128, (encoder.size, width)).astype(np.int8)
    tensors = {
        "table": table if bits == 8 else table.astype(np.float32),
        "scale": generator.uniform(0.01, 0.02, encoder.size).astype(np.float32),
        "weights": generator.uniform(0.5, 2, encoder.size).astype(np.float32),
        "hidden.weight": generator.normal(size=(hidden, 2 * width)).astype(np.float32),
        "hidden.bias": generator.normal(size=hidden).astype(np.float32),
        "output.weight": generator.normal(size=(3, hidden)).astype(np.float32),
        "output.bias": generator.normal(size=3).astype(np.float32),
    }
    rows = texts(200)
    features = encoder.encode({"text": rows})
    logits = []
    for row in range(len(rows)):
        ids = features[row]
        vectors = tensors["table"][ids].astype(np.float64) * tensors["scale"][ids][:, None]
        weights = tensors["weights"][ids]
        pooled = np.concatenate([(weights[:, None] * vectors).sum(0) / weights.sum(), vectors.max(0)])
        inner = np.maximum(tensors["hidden.weight"] @ pooled + tensors["hidden.bias"], 0)
        logits.append(tensors["output.weight"] @ inner + tensors["output.bias"])
    write(folder, encoder, tensors)
    return Made(folder, [{"text": text} for text in rows], np.array(logits))


def subwords(folder: Path) -> Made:
    """The mean of one vector per token, padding left out."""
    tokens = ("[PAD]", "[UNK]", *WORDS)
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    encoder = SubwordEncoder(tokenizer, limit=8)
    vectors = np.random.default_rng(2).normal(size=(len(tokens), 3)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["found"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["found", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "middle"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["divisor"]),
        helper.make_node("Div", ["total", "divisor"], ["logits"]),
    ]
    constants = {"vectors": vectors, "last": np.array([2]), "middle": np.array([1]), "one": np.ones(1, np.float32)}
    ids = {name: (TensorProto.INT64, ["N", "L"]) for name in ("input_ids", "attention_mask")}
    rows = texts(100)
    logits = []
    for text in rows:
        known = [tokens.index(word) for word in text.split()[:8]]
        logits.append(vectors[known].mean(0) if known else np.zeros(3))
    write(folder, encoder, graph(folder, nodes, constants, ids))
    return Made(folder, [{"text": text} for text in rows], np.array(logits))


def pixels(folder: Path) -> Made:
    """A linear model on the pixels of 4 x 5 images."""
    generator = np.random.default_rng(3)
    weight, bias = generator.normal(size=(20, 3)).astype(np.float32) / 100, np.ones(3, np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
    ]
    inputs = {"pixels": (TensorProto.UINT8, ["N", 1, 4, 5])}
    images = generator.integers(0, 256, (40, 4, 5), dtype=np.uint8)
    write(folder, PixelEncoder((4, 5), 1), graph(folder, nodes, {"weight": weight, "bias": bias}, inputs))
    return Made(folder, [{"image": png(image)} for image in images], images.reshape(40, 20) @ weight + bias)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def graph(folder: Path, nodes: list[Any], constants: dict[str, np.ndarray], inputs: dict[str, Any]) -> Path:
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = folder.with_suffix(".onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def write(folder: Path, encoder: Any, model: Any, **changes: Any) -> None:
    settings = {"temperature": 2.0, "thresholds": {"abstain_below": 0.5}, **changes}
    write_artefact(folder, task="classification", labels=LABELS, encoder=encoder, model=model, **settings)


MAKERS: dict[str, Callable[[Path], Made]] = {"static": static, "subwords": subwords, "pixels": pixels}


@pytest.fixture(params=list(MAKERS))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    return MAKERS[request.param](tmp_path / "artefact")


@pytest.fixture(params=list(MAKERS), scope="session")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Like ``made``, for tests that only read."""
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param) / "artefact")


@pytest.fixture(scope="session")
def all_made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    return {name: make(tmp_path_factory.mktemp("all") / name) for name, make in MAKERS.items()}
