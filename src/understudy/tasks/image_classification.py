"""One image, one label."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from understudy.baselines import majority, pixels_logistic
from understudy.data.layouts import IMAGES
from understudy.encoding import PixelEncoder
from understudy.errors import DataError
from understudy.objectives import hard_labels, soft_labels
from understudy.tasks.task import Task

_SIDE = 64  # pixels of a thumbnail in the report


def show(row: Mapping[str, Any]) -> dict[str, str]:
    """The image of a row as a PNG data URI of at most 64 x 64 pixels, 8 bits deep, without metadata."""
    picture = _open(row["image"])
    grey = _channels(picture) == 1
    picture = picture.convert("L" if grey else "RGB")
    picture.thumbnail((_SIDE, _SIDE))
    picture.info.clear()
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return {"image": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()}


def pixel_encoder(images: Sequence[Any]) -> PixelEncoder:
    """The encoder of a student of our own: the most frequent size and the channels of the first 200 training images."""
    if not len(images):
        raise DataError("an image size is chosen from training images, got none")
    pictures = [_open(image) for image in images[:200]]
    sizes, counts = np.unique([picture.size[::-1] for picture in pictures], axis=0, return_counts=True)
    height, width = sizes[counts.argmax()].tolist()
    return PixelEncoder((height, width), channels=max(_channels(picture) for picture in pictures))


def pixel_statistics(pixels: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 pixels [N, C, H, W], as shares of 255; std at least 1/255."""
    first = pixels[:10_000].astype(np.float32) / 255
    mean, std = first.mean((0, 2, 3), dtype=np.float64), first.std((0, 2, 3), dtype=np.float64)
    return tuple(mean.tolist()), tuple(np.maximum(std, 1 / 255).tolist())


def _open(image: Any) -> Any:
    from PIL import Image

    try:
        if isinstance(image, bytes | bytearray):
            return Image.open(io.BytesIO(image))
        return image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    except Exception as error:
        raise DataError(f"an image cannot be read ({error})") from error


def _channels(picture: Any) -> int:
    return 1 if picture.mode in ("1", "L", "LA", "I", "I;16") else 3


TASK = Task(
    name="image-classification",
    layout=IMAGES,
    metrics=("accuracy", "macro_f1"),
    primary="accuracy",
    baselines=(majority, pixels_logistic),
    families=("cnn", "mlp", "cut"),
    show=show,
    hard=hard_labels,
    soft=soft_labels,
)
