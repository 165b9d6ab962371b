"""An image classifier from a transformers folder or from one of our own families, taking uint8 pixels.

The preprocessing is read from ``preprocessor_config.json`` as data: the library's image processors want torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.encoding import PixelEncoder
from understudy.errors import TeacherError
from understudy.students import Normalised
from understudy.teachers import folder as folders
from understudy.teachers.loaded import Loaded, describe
from understudy.teachers.pretrained import read_model

_BILINEAR = 2  # PIL's number


def open_vision(folder: Path, *, label_names: Sequence[str], head: str = "keep", seed: int = 0) -> Loaded:
    """A transformers image classifier behind ``Normalised``; see ``open_teacher``."""
    from transformers import AutoModelForImageClassification

    config = folders.inspect(folder)
    size, mean, std, notes = preprocessing(
        folders.read_json(folder / "preprocessor_config.json", "wanted the preprocessing of an image model"),
        channels=int(config.get("num_channels", 3)),
        where=folder,
    )
    model, alignment, more = read_model(AutoModelForImageClassification, folder, label_names, head=head, seed=seed)
    return Loaded(
        model=Normalised(model, mean, std, size).eval(),
        encoder=PixelEncoder(size, channels=len(mean)),
        alignment=alignment,
        fresh_head=alignment is None,
        description=describe(model),
        fingerprint=folders.fingerprint(folder),
        notes=(*more, *notes),
    )


def preprocessing(
    settings: Mapping[str, Any], *, channels: int, where: Path
) -> tuple[tuple[int, int], tuple[float, ...], tuple[float, ...], list[str]]:
    """Size, mean and std (of pixels in 0..1) from a ``preprocessor_config.json``, and what could not be kept.

    With a rescale factor f other than 1/255, (x f - mean) / std is the same as (x/255 - mean/(255 f)) / (std/(255 f)).

    >>> preprocessing({"size": 8, "image_mean": [0.5], "image_std": [0.5]}, channels=1, where=Path("p"))[:3]
    ((8, 8), (0.5,), (0.5,))

    Raises:
        TeacherError: no size, or as many means as there are no channels.
    """
    notes = []
    size = settings.get("size")
    if settings.get("do_center_crop") and settings.get("crop_size"):
        size = settings["crop_size"]
        notes.append(f"images are resized to the teacher's crop size {_pair(size)}, not resized and then cropped")
    pair = _pair(size)
    if pair is None:
        raise TeacherError(f"{where / 'preprocessor_config.json'} states no image size that is understood, got {size}")
    resample = settings.get("resample", _BILINEAR)
    if resample != _BILINEAR:
        notes.append(f"images are resized bilinearly; the teacher's own preprocessing used PIL's filter {resample}")
    scale = 255.0 * float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 255.0
    if settings.get("do_normalize", True):
        mean, std = settings.get("image_mean"), settings.get("image_std")
    else:
        mean, std = [0.0] * channels, [1.0] * channels
    mean, std = (
        [float(v) for v in value] if isinstance(value, list) else [] if value is None else [float(value)] * channels
        for value in (mean, std)
    )
    if len(mean) != channels or len(std) != channels or min(std, default=0) <= 0:
        raise TeacherError(
            f"{where / 'preprocessor_config.json'}: image_mean and image_std need {channels} values each, std above 0"
        )
    return pair, tuple(value / scale for value in mean), tuple(value / scale for value in std), notes


def _pair(size: Any) -> tuple[int, int] | None:
    """(height, width) of the many ways in which a size is written."""
    if isinstance(size, Mapping):
        size = [size["height"], size["width"]] if "height" in size and "width" in size else size.get("shortest_edge")
    if isinstance(size, int):
        size = [size, size]
    whole = isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
    return (size[0], size[1]) if whole else None
