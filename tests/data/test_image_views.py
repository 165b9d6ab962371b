"""Views of images: size and channels stay, the edge fills what comes in, and pixels are where they should be."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from understudy.data.image_views import crop, flip, mixup, read_pixels, rotate, shift, write_png
from understudy.encoding import PixelEncoder
from understudy.encoding.features import RowError
from understudy.errors import UsageError

VIEWS = [shift, rotate, crop, flip]
View = Callable[..., np.ndarray]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise without sharp edges, uint8 [H, W], so that interpolation is well conditioned."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), 2.0)
    return np.round(127 + 60 * field / field.std()).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9), (3, 1, 1), (1, 1, 7), (1, 40, 3)])
def test_shape_and_source_stay(view: View, shape: tuple[int, ...]) -> None:
    pixels = noise(*shape)
    kept = pixels.copy()
    for seed in range(20):
        seen = view(pixels, np.random.default_rng(seed))
        assert seen.shape == shape
        assert seen.dtype == np.uint8
        assert np.array_equal(seen, view(pixels, np.random.default_rng(seed)))
    assert np.array_equal(pixels, kept)


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_comes_in_but_the_edge(view: View) -> None:
    """A plain image stays as it is: no black corners, however far it is moved or turned."""
    pixels = np.stack([np.full((6, 11), level, np.uint8) for level in (7, 130, 255)])
    far = {"shift": {"share": 1.0}, "rotate": {"degrees": 180.0}}.get(view.__name__, {})
    for seed in range(50):
        assert np.array_equal(view(pixels, np.random.default_rng(seed), **far), pixels)


def test_an_image_is_shifted_by_whole_pixels() -> None:
    """An eighth of 8 x 16 pixels: up to one row and two columns, each of the fifteen moves and no other."""
    pixels = noise(3, 8, 16)
    padded = np.pad(pixels, ((0, 0), (1, 1), (2, 2)), mode="edge")
    allowed = {padded[:, top : top + 8, left : left + 16].tobytes() for top in range(3) for left in range(5)}
    assert {shift(pixels, np.random.default_rng(seed)).tobytes() for seed in range(400)} == allowed
    assert np.array_equal(shift(pixels, np.random.default_rng(0), 0), pixels)


def test_a_rotation_is_that_of_scipy() -> None:
    """scipy.ndimage.rotate, bilinear, with the same edge, to one grey level; the drawn angle is looked for."""
    pixels = smooth(31, 44)
    angles = []
    for seed in range(12):
        seen = rotate(pixels[None], np.random.default_rng(seed), 20.0)[0].astype(int)
        drawn = float(np.random.default_rng(seed).uniform(-20, 20))
        turned = ndimage.rotate(pixels.astype(float), drawn, reshape=False, order=1, mode="nearest")
        assert np.abs(seen - turned).max() <= 1.0
        angles.append(drawn)
    assert min(angles) < -5 < 5 < max(angles)
    assert np.abs(pixels.astype(int) - rotate(pixels[None], np.random.default_rng(0), 20.0)[0]).max() > 10


def test_a_crop_is_a_magnified_part() -> None:
    """On a ramp the slope is the part's share of the side: area from [0.6, 1], shape from [3/4, 4/3] of the whole's."""
    across = np.broadcast_to(np.arange(256, dtype=np.uint8), (256, 256))
    ramp = np.stack([across, across.T, np.zeros_like(across)])
    areas = []
    for seed in range(60):
        seen = crop(ramp, np.random.default_rng(seed)).astype(float)
        wide, high = (seen[0, 0, 250] - seen[0, 0, 5]) / 245, (seen[1, 250, 0] - seen[1, 5, 0]) / 245
        assert np.abs(np.diff(seen[0, 0, 5:251]) - wide).max() <= 1  # a straight line, rounded
        assert 0.59 < wide * high < 1.01
        assert 0.74 < wide / high < 1.35
        areas.append(wide * high)
    assert min(areas) < 0.7
    assert max(areas) > 0.9


def test_a_mirror_image_half_of_the_time() -> None:
    pixels = noise(3, 4, 6)
    seen = [flip(pixels, np.random.default_rng(seed)) for seed in range(400)]
    mirrored = sum(np.array_equal(view, pixels[:, :, ::-1]) for view in seen)
    assert mirrored + sum(np.array_equal(view, pixels) for view in seen) == 400
    assert 160 < mirrored < 240  # standard deviation 10


@pytest.mark.parametrize(("alpha", "deviation"), [(1.0, 0.2887), (0.2, 0.4226)])
def test_images_are_mixed_with_weights_from_a_beta(alpha: float, deviation: float) -> None:
    """Beta(a, a): mean 1/2, standard deviation 1 / (2 sqrt(2 a + 1))."""
    white, black = np.full((1, 1, 1), 255, np.uint8), np.zeros((1, 1, 1), np.uint8)
    weights = [float(mixup(white, black, np.random.default_rng(i), alpha)[0, 0, 0]) / 255 for i in range(2000)]
    assert np.mean(weights) == pytest.approx(0.5, abs=0.03)
    assert np.std(weights) == pytest.approx(deviation, abs=0.02)


def test_a_mixed_image_lies_between_its_two() -> None:
    one, other = noise(3, 5, 4), noise(3, 5, 4, seed=1)
    for seed in range(20):
        weight = float(np.random.default_rng(seed).beta(1, 1))
        seen = mixup(one, other, np.random.default_rng(seed))
        assert np.abs(seen - (weight * one.astype(float) + (1 - weight) * other)).max() <= 0.5
    assert np.array_equal(mixup(one, one, np.random.default_rng(0)), one)


@pytest.mark.parametrize(
    ("view", "wrong"),
    [
        (shift, {"share": 1.5}), (shift, {"share": -1}), (rotate, {"degrees": -1}), (rotate, {"degrees": 181}),
        (crop, {"least": 0}), (crop, {"least": 1.1}), (flip, {"share": 2}),
    ],
)  # fmt: skip
def test_impossible_settings(view: View, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"got -?[0-9.]+"):
        view(noise(1, 4, 4), np.random.default_rng(0), **wrong)


def test_images_that_cannot_be_mixed() -> None:
    with pytest.raises(UsageError, match=r"one shape .* \[1, 2, 2\], \[3, 2, 2\]"):
        mixup(noise(1, 2, 2), noise(3, 2, 2), np.random.default_rng(0))
    with pytest.raises(UsageError, match="alpha above 0"):
        mixup(noise(1, 2, 2), noise(1, 2, 2), np.random.default_rng(0), 0.0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_files_are_read_as_every_model_reads_them_and_written_without_loss(mode: str) -> None:
    grey = mode in ("1", "L", "LA", "I;16")
    picture = Image.fromarray(noise(5, 7, 3)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) << 8)
    file = io.BytesIO()
    picture.save(file, format="TIFF" if mode == "CMYK" else "PNG")
    pixels = read_pixels(file.getvalue())
    assert pixels.shape == (1 if grey else 3, 5, 7)
    encoder = PixelEncoder((5, 7), 1 if grey else 3)
    assert np.array_equal(pixels, encoder.encode({"image": [file.getvalue()]})[0])
    again = write_png(pixels)
    assert np.array_equal(read_pixels(again), pixels)
    assert Image.open(io.BytesIO(again)).mode == ("L" if grey else "RGB")


def test_an_image_takes_on_size_and_channels() -> None:
    assert read_pixels(write_png(noise(3, 9, 4)), like=noise(1, 5, 6)).shape == (1, 5, 6)


def test_what_is_no_image() -> None:
    for image in (b"", b"not an image", write_png(noise(1, 30, 30))[:100]):
        with pytest.raises(RowError, match="not an image that pillow knows, or cut short"):
            read_pixels(image)
