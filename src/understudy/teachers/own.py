"""Teachers in our own layout: image families, wrapped vision models, and how any trained teacher is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from understudy import students
from understudy.encoding import PixelEncoder
from understudy.errors import LabelError, StoreError, TeacherError
from understudy.files import content_hash, file_hash, new_folder, write_json
from understudy.students import Normalised, Reader
from understudy.students.saving import FAMILY
from understudy.teachers.folder import read_json
from understudy.teachers.labels import Alignment, align
from understudy.teachers.loaded import Loaded, describe

LABELS = "labels.json"


def is_own(folder: Path) -> bool:
    """Whether ``students.save`` wrote this folder, in a layout of ours."""
    path = folder / "config.json"
    return path.is_file() and FAMILY in read_json(path, "wanted a model's config")


def open_own(folder: Path, *, label_names: Sequence[str]) -> Loaded:
    """An image model that ``save_teacher`` or ``students.save`` wrote.

    Raises:
        TeacherError: weights that cannot be read, or a family that does not take images.
        LabelError: labels that cannot be aligned.
    """
    try:
        model = students.load(folder)
    except StoreError as error:
        raise TeacherError(str(error)) from error
    arguments: Any = getattr(model, "arguments", {})
    if "size" not in arguments:
        raise TeacherError(f"teacher {folder} is a {type(model).__name__}, which does not take images")
    channels = len(arguments["mean"])
    alignment = _aligned(model, folder, label_names)
    return Loaded(
        model=model,
        encoder=PixelEncoder(arguments["size"], channels),
        alignment=alignment,
        fresh_head=False,
        description=describe(model),
        fingerprint=_fingerprint(folder),
        notes=(alignment.sentence,),
    )


def save_teacher(model: nn.Module, folder: Path | str, *, label_names: Sequence[str], tokenizer: Any = None) -> None:
    """Keeps a trained teacher so that ``open_teacher`` opens it again, atomically, replacing what was there.

    Args:
        model: a transformers model, a ``Normalised`` or ``Reader`` around one, or a built-in image family.
        folder: where.
        label_names: names of the model's columns, in their order.
        tokenizer: the transformers tokenizer of a text model.

    Raises:
        UsageError: a model of another kind.
    """
    inner: Any = model.model if isinstance(model, Normalised | Reader) else model
    if hasattr(inner, "config"):
        inner.config.id2label = dict(enumerate(label_names))
        inner.config.label2id = {name: index for index, name in enumerate(label_names)}
    with new_folder(folder) as draft:
        students.save(inner if isinstance(model, Reader) else model, draft)  # any program knows a head for questions
        if tokenizer is not None:
            tokenizer.save_pretrained(draft)
        write_json(draft / LABELS, {"labels": list(label_names)})


def _aligned(model: nn.Module, folder: Path, label_names: Sequence[str]) -> Alignment:
    """By the names kept beside the weights; by position where there are none and the number fits."""
    if (folder / LABELS).exists():
        names = read_json(folder / LABELS, "wanted a teacher's label names").get("labels", [])
        return align(dict(enumerate(names)), label_names)
    inner: Any = getattr(model, "model", None)
    if hasattr(inner, "config"):
        return align(inner.config.id2label, label_names)
    classes = int(getattr(model, "arguments", {})["classes"])
    if classes != len(label_names):
        raise LabelError(
            f"the teacher {folder} has {classes} nameless columns and the data {len(label_names)} labels; "
            "do: train a teacher on these labels (--set teacher.fine_tune=always)"
        )
    return align({index: f"LABEL_{index}" for index in range(classes)}, label_names)


def _fingerprint(folder: Path) -> str:
    names = ("config.json", "model.safetensors", "model/config.json", "model/model.safetensors", LABELS)
    there = [name for name in names if (folder / name).exists()]
    return content_hash(*(part for name in there for part in (name, file_hash(folder / name))))
