"""Weights into a transformers model, and the proof that they arrived: nothing outside a head may be left to chance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from understudy.answers import Scale
from understudy.errors import LabelError, TeacherError
from understudy.files import read_json
from understudy.teachers.folder import line, quiet
from understudy.teachers.labels import Alignment, align

HEADS = ("keep", "new", "auto")
_LAYER = re.compile(r"(^|\.)(encoder|transformer|layers?|h|blocks?|stages)\.(.*\.)?\d+\.")


def read_model(
    auto: Any,
    folder: Path,
    label_names: Sequence[str],
    *,
    head: str,
    seed: int,
    problem: str = "single_label_classification",
    scale: Scale | None = None,
) -> tuple[Any, Alignment | None, list[str]]:
    """A classifier with the weights of ``folder``; None as alignment means that its head is fresh.

    A fresh head has one output per label of the data, in the data's order, drawn from ``seed``.

    Args:
        auto: the transformers auto class (``AutoModelForSequenceClassification``, ...).
        folder: a checked folder.
        label_names: the data's labels.
        head: ``keep`` the folder's own head; always a ``new`` one; ``auto``: a new one when its labels do not fit.
        seed: of the fresh head.
        problem: that it solves, as transformers calls it.
        scale: of the data's scores, where it gives one.

    Raises:
        LabelError: head ``keep`` and labels that cannot be aligned.
        TeacherError: weights that do not load, or do not load completely.
    """
    notes = []
    if head != "new":
        model, fresh = _load(auto, folder, None, seed=seed)
        if not fresh:
            try:
                _same_head(model, folder)
                _same_problem(model, problem)
                if scale is not None:
                    return model, *_rescaled(model, scale, label_names)
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
    model, _ = _load(auto, folder, label_names, seed=seed, problem=problem)
    return model, None, notes


def load_model(auto: Any, folder: Path, *, seed: int) -> tuple[Any, bool]:
    """The model of a folder as it is, and whether any part of its head is fresh, drawn from ``seed``.

    Raises:
        TeacherError: weights that do not load, or do not load completely.
    """
    return _load(auto, folder, None, seed=seed)


def _load(
    auto: Any, folder: Path, label_names: Sequence[str] | None, *, seed: int, problem: str = ""
) -> tuple[Any, bool]:
    """The model, and whether any part of its head is fresh."""
    changes: dict[str, Any] = {}
    if label_names is not None:
        names = dict(enumerate(label_names))
        changes = {
            "num_labels": len(names), "id2label": names, "label2id": {name: i for i, name in names.items()},
            "problem_type": problem,
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


def _same_head(model: Any, folder: Path) -> None:
    """Refuses a head of another task whose tensors happen to have the same names: one of texts, of words, of answers.

    The config of what was loaded names its new class, so the folder is asked.
    """
    said = [str(name) for name in read_json(folder / "config.json").get("architectures") or [] if "For" in str(name)]
    wanted = "For" + type(model).__name__.rpartition("For")[2]
    if said and not any(name.endswith(wanted) for name in said):
        raise LabelError(
            f"the teacher is a {said[0]}, and the data wants a model {wanted}; do: --set teacher.fine_tune=always"
        )


def _same_problem(model: Any, problem: str) -> None:
    """Refuses a head whose numbers mean something else; one that says nothing is taken by its number of outputs."""
    kind, outputs = getattr(model.config, "problem_type", None), len(model.config.id2label)
    one = problem == "regression"
    if kind is None and one == (outputs == 1):
        return
    if kind != problem or one != (outputs == 1):
        what = f"solves a {kind.replace('_', ' ')} problem" if kind else "says nothing of its problem"
        raise LabelError(
            f"the teacher {what} with {outputs} output{'s' * (outputs != 1)}, and the data wants "
            f"{problem.replace('_', ' ')}; do: --set teacher.fine_tune=always"
        )


def _rescaled(model: Any, scale: Scale, names: Sequence[str]) -> tuple[Alignment, list[str]]:
    """A head that gives scores of the data, made to give scores of mean 0 and deviation 1, as labels are here."""
    heads = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1]
    if not heads:
        raise LabelError(f"{type(model).__name__} has no linear layer with one output; do: teacher.fine_tune=always")
    with torch.no_grad():
        heads[-1].weight.div_(scale.std)
        if heads[-1].bias is None:
            heads[-1].bias = torch.nn.Parameter(torch.zeros(1))
        heads[-1].bias.sub_(scale.mean).div_(scale.std)
    sentence = f"the teacher's score is taken to be on the scale of the data, {scale.low:g} to {scale.high:g}"
    return Alignment((0,), False, sentence, tuple(names)), [sentence]
