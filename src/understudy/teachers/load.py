"""Opening a teacher from a folder or a name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from understudy.answers import Scale
from understudy.errors import UsageError, choices
from understudy.teachers.folder import resolve
from understudy.teachers.loaded import Loaded
from understudy.teachers.pretrained import HEADS

PROBLEMS = {
    "text-classification": "single_label_classification",
    "pair-classification": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
    "token-classification": "single_label_classification",
}
"""Tasks of texts, and what transformers calls their problem."""


def open_teacher(
    path_or_name: Path | str,
    *,
    task: str,
    label_names: Sequence[str],
    head: str = "keep",
    limit: int | None = None,
    seed: int = 0,
    fields: Sequence[str] = ("text",),
    scale: Scale | None = None,
) -> Loaded:
    """A teacher from a folder or a hub name, checked before it is believed.

    Only safetensors are read, no code comes with a model, and no weight outside a head may be missing. A head that was
    just initialised is reported (``fresh_head``), never passed off as a teacher.

    Args:
        path_or_name: folder of a saved transformers model (or of one of our image families), or a hub name.
        task: name of a task.
        label_names: the data's labels, in the order of its label ids.
        head: ``keep`` the folder's own head, which must fit the labels; always a ``new`` one; ``auto``: a new one where
            its own does not fit, with a note that says so.
        limit: the most ids per text; 256 or what the model can read, whichever is less, where None.
        seed: of a fresh head.
        fields: columns of text that it reads, one or a pair; or the one of words.
        scale: of the data's scores, for a regression.

    Raises:
        TeacherError: missing, unreachable, a pickle, corrupt, incomplete, or asking for remote code.
        LabelError: labels that cannot be aligned (with ``head="keep"``).
    """
    if head not in HEADS:
        raise UsageError(f'no head "{head}": {choices(head, HEADS)}')
    if task in PROBLEMS:
        from understudy.teachers.text import open_text

        more: dict[str, Any] = {"fields": fields, "problem": PROBLEMS[task], "scale": scale}
        more["words"] = task == "token-classification"
        return open_text(resolve(path_or_name), label_names=label_names, head=head, limit=limit, seed=seed, **more)
    if task == "sentence-embedding":
        from understudy.teachers.embedding import open_embedder

        return open_embedder(resolve(path_or_name), limit=limit, seed=seed)
    if task == "question-answering":
        from understudy.teachers.reader import open_reader

        return open_reader(resolve(path_or_name), label_names=label_names, head=head, limit=limit, seed=seed)
    if task == "masked-language-model":
        from understudy.teachers.masked import open_masked

        return open_masked(resolve(path_or_name), head=head, limit=limit, seed=seed)
    if task == "causal-lm":
        from understudy.teachers.causal import open_causal

        return open_causal(resolve(path_or_name), head=head, limit=limit, seed=seed, fields=fields)
    if task != "image-classification":
        known = [*PROBLEMS, "sentence-embedding", "question-answering", "masked-language-model", "causal-lm"]
        known += ["image-classification"]
        raise UsageError(f'no teacher for a task "{task}": {choices(task, known)}')
    return _image(resolve(path_or_name), label_names, head, seed)


def _image(folder: Path, label_names: Sequence[str], head: str, seed: int) -> Loaded:
    from understudy.teachers.own import is_own, open_own
    from understudy.teachers.vision import open_vision

    if is_own(folder):
        return open_own(folder, label_names=label_names)
    return open_vision(folder, label_names=label_names, head=head, seed=seed)
