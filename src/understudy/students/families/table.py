"""A small network for rows of a table."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from understudy.errors import UsageError


class Table(nn.Module):
    """Fully connected layers with ReLU on features: ``layers`` hidden ones of ``width`` units, then ``classes``.

    It is smooth where trees have steps: a jump of the label at one value of one column takes it many units, and what
    holds in a corner of the table only takes many rows. In return it is a few matrix products, however many trees the
    teacher has.

    Args:
        features: F, numbers of a row (``TableEncoder.size``).
        classes: K.
        width: units of a hidden layer.
        layers: hidden layers; 0 is a linear model.
        dropout: share of hidden units zeroed in training, [0, 1).
    """

    def __init__(self, features: int, classes: int, *, width: int = 64, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "features": features, "classes": classes, "width": width, "layers": layers, "dropout": dropout
        }  # fmt: skip
        if min(features, classes, width, layers + 1) < 1 or not 0 <= dropout < 1:
            said = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
            raise UsageError(f"Table wants at least 1 of everything and a dropout in [0, 1), got {said}")
        widths = [features] + [width] * layers
        stages: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            stages += [nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*stages)
        self.output = nn.Linear(widths[-1], classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits [N, K] of features float32 [N, F]."""
        said: Tensor = self.output(self.layers(features))
        return said
