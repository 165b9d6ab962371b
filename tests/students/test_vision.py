"""Image families: normalisation inside, sizes, and that the small network learns the digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from understudy.errors import UsageError
from understudy.students import Cnn, Mlp, Normalised, parameters


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 32), (5, 9), (4, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_gives_logits_and_training_works(size: tuple[int, int], channels: int) -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (3, channels, *size), dtype=torch.uint8)
    for model in (Cnn(size, channels, 10, width=4), Mlp(size, channels, 10, width=7, layers=3)):
        logits = model(pixels)
        assert logits.shape == (3, 10)
        logits.sum().backward()


def test_parameter_counts_are_the_formula() -> None:
    # Hinton's student: 784-800-800-10
    hinton = 784 * 800 + 800 + 800 * 800 + 800 + 800 * 10 + 10
    assert parameters(Mlp((28, 28), 1, 10, width=800, layers=2)) == hinton
    assert parameters(Mlp((8, 8), 3, 10, layers=0)) == 192 * 10 + 10

    def convolution(before: int, after: int) -> int:
        return 9 * before * after + 2 * after

    w = 8
    two = convolution(1, w) + convolution(w, w) + convolution(w, 2 * w) + convolution(2 * w, 2 * w)
    assert parameters(Cnn((8, 8), 1, 10, width=w)) == two + 2 * w * 10 + 10
    three = two + convolution(2 * w, 4 * w) + convolution(4 * w, 4 * w)
    assert parameters(Cnn((28, 28), 1, 10, width=w)) == three + 4 * w * 10 + 10

    def separable(before: int, after: int) -> int:
        return 9 * before + 2 * before + before * after + 2 * after

    apart = convolution(1, w) + separable(w, w) + separable(w, 2 * w) + separable(2 * w, 2 * w)
    assert parameters(Cnn((8, 8), 1, 10, width=w, depthwise=True)) == apart + 2 * w * 10 + 10


def test_normalisation_is_inside() -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    model = Mlp((8, 8), 3, 2, layers=0, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])
    mean, std = torch.tensor([0.1, 0.2, 0.3])[:, None, None], torch.tensor([0.5, 0.6, 0.7])[:, None, None]
    wanted = model.output(((pixels.float() / 255 - mean) / std).flatten(1))
    torch.testing.assert_close(model(pixels), wanted)
    assert {name for name, _ in model.named_buffers()} == {"scale.mean", "scale.std"}


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_a_wrapped_model_says_what_it_says_of_normalised_values(hugging: Any, name: str) -> None:
    torch.manual_seed(0)
    inner = hugging(name)
    model = Normalised(inner, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4], (16, 16)).eval()
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    mean, std = torch.tensor([0.5, 0.4, 0.3])[:, None, None], torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    wanted = inner(pixel_values=(pixels.float() / 255 - mean) / std).logits
    torch.testing.assert_close(model(pixels), wanted)


def test_other_sizes_and_grey_images_are_made_to_fit(hugging: Any) -> None:
    torch.manual_seed(0)
    model = Normalised(hugging("vit"), [0.5] * 3, [0.5] * 3, (16, 16)).eval()
    grey = torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(model(grey), model(grey.expand(2, 3, 16, 16)))
    flat = torch.full((1, 3, 9, 11), 77, dtype=torch.uint8)
    torch.testing.assert_close(model(flat), model(torch.full((1, 3, 16, 16), 77, dtype=torch.uint8)))


def test_mobilenet_is_a_teacher_too(hugging: Any) -> None:
    torch.manual_seed(0)
    model = Normalised(hugging("mobilenet"), [0.5] * 3, [0.5] * 3, (32, 32)).eval()
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    logits = model(pixels)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(model(pixels[[1]]), logits[[1]])


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="width=0"):
        Mlp((8, 8), 1, 10, width=0)
    with pytest.raises(UsageError, match="as many means"):
        Cnn((8, 8), 3, 10, mean=[0.5])
    with pytest.raises(UsageError, match="above 0"):
        Cnn((8, 8), 1, 10, std=[0.0])
    with pytest.raises(UsageError, match="at least 4"):
        Cnn((3, 8), 1, 10)


@pytest.mark.parametrize("depthwise", [False, True])
def test_the_small_network_learns_the_digits(depthwise: bool) -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy((images.reshape(-1, 1, 8, 8) / 16 * 255).astype(np.uint8))
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = torch.from_numpy(order[:1400]), torch.from_numpy(order[1400:])
    wanted = torch.from_numpy(labels)
    torch.manual_seed(0)
    model = Cnn((8, 8), 1, 10, width=16, depthwise=depthwise)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=6 * 22)
    for _ in range(6):
        for rows in train[torch.randperm(len(train))].split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(pixels[rows]), wanted[rows]).backward()
            optimiser.step()
            schedule.step()
    model.eval()
    accuracy = float((model(pixels[test]).argmax(1) == wanted[test]).float().mean())
    assert accuracy >= 0.98, accuracy
