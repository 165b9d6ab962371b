"""Views of an image: moved, turned, cropped, mirrored or mixed. Pure functions of pixels and of one random generator.

Pixels are uint8 [C, H, W] with 1 or 3 channels, and keep their size and their channels. What comes in from outside is
filled with the image's own edge.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from understudy.encoding import PixelEncoder
from understudy.errors import UsageError
from understudy.extras import require

Pixels = np.ndarray[Any, Any]
Random = np.random.Generator

_GREY = ("1", "L", "LA", "La", "I", "F")


def read_pixels(image: bytes, like: Pixels | None = None) -> Pixels:
    """The pixels of an image file, uint8 [C, H, W], grey or RGB as every model reads it.

    Args:
        image: the bytes of the file.
        like: pixels whose size and channels the image takes on; its own otherwise.

    Raises:
        RowError: bytes that are no image.
    """
    if like is not None:
        size, channels = like.shape[1:], len(like)
    else:
        try:
            with _pillow().open(io.BytesIO(image)) as picture:
                grey = picture.mode in _GREY or picture.mode.startswith("I;16")
                size, channels = picture.size[::-1], 1 if grey else 3
        except Exception:  # whatever it is, the encoder says so in its own words
            size, channels = (1, 1), 1
    return PixelEncoder(size, channels).encode({"image": [image]})[0]


def write_png(pixels: Pixels) -> bytes:
    """The pixels as a PNG file, which loses nothing. Little compression: three times as fast, a tenth larger."""
    file = io.BytesIO()
    _picture(pixels).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def shift(pixels: Pixels, random: Random, share: float = 0.125) -> Pixels:
    """The image moved by up to ``share`` of its sides, at least up to one pixel, in both directions.

    Args:
        share: of each side, in [0, 1]; at 0 the image comes back as it is.

    Raises:
        UsageError: a share outside [0, 1].

    >>> image = np.array([[[1, 2, 3]]], np.uint8)
    >>> sorted({tuple(shift(image, np.random.default_rng(seed))[0, 0].tolist()) for seed in range(20)})
    [(1, 1, 2), (1, 2, 3), (2, 3, 3)]
    """
    if not 0 <= share <= 1:
        raise UsageError(f"a shift is a share of the sides, between 0 and 1; got {share}")
    height, width = pixels.shape[1:]
    down, across = (max(1, round(share * side)) if share else 0 for side in (height, width))
    top, left = int(random.integers(2 * down + 1)), int(random.integers(2 * across + 1))
    padded = np.pad(pixels, ((0, 0), (down, down), (across, across)), mode="edge")
    return padded[:, top : top + height, left : left + width]


def rotate(pixels: Pixels, random: Random, degrees: float = 15.0) -> Pixels:
    """The image turned about its centre by an angle from [-degrees, degrees], bilinear.

    Raises:
        UsageError: ``degrees`` outside [0, 180].

    >>> rotate(np.full((3, 4, 6), 7, np.uint8), np.random.default_rng(0)).tolist() == [[[7] * 6] * 4] * 3
    True
    """
    if not 0 <= degrees <= 180:
        raise UsageError(f"a rotation is by at most 0 to 180 degrees, got {degrees}")
    angle = float(random.uniform(-degrees, degrees))
    height, width = pixels.shape[1:]
    sine, cosine = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
    # The edge is drawn out as far as the turned corners reach, and one pixel more for the interpolation.
    across = max(0, math.ceil((width * cosine + height * sine - width) / 2)) + 1
    down = max(0, math.ceil((height * cosine + width * sine - height) / 2)) + 1
    padded = np.pad(pixels, ((0, 0), (down, down), (across, across)), mode="edge")
    turned = _pixels(_picture(padded).rotate(angle, resample=_pillow().Resampling.BILINEAR))
    return turned[:, down : down + height, across : across + width]


def crop(pixels: Pixels, random: Random, least: float = 0.6) -> Pixels:
    """A random part of the image, stretched to the size of the whole, bilinear.

    Formula: area from [least, 1] of the whole, log of its width over height, relative to the image's, from
    [-log(4/3), log(4/3)], cut to the image; every place is equally likely.

    Args:
        least: smallest share of the area, in (0, 1].

    Raises:
        UsageError: ``least`` outside (0, 1].

    >>> crop(np.full((1, 2, 3), 7, np.uint8), np.random.default_rng(0)).tolist()
    [[[7, 7, 7], [7, 7, 7]]]

    Source: C. Szegedy et al., Going deeper with convolutions, arXiv 1409.4842, section 6; there from 8 % of the area.
    """
    if not 0 < least <= 1:
        raise UsageError(f"a crop keeps a share of the area above 0 and at most 1, got {least}")
    height, width = pixels.shape[1:]
    area, ratio = float(random.uniform(least, 1)), math.exp(float(random.uniform(-1, 1)) * math.log(4 / 3))
    wide, high = width * min(1.0, math.sqrt(area * ratio)), height * min(1.0, math.sqrt(area / ratio))
    left, top = float(random.uniform(0, width - wide)), float(random.uniform(0, height - high))
    box = (left, top, min(left + wide, width), min(top + high, height))
    return _pixels(_picture(pixels).resize((width, height), _pillow().Resampling.BILINEAR, box=box))


def flip(pixels: Pixels, random: Random, share: float = 0.5) -> Pixels:
    """The image's mirror image, left for right, with probability ``share``; otherwise the image.

    Not for what reads differently in a mirror: digits, letters, road signs.

    Raises:
        UsageError: a share outside [0, 1].

    >>> flip(np.array([[[1, 2, 3]]], np.uint8), np.random.default_rng(0), share=1.0).tolist()
    [[[3, 2, 1]]]
    """
    if not 0 <= share <= 1:
        raise UsageError(f"the share of mirrored images lies between 0 and 1, got {share}")
    return pixels[:, :, ::-1] if random.random() < share else pixels


def mixup(pixels: Pixels, other: Pixels, random: Random, alpha: float = 1.0) -> Pixels:
    """Two images, one over the other. Shown like this to teacher and student alike, it has no label.

    Formula: w * pixels + (1 - w) * other, rounded; w from Beta(alpha, alpha). Equal images give the image.

    Args:
        other: as many pixels.
        alpha: above 0; 1 is a uniform weight, smaller values stay nearer to one of the two.

    Raises:
        UsageError: images of two shapes, or ``alpha`` not above 0.

    >>> mixup(np.array([[[200]]], np.uint8), np.array([[[100]]], np.uint8), np.random.default_rng(0), 1e6).tolist()
    [[[150]]]

    Source: H. Zhang et al., mixup, arXiv 1710.09412; shown to the teacher as well by L. Beyer et al., A good teacher is
    patient and consistent, arXiv 2106.05237, section 3.
    """
    if pixels.shape != other.shape or not alpha > 0:
        raise UsageError(
            f"mixup wants two images of one shape and alpha above 0, got {list(pixels.shape)}, {list(other.shape)} "
            f"and {alpha}"
        )
    weight = float(random.beta(alpha, alpha))
    return np.rint(weight * pixels.astype(np.float64) + (1 - weight) * other).astype(np.uint8)


def _pillow() -> Any:
    return require("PIL.Image", package="pillow", why="views of images")


def _picture(pixels: Pixels) -> Any:
    return _pillow().fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _pixels(picture: Any) -> Pixels:
    found = np.asarray(picture)
    return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)
