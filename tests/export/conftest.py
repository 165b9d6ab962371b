"""Tiny real models, exported once each: the exporter of PyTorch takes seconds whatever the size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from understudy.export import to_onnx

VOCABULARY = 3000


@dataclass(frozen=True)
class Exported:
    """A module in eval mode, its fp32 ONNX file, and whether the export left the module as it was (training)."""

    module: nn.Module
    path: Path
    untouched: bool

    def wanted(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            said = self.module(**{name: torch.as_tensor(array) for name, array in inputs.items()})
        return (said if isinstance(said, Tensor) else said.logits).numpy()


def answer(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def tokens(rows: int, length: int, *, types: bool = True, seed: int = 0) -> dict[str, np.ndarray]:
    """Random ids; every row but the first ends in padding."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, length + 1, rows)
    lengths[0] = length
    inputs = {
        "input_ids": generator.integers(0, VOCABULARY, (rows, length)),
        "attention_mask": (np.arange(length) < lengths[:, None]).astype(np.int64),
    }
    return {**inputs, "token_type_ids": generator.integers(0, 2, (rows, length))} if types else inputs


def images(rows: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    return {"pixels": np.random.default_rng(seed).integers(0, 256, (rows, 3, 12, 10), dtype=np.uint8)}


class Cnn(nn.Module):
    """Two convolutions with batch normalisation, on uint8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d((2, 2)),
            nn.Flatten(), nn.Dropout(0.5), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        return self.body((pixels.float() / 255 - self.mean) / 0.25)


class Mlp(nn.Module):
    """One hidden layer on uint8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(360, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.body(pixels.float() / 255)


def _export(module: nn.Module, example: dict[str, np.ndarray], path: Path) -> Exported:
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    to_onnx(module, {name: torch.as_tensor(array) for name, array in example.items()}, path)
    same = all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    training = all(part.training for part in module.modules())
    return Exported(module.eval(), path, untouched=same and training)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=128, num_labels=5, initializer_range=0.2,
    )  # fmt: skip
    module = BertForSequenceClassification(config)
    # Rows as they are in a trained model: some words are many times longer than others.
    with torch.no_grad():
        module.bert.embeddings.word_embeddings.weight *= torch.logspace(-1, 1, VOCABULARY)[
            torch.randperm(VOCABULARY), None
        ]
    return _export(module, tokens(3, 11), tmp_path_factory.mktemp("bert") / "model.onnx")


@pytest.fixture(scope="session")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, n_layers=1, n_heads=4, hidden_dim=64, max_position_embeddings=128, num_labels=3,
        initializer_range=0.2,
    )  # fmt: skip
    # One row as the example: the exporter alone would take its size for a constant.
    example = tokens(1, 7, types=False)
    return _export(DistilBertForSequenceClassification(config), example, tmp_path_factory.mktemp("distil") / "m.onnx")


@pytest.fixture(scope="session")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    module = Cnn()
    with torch.no_grad():
        for seed in range(20):  # batch normalisation that has seen something
            module(torch.as_tensor(images(16, seed=seed)["pixels"]))
    return _export(module, images(2), tmp_path_factory.mktemp("cnn") / "model.onnx")


@pytest.fixture(scope="session")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    return _export(Mlp(), images(1), tmp_path_factory.mktemp("mlp") / "model.onnx")
