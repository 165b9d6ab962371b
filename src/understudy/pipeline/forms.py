"""A model in the forms that it is kept and measured in: exact, small, an artefact; and rows as users hand them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from understudy import export, students
from understudy.answers import VECTOR
from understudy.data import Examples, Splits
from understudy.pipeline.material import Apprentice, Material
from understudy.tasks import Task
from understudy.teachers import Loaded

Array = np.ndarray[Any, Any]
Model = Path | Mapping[str, Array] | list[Path]
Quantise = Any  # (fp32 file, INT8 file, keep=names of nodes) -> None


def exporting(kind: Apprentice, student: nn.Module) -> str:
    """How numbers become INT8; of exits the model inside decides, for a student of the user's own has no family."""
    if isinstance(student, students.Exits):
        return "calibrated" if isinstance(student.model, students.Cnn) else "dynamic"
    return kind.exporting


def exact_model(material: Material, kind: Apprentice, student: nn.Module, place: Path) -> Model:
    """The student in fp32, as parity is measured against it."""
    place.mkdir(parents=True)
    if isinstance(student, students.Exits):
        return export.parts_to_onnx(student, _example(kind.encoder, material.splits.validation), place)
    if kind.exporting == "static":
        return export.static_tensors(student, bits=32)
    to_graph(student, kind.encoder, material.splits.validation, place / "model.onnx")
    return place / "model.onnx"


def small_model(
    material: Material,
    kind: Apprentice,
    student: nn.Module,
    exact: Model,
    place: Path,
    *,
    keep: Sequence[str] = (),
    ranges: str = "minmax",
    bits: int | None = None,
) -> Model:
    """The student in the recipe's bits.

    Args:
        exact: what `exact_model` made of it.
        place: a new folder.
        keep: nodes that stay in fp32.
        ranges: of activations, where they are calibrated (`export.quantise_static`).
        bits: others than the recipe's, for tables that are looked up.
    """
    place.mkdir(parents=True)
    if isinstance(student, students.Exits):
        rows = calibration(material, kind) if exporting(kind, student) == "calibrated" else None
        assert isinstance(exact, list)
        return export.quantise_parts(exact, place, rows)
    if kind.exporting == "static":
        return export.static_tensors(student, bits=bits or material.recipe.export.bits)
    assert isinstance(exact, Path)
    quantiser(material, kind, ranges=ranges)(exact, place / "model.onnx", keep=keep)
    return place / "model.onnx"


def quantiser(material: Material, kind: Apprentice, *, ranges: str = "minmax") -> Quantise:
    """A function (fp32 file, INT8 file, keep=names) for graphs."""
    if kind.exporting == "dynamic":
        return export.quantise_dynamic
    return partial(export.quantise_static, calibration=calibration(material, kind), ranges=ranges)


def calibration(material: Material, kind: Apprentice) -> list[dict[str, Array]]:
    """Training rows in batches of 32: the ranges that activations are given."""
    train = material.splits.train
    most = min(material.recipe.export.calibration_rows, len(train))
    return batches(kind, train.take(np.random.default_rng(material.recipe.seed).permutation(len(train))[:most]))


def batches(kind: Apprentice, rows: Examples, size: int = 32) -> list[dict[str, Array]]:
    """Inputs by name, some rows at a time."""
    features = kind.encoder.encode(rows.inputs)
    starts = range(0, len(rows), size)
    return [kind.encoder.collate(features, np.arange(i, min(i + size, len(rows)))) for i in starts]


def to_graph(module: nn.Module, encoder: Any, rows: Examples, path: Path) -> None:
    """Any model with an ONNX form, as one fp32 file; the example is real rows."""
    export.to_onnx(module, _example(encoder, rows), path)


def _example(encoder: Any, rows: Examples) -> dict[str, torch.Tensor]:
    some = rows.take(range(min(8, len(rows))))
    features = encoder.encode(some.inputs)
    arrays = encoder.collate(features, np.arange(len(some)))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def write(folder: Path, material: Material, kind: Apprentice, model: Model, **more: Any) -> None:
    """An artefact folder of a student; ``more`` is `export.write_artefact`'s."""
    export.write_artefact(
        folder,
        encoder=kind.encoder,
        model=model,
        **_meaning(material.task, material.splits, material.outputs),
        **more,
    )


def write_plain(folder: Path, task: Task, splits: Splits, teacher: Loaded, graph: Path) -> None:
    """A model as an artefact folder without gates: how a teacher is timed in ONNX Runtime."""
    width = teacher.model.width if isinstance(teacher.model, students.Embedder) else 0
    export.write_artefact(folder, encoder=teacher.encoder, model=graph, **_meaning(task, splits, width))


def _meaning(task: Task, splits: Splits, outputs: int) -> dict[str, Any]:
    """What an artefact must know of the task."""
    return {
        "task": task.name,
        "labels": splits.label_names,
        "answer": task.answer.name,
        "scale": splits.scale,
        "dimensions": outputs if task.answer is VECTOR else None,
    }


def raw_rows(rows: Examples) -> list[Any]:
    """The rows as a user would hand them to the artefact."""
    names = list(rows.inputs)
    return [dict(zip(names, values, strict=True)) for values in zip(*rows.inputs.values(), strict=True)]


def size(folder: Path) -> int:
    """Bytes of an artefact without its card."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
