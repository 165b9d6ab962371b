"""Images as uint8 pixels. Normalisation is the model's own business, so that it cannot be forgotten or done twice."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding.features import RowError, columns
from understudy.errors import UsageError
from understudy.extras import require
from understudy.files import content_hash


class PixelEncoder:
    """Decoded images of one size.

    Args:
        size: (height, width) in pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        fields: the one column that holds the images.
    """

    kind = "pixels"

    def __init__(self, size: Sequence[int], channels: int, *, fields: Sequence[str] = ("image",)) -> None:
        if len(size) != 2 or min(size) < 1:
            raise UsageError(f"an image size is (height, width), both at least 1; got {tuple(size)}")
        if channels not in (1, 3):
            raise UsageError(f"an image has 1 or 3 channels, got {channels}")
        if len(fields) != 1:
            raise UsageError(f"images come from one column, got {list(fields)}")
        self.size, self.channels, self.fields = (int(size[0]), int(size[1])), channels, tuple(fields)

    @property
    def fingerprint(self) -> str:
        """Changes with the size and the channels."""
        return content_hash(repr(sorted(self._settings().items())))

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """uint8 [N, C, H, W]. A row is file bytes, a path, a PIL image or a uint8 array. Raises RowError."""
        (images,) = columns(inputs, self.fields)
        pixels = np.empty((len(images), self.channels, *self.size), np.uint8)
        for row, image in enumerate(images):
            try:
                pixels[row] = self._decode(image)
            except _Unreadable as error:
                raise RowError(row, self.fields[0], str(error)) from error.__cause__
        return pixels

    def collate(self, features: np.ndarray, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """``pixels`` uint8 [N, C, H, W] of some rows."""
        return {"pixels": features[np.asarray(indices, np.int64)]}

    def lengths(self, features: np.ndarray) -> np.ndarray:
        """Ones: every image costs the same."""
        return np.ones(len(features), np.int64)

    def save(self, folder: Path) -> dict[str, Any]:
        """The entry for a manifest; nothing is written."""
        return {"kind": self.kind, **self._settings()}

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> PixelEncoder:
        """The encoder that `save` described."""
        return cls(entry["size"], entry["channels"], fields=entry["fields"])

    def _settings(self) -> dict[str, Any]:
        return {"size": list(self.size), "channels": self.channels, "fields": list(self.fields)}

    def _decode(self, image: Any) -> np.ndarray:
        if isinstance(image, Mapping):  # the way that datasets stores an image that is not decoded
            image = image.get("bytes") if image.get("bytes") is not None else image.get("path")
        if image is None or (isinstance(image, float) and image != image):
            raise _Unreadable("wanted an image, got nothing (null or NaN)")
        if isinstance(image, np.ndarray) and image.shape in (self.size, (*self.size, 1)) and self.channels == 1:
            return _bytes(image).reshape(1, *self.size)
        module = require("PIL.Image", package="pillow", why="reading images")
        picture = _open(module, image)
        try:
            if picture.mode.startswith("I;16"):  # 16 bits: keep the upper eight instead of clipping
                picture = module.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            picture = picture.convert("L" if self.channels == 1 else "RGB")
            if picture.size != self.size[::-1]:
                picture = picture.resize(self.size[::-1], module.Resampling.BILINEAR)
        except Exception as error:  # a truncated or hostile file fails here, in as many ways as there are formats
            raise _Unreadable(f"the image cannot be decoded ({error})") from error
        pixels = np.asarray(picture)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)


class _Unreadable(Exception):
    """An image that cannot be read; becomes a RowError with its row."""


def _bytes(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        raise _Unreadable(f"wanted a uint8 array of pixels, got {array.dtype}; scale it to 0..255")
    return array


def _open(module: Any, image: Any) -> Any:
    """A PIL image from whatever came."""
    if isinstance(image, module.Image):
        return image
    if isinstance(image, np.ndarray):
        array = _bytes(image)
        array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
        if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] == 3):
            raise _Unreadable(f"wanted pixels [H, W], [H, W, 1] or [H, W, 3], got {list(image.shape)}")
        return module.fromarray(np.ascontiguousarray(array))
    if isinstance(image, bytes | bytearray | memoryview):
        source: Any = io.BytesIO(image)
    elif isinstance(image, str | Path):
        source = image
    else:
        raise _Unreadable(f"wanted file bytes, a path, a PIL image or a uint8 array, got a {type(image).__name__}")
    try:
        picture = module.open(source)
        picture.load()
        return picture
    except Exception as error:
        reason = getattr(error, "strerror", None) or "not an image that pillow knows, or cut short"
        raise _Unreadable(f"{f'{image}: ' if isinstance(image, str | Path) else ''}{reason}") from error
