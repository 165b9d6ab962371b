"""Rows and modules that train in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.data.examples import Examples
from understudy.data.feed import Feed
from understudy.errors import Interrupted
from understudy.objectives import hard_labels, soft_labels
from understudy.teachers import Live
from understudy.training import Settings, Training, train

WIDTH, CLASSES = 4, 3


class Numbers:
    """A text of numbers, read as one vector."""

    kind, fields = "numbers", ("text",)

    def __init__(self, fingerprint: str = "numbers") -> None:
        self.fingerprint = fingerprint

    def encode(self, inputs: Mapping[str, Any]) -> np.ndarray:
        return np.array([[float(word) for word in text.split()] for text in inputs["text"]], np.float32)

    def lengths(self, features: np.ndarray) -> np.ndarray:
        return np.ones(len(features), np.int64)

    def collate(self, features: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": features[rows]}


class Small(nn.Module):
    """A plain module, as anybody would write one."""

    def __init__(self, *, dropout: float = 0.0, norm: bool = False, seed: int = 0, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Linear(WIDTH, width)
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.tanh(self.norm(self.body(x)))))


def examples(rows: int = 14, *, unlabelled: float = 0.3, seed: int = 0) -> Examples:
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, WIDTH))
    labels = numbers[:, :CLASSES].argmax(1)
    labels[random.random(rows) < unlabelled] = -1
    return Examples.of({"text": [" ".join(f"{x:.4f}" for x in row) for row in numbers]}, labels)


def feed(rows: int = 14, **more: Any) -> Feed:
    return Feed(examples(rows, **more), {"student": Numbers(), "teacher": Numbers()})


def score(data: Feed) -> Callable[[nn.Module], float]:
    """Minus the cross-entropy on the labelled rows."""
    batch = data.batch(np.arange(len(data)))
    known = batch.labels >= 0

    @torch.no_grad()
    def validate(module: nn.Module) -> float:
        return -float(F.cross_entropy(module(batch.inputs["student"]["x"])[known], batch.labels[known]))

    return validate


def objective() -> list[Any]:
    return [soft_labels(2.0, 0.7), hard_labels(0.3)]


def after(steps: int) -> Callable[[], bool]:
    """A ``should_stop`` that is asked once a step and says yes for the first time after ``steps`` of them."""
    asked = iter(range(1, 10_000))
    return lambda: next(asked) >= steps


def trained(
    student: nn.Module | Mapping[str, nn.Module] | None = None,
    data: Feed | None = None,
    *,
    folder: Path | None = None,
    stop: int | None = None,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Training | None:
    """A training with dropout, momentum and a partial last batch; None where it was interrupted after ``stop``."""
    data = feed() if data is None else data
    dials = {"epochs": 3, "batch_size": 4, "learning_rate": 1e-2, **(settings or {})}
    how: dict[str, Any] = {"objective": objective(), "teacher": Live(Small(seed=9)), "validate": score(data), **more}
    if stop is not None:
        how["should_stop"] = after(stop)
    student = student if student is not None else Small(dropout=0.3, norm=True)
    try:
        return train(student, data, settings=Settings(**dials), folder=folder, device="cpu", **how)
    except Interrupted:
        return None


def same(first: nn.Module, second: nn.Module) -> bool:
    """Bit by bit."""
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
