"""Small families for images, and the wrapper that lets a transformers vision model take the same uint8 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import UsageError


class Scale(nn.Module):
    """uint8 pixels [N, C, H, W] -> (pixels / 255 - mean) / std, in the precision of its buffers.

    One channel against three means becomes three channels by broadcasting.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean or min(std) <= 0:
            raise UsageError(f"as many means as standard deviations above 0 are wanted, got {list(mean)}, {list(std)}")
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.to(self.mean.dtype) / 255.0 - self.mean) / self.std


class Mlp(nn.Module):
    """Fully connected layers with ReLU on the pixels: ``layers`` hidden ones of ``width`` units, then ``classes``.

    Args:
        size: (H, W) of the images.
        channels: C, 1 or 3.
        classes: K.
        width: units of a hidden layer.
        layers: hidden layers; 0 is a linear model.
        dropout: share of hidden units zeroed in training, [0, 1).
        mean, std: per channel, of pixels in [0, 1]; 0.5 where not given.
    """

    def __init__(
        self,
        size: tuple[int, int],
        channels: int,
        classes: int,
        *,
        width: int = 256,
        layers: int = 2,
        dropout: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        mean, std = _statistics(channels, mean, std)
        _positive(height=size[0], breadth=size[1], classes=classes, width=width, layers=layers + 1)
        self.arguments: dict[str, Any] = {
            "size": [int(side) for side in size],
            "channels": channels,
            "classes": classes,
            "width": width,
            "layers": layers,
            "dropout": dropout,
            "mean": mean,
            "std": std,
        }
        self.scale = Scale(mean, std)
        widths = [channels * size[0] * size[1]] + [width] * layers
        stages: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            stages += [nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*stages)
        self.output = nn.Linear(widths[-1], classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [N, K] of uint8 pixels [N, C, H, W]."""
        return self.output(self.layers(self.scale(pixels).flatten(1)))


class Cnn(nn.Module):
    """A small convolutional network: stages of two 3x3 convolutions (batch norm, ReLU), halved between stages.

    Stage i has ``width * 2^i`` channels. There are as many stages, at most three, as leave at least 4 pixels of the
    shorter side: two at 8x8, three at 28x28 and 32x32. Then the average over positions, dropout, and a linear layer.

    Depthwise-separable blocks (Howard et al. 2017, arXiv 1704.04861) look at the neighbourhood of each channel alone
    and mix channels at each point alone, for a ninth of the weights and more. What a plain filter says of several
    channels at several places at once, they cannot; at the same size on disk they may be twice as wide or more.

    Args:
        size: (H, W) of the images, at least 4.
        channels: C, 1 or 3.
        classes: K.
        width: channels of the first stage.
        depthwise: every convolution but the first, which mixes colours, is a depthwise one and a pointwise one.
        dropout: share of the last features zeroed in training, [0, 1).
        mean, std: per channel, of pixels in [0, 1]; 0.5 where not given.
    """

    def __init__(
        self,
        size: tuple[int, int],
        channels: int,
        classes: int,
        *,
        width: int = 32,
        depthwise: bool = False,
        dropout: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        mean, std = _statistics(channels, mean, std)
        _positive(classes=classes, width=width)
        if min(size) < 4:
            raise UsageError(f"a Cnn wants images of at least 4x4, got {size[0]}x{size[1]}")
        self.arguments: dict[str, Any] = {
            "size": [int(side) for side in size],
            "channels": channels,
            "classes": classes,
            "width": width,
            "depthwise": depthwise,
            "dropout": dropout,
            "mean": mean,
            "std": std,
        }
        self.scale = Scale(mean, std)
        stages: list[nn.Module] = []
        features, side = channels, min(size)
        for stage in range(3):
            if stage:
                if side // 2 < 4:
                    break
                stages.append(nn.MaxPool2d(2))
                side //= 2
            for _ in range(2):
                apart = depthwise and bool(stages)
                stages.append((_separable if apart else _convolution)(features, width * 2**stage))
                features = width * 2**stage
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(features, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [N, K] of uint8 pixels [N, C, H, W]."""
        return self.output(self.dropout(self.stages(self.scale(pixels)).mean(dim=(2, 3))))


class Normalised(nn.Module):
    """A transformers vision classifier that takes uint8 pixels and gives logits, its preprocessing inside.

    Grey images are repeated over the model's channels. Images of another size are resized bilinearly (no antialiasing,
    so that ONNX does the same).

    Args:
        model: takes ``pixel_values`` fp32 [N, C, H, W], gives an output with ``logits``.
        mean, std: per channel, of pixels in [0, 1], as in the model's image processor.
        size: (H, W) that the model wants.
    """

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], size: tuple[int, int]) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "mean": [float(value) for value in mean],
            "std": [float(value) for value in std],
            "size": [int(side) for side in size],
        }
        self.size = (int(size[0]), int(size[1]))
        self.scale = Scale(mean, std)
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [N, K] of uint8 pixels [N, C, h, w]."""
        return self.model(pixel_values=self.values(pixels)).logits

    def values(self, pixels: Tensor) -> Tensor:
        """What the model itself takes, fp32 [N, C, H, W], of uint8 pixels [N, C, h, w]."""
        values: Tensor = self.scale(pixels)
        if tuple(values.shape[-2:]) != self.size:
            values = F.interpolate(values, self.size, mode="bilinear", align_corners=False)
        return values


def _convolution(before: int, after: int) -> nn.Sequential:
    # no bias: the batch norm behind it has one
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def _separable(before: int, after: int) -> nn.Sequential:
    """Each channel's neighbourhood alone, then all channels of each point."""
    depthwise = nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False)
    pointwise = nn.Conv2d(before, after, 1, bias=False)
    return nn.Sequential(
        depthwise, nn.BatchNorm2d(before), nn.ReLU(), pointwise, nn.BatchNorm2d(after), nn.ReLU()
    )  # fmt: skip


def _statistics(
    channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[list[float], list[float]]:
    means = [0.5] * channels if mean is None else [float(value) for value in mean]
    stds = [0.5] * channels if std is None else [float(value) for value in std]
    if channels < 1 or len(means) != channels or len(stds) != channels:
        raise UsageError(f"{channels} channels want as many means and standard deviations, got {means} and {stds}")
    return means, stds


def _positive(**numbers: int) -> None:
    wrong = {name: number for name, number in numbers.items() if number < 1}
    if wrong:
        raise UsageError(f"at least 1 is wanted, got {', '.join(f'{k}={v}' for k, v in wrong.items())}")
