"""Weights into a transformers model, and the proof that they arrived: nothing outside a head may be left to chance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from understudy.errors import LabelError, TeacherError
from understudy.teachers.folder import line, quiet
from understudy.teachers.labels import Alignment, align

HEADS = ("keep", "new", "auto")
_LAYER = re.compile(r"(^|\.)(encoder|transformer|layers?|h|blocks?|stages)\.(.*\.)?\d+\.")


def read_model(
    auto: Any, folder: Path, label_names: Sequence[str], *, head: str, seed: int
) -> tuple[Any, Alignment | None, list[str]]:
    """A classifier with the weights of ``folder``; None as alignment means that its head is fresh.

    A fresh head has one output per label of the data, in the data's order, drawn from ``seed``.

    Args:
        auto: the transformers auto class (``AutoModelForSequenceClassification``, ...).
        folder: a checked folder.
        label_names: the data's labels.
        head: ``keep`` the folder's own head; always a ``new`` one; ``auto``: a new one when its labels do not fit.
        seed: of the fresh head.

    Raises:
        LabelError: head ``keep`` and labels that cannot be aligned.
        TeacherError: weights that do not load, or do not load completely.
    """
    notes = []
    if head != "new":
        model, fresh = _load(auto, folder, None, seed=seed)
        if not fresh:
            try:
                _single_label(model)
                alignment = align(model.config.id2label, label_names)
                return model, alignment, [alignment.sentence]
            except LabelError as error:
                if head == "keep":
                    raise
                notes.append(f"{error}. Done: its head is replaced by a fresh one, which has to be trained")
        else:
            notes.append(f"{folder.name or folder} has no trained classification head: a fresh one has to be trained")
    else:
        notes.append("the head is fresh, as asked for, and has to be trained")
    model, _ = _load(auto, folder, label_names, seed=seed)
    return model, None, notes


def _load(auto: Any, folder: Path, label_names: Sequence[str] | None, *, seed: int) -> tuple[Any, bool]:
    """The model, and whether any part of its head is fresh."""
    changes: dict[str, Any] = {}
    if label_names is not None:
        names = dict(enumerate(label_names))
        changes = {
            "num_labels": len(names), "id2label": names, "label2id": {name: i for i, name in names.items()},
            "problem_type": "single_label_classification",
        }  # fmt: skip
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model, info = auto.from_pretrained(
                folder, output_loading_info=True, use_safetensors=True, trust_remote_code=False,
                local_files_only=True, ignore_mismatched_sizes=True, dtype=torch.float32, **changes,
            )  # fmt: skip
        except Exception as error:  # whatever a foreign folder makes the library raise, the user needs one line
            raise TeacherError(f"teacher {folder} cannot be loaded: {line(error)}") from error
    fresh = _fresh_parts(model, info, folder, relabelled=label_names is not None)
    broken = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    if broken:
        raise TeacherError(f"teacher {folder} holds NaN or infinite weights, first in {broken[0]}")
    if label_names is not None and not fresh:
        _draw_head(model, seed=seed)
    return model.eval(), bool(fresh) or label_names is not None


def _draw_head(model: Any, *, seed: int) -> None:
    """Replaces a trained head that happens to have the right shape; loading alone would silently keep it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blank = type(model)(model.config)
    base = f"{model.base_model_prefix}."
    model.load_state_dict({n: v for n, v in blank.state_dict().items() if not n.startswith(base)}, strict=False)


def _fresh_parts(model: Any, info: Mapping[str, Any], folder: Path, *, relabelled: bool) -> list[str]:
    """Names of the parameters that were not in the files; anything but a head is an error."""
    base = f"{model.base_model_prefix}."
    mismatched = [str(entry[0]) for entry in info["mismatched_keys"]]
    fresh = sorted({*info["missing_keys"], *mismatched})
    if info.get("error_msgs"):
        raise TeacherError(f"teacher {folder} cannot be loaded: {line(Exception(info['error_msgs'][0]))}")
    lost = [name for name in fresh if name.startswith(base) and not name.startswith(f"{base}pooler")]
    if lost or (fresh and not any(name.startswith(base) for name in model.state_dict())):
        names = lost or fresh
        raise TeacherError(
            f"teacher {folder}: {len(names)} tensors of {type(model).__name__} are not in its files, or have another "
            f"shape there ({', '.join(names[:3])}); config.json and the weights do not belong together"
        )
    if mismatched and not relabelled:
        raise TeacherError(
            f"teacher {folder}: {mismatched[0]} has another shape in the file than config.json says; "
            "correct id2label there"
        )
    unread = sorted(name for name in info["unexpected_keys"] if _LAYER.search(name))
    if unread:
        raise TeacherError(
            f"teacher {folder}: {len(unread)} tensors in its files have no place in {type(model).__name__} "
            f"({', '.join(unread[:3])}); config.json and the weights do not belong together"
        )
    return fresh


def _single_label(model: Any) -> None:
    kind = getattr(model.config, "problem_type", None)
    if kind not in (None, "single_label_classification"):
        raise LabelError(
            f"the teacher solves a {kind.replace('_', ' ')} problem, and its scores are no distribution over labels; "
            "do: --set teacher.fine_tune=always"
        )
