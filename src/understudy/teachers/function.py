"""A teacher that is any Python callable, or a scikit-learn estimator: asked about raw rows, its answers as logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from understudy.errors import LabelError, TeacherError, UsageError, choices
from understudy.files import content_hash
from understudy.teachers.label import Inputs
from understudy.teachers.labels import Alignment, align
from understudy.teachers.loaded import Loaded

RETURNS = ("probabilities", "scores", "logits")
FLOOR = 1e-7  # of a probability: its logarithm is what a student learns, and -inf teaches nothing
ASKED = 32  # rows whose answers are the fingerprint of a function that has no other

Score = Callable[[list[dict[str, Any]]], Any]


class Unrunnable(nn.Module):
    """What stands in the place of a module that a teacher does not have: it has no weights, and says so when run."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Raises UsageError."""
        raise UsageError(
            f"the teacher is {self.what}: it answers raw rows, and cannot run in a training step; {_STORE}"
        )


_STORE = "use teacher.targets=stored, with an objective that reads logits only"


class RowEncoder:
    """Raw rows as they are: what a callable reads. It has nothing that a model could be given."""

    kind = "rows"

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)

    @property
    def fingerprint(self) -> str:
        """Changes with the columns."""
        return content_hash("rows", *self.fields)

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """Positions of the rows, int64 [N]."""
        return np.arange(len(inputs[self.fields[0]]))

    def collate(self, features: np.ndarray, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Raises UsageError: a batch holds tensors."""
        raise UsageError(f"the teacher is a function of raw rows: it cannot run in a training step; {_STORE}")

    def lengths(self, features: np.ndarray) -> np.ndarray:
        """Ones: nobody knows what a row costs."""
        return np.ones(len(features), np.int64)

    def save(self, folder: Path) -> dict[str, Any]:
        """Raises UsageError: a callable is no part of an artefact."""
        raise UsageError("a function as a teacher has no artefact: distil it into a student")


def function(
    score: Any,
    *,
    returns: str | None = None,
    fields: Sequence[str] = ("text",),
    labels: Sequence[str] | None = None,
    name: str | None = None,
    fingerprint: str = "",
    bytes: int | None = None,
    batch_size: int = 256,
) -> Loaded:
    """Any Python callable, or a scikit-learn estimator, as a teacher: asked once for each row, which is then stored.

    (An evaluation asks it about the test rows, and some hundreds of times more to see how fast it is.)

    A callable gets a list of rows, ``[{"text": "..."}, ...]``, and answers with an array [N, K]. An estimator gets what
    it was fitted on: the values of the one field, or the rows where there are several; ``predict_proba`` is asked
    before ``decision_function``, and its ``classes_`` are aligned with the labels of the data by name (or, where they
    are numbers that are no names, by position).

    ``probabilities`` become logarithms, none below log 1e-7. ``scores`` of a decision function are taken as logits:
    their order is what the estimator says, their scale is not, and temperature decides what a student makes of them.
    One column of scores s for two labels (a binary SVM) stands for logits (0, s), one column of probabilities p for
    (1 - p, p).

    Args:
        score: rows -> [N, K], or an estimator with ``predict_proba`` or ``decision_function``.
        returns: ``probabilities`` (what a callable is taken to give), ``scores`` or ``logits``; an estimator knows.
        fields: columns of a row that it reads.
        labels: names of its columns, to be aligned with the data's; an estimator knows. None: the data's own, in order.
        name: what reports call it.
        fingerprint: changes whenever its answers may have changed; stored answers are found by it. A callable has no
            weights to hash, so without one it is asked about 32 validation rows whenever a run starts, and the exact
            bytes of these answers are its fingerprint: give one where a call is dear, or not exactly repeatable.
            Whichever it is, stored answers are checked against new ones at every labelling.
        bytes: its size on disk, where that is known.
        batch_size: rows per call.

    Raises:
        UsageError: not callable, a torch module (``teachers.given`` takes those), or no such kind of answer.
        TeacherError: an estimator whose scores are not one per class.

    >>> teacher = function(lambda rows: [[0.9, 0.1]] * len(rows), name="optimist", fingerprint="1")
    >>> [[round(float(z), 2) for z in row] for row in teacher.scores({"text": ["a", "b"]})]
    [[-0.11, -2.3], [-0.11, -2.3]]
    """
    if isinstance(score, nn.Module):
        raise UsageError("a torch module is no function of raw rows: teachers.given(module, encoder) takes it")
    if isinstance(fields, str) or not fields:
        raise UsageError(f"wanted fields as a list of columns, got {fields!r}")
    title = name or str(getattr(score, "__name__", type(score).__name__))
    named = () if labels is None else tuple(str(one) for one in labels)
    if hasattr(score, "predict_proba") or hasattr(score, "decision_function"):
        ask, kind, own = _of_estimator(score, returns, tuple(fields))
        own = named or own
    elif callable(score):
        ask, kind, own = score, returns or "probabilities", named
    else:
        raise UsageError(
            f"wanted a callable, or an estimator with predict_proba or decision_function, got a {type(score).__name__}"
        )
    if kind not in RETURNS:
        raise UsageError(f'a teacher cannot return "{kind}": {choices(kind, RETURNS)}')
    notes = [f"the teacher is a function ({title}) that gives {kind}"]
    if kind == "scores":
        notes.append("its scores are taken as logits: their order means something, their scale is the function's own")
    return Loaded(
        model=Unrunnable(f"a function ({title})"),
        encoder=RowEncoder(fields),
        alignment=None,
        fresh_head=False,
        description=title,
        fingerprint=fingerprint,
        notes=tuple(notes),
        ask=partial(_answers, ask, kind, tuple(fields), title, batch_size),
        bytes=bytes,
        own_labels=own,
    )


def settle(teacher: Loaded, label_names: Sequence[str], inputs: Inputs) -> Loaded:
    """A teacher that has met the data: its columns in the order of its labels, and a fingerprint where it had none.

    A teacher that is a module, or that is settled, is given back as it is.

    Args:
        teacher: as ``function`` makes it.
        label_names: of the data (or those of them that it knows), in their order.
        inputs: raw columns of the rows to be asked about, where it has no fingerprint: validation rows, say.

    Raises:
        LabelError: labels that cannot be aligned.
        TeacherError: it reads a column that no row has, or gives another number of columns than there are labels.
    """
    if teacher.ask is None or teacher.members:
        return teacher
    _refuse_missing(teacher.description, teacher.encoder.fields, inputs)
    if teacher.own_labels and teacher.alignment is None:
        alignment = _aligned(teacher.own_labels, label_names)
        teacher = replace(teacher, alignment=alignment, notes=(*teacher.notes, alignment.sentence))
    if teacher.fingerprint:
        return teacher
    some = {name: list(inputs[name])[:ASKED] for name in teacher.encoder.fields}
    said = teacher.scores(some)
    if said.shape[1] != len(label_names):
        raise TeacherError(
            f"{teacher.description} gives {said.shape[1]} columns for {len(label_names)} labels of the data: say which "
            "they are with labels=, or name the labels that it knows"
        )
    rows = [repr(sorted((name, values[i]) for name, values in some.items())) for i in range(len(said))]
    return replace(teacher, fingerprint=content_hash("function-1", teacher.description, *rows, said.tobytes()))


def _aligned(own: tuple[str, ...], names: Sequence[str]) -> Alignment:
    try:
        return align(dict(enumerate(own)), names)
    except LabelError:
        if sorted(own) != sorted(map(str, range(len(names)))):
            raise
    order = tuple(own.index(str(label)) for label in range(len(names)))
    sentence = f'labels by position: the teacher knows them as numbers, so its 0 is taken for "{names[0]}", and so on'
    return Alignment(order, order != tuple(range(len(own))), sentence, own)


def _of_estimator(estimator: Any, returns: str | None, fields: tuple[str, ...]) -> tuple[Score, str, tuple[str, ...]]:
    proba = hasattr(estimator, "predict_proba") and returns in (None, "probabilities")
    kind = "probabilities" if proba else returns or "scores"
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    method = getattr(estimator, "predict_proba" if proba else "decision_function", None)
    if method is None:
        raise TeacherError(f"{type(last).__name__} has no decision_function, and returns={returns} asks for it")
    if not proba and getattr(last, "decision_function_shape", None) == "ovo":
        raise TeacherError(
            f'{type(last).__name__} gives a score for each pair of classes: fit it with decision_function_shape="ovr"'
        )
    classes = getattr(estimator, "classes_", None)

    def score(rows: list[dict[str, Any]]) -> Any:
        return method([row[fields[0]] for row in rows] if len(fields) == 1 else rows)

    return score, kind, () if classes is None else tuple(str(one) for one in np.asarray(classes).tolist())


def _answers(
    score: Score, returns: str, fields: tuple[str, ...], name: str, batch_size: int, inputs: Inputs
) -> np.ndarray:
    """Logits of raw rows, asked batch by batch, in the columns of the callable."""
    _refuse_missing(name, fields, inputs)
    rows = [dict(zip(fields, row, strict=True)) for row in zip(*(inputs[field] for field in fields), strict=True)]
    found = []
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        found.append(_logits(_array(score(some), len(some), name), returns, name, start))
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


def _refuse_missing(name: str, fields: Sequence[str], inputs: Inputs) -> None:
    for field in fields:
        if field not in inputs:
            raise TeacherError(f'{name} reads "{field}", which no row has: {choices(field, inputs)}; fields= says it')


def _array(said: Any, rows: int, name: str) -> np.ndarray:
    dense: Any = said.toarray() if hasattr(said, "toarray") else said
    try:
        array = np.asarray(dense, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TeacherError(f"{name} gave {type(said).__name__}, wanted numbers [{rows}, labels] ({error})") from error
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or len(array) != rows or not array.shape[1]:
        raise TeacherError(f"{name} gave an array {list(array.shape)} for {rows} rows, wanted [{rows}, labels]")
    return array


def _logits(said: np.ndarray, returns: str, name: str, start: int) -> np.ndarray:
    """What was said as logits; one column is completed to two."""
    alone = said.shape[1] == 1
    if returns != "probabilities":
        return np.concatenate([np.zeros_like(said), said], axis=1) if alone else said
    if alone:
        said = np.concatenate([1 - said, said], axis=1)
    total = said.sum(1)
    wrong = np.flatnonzero(~((abs(total - 1) < 1e-3) & (said >= -1e-6).all(1)))
    if len(wrong):
        row = int(wrong[0])
        raise TeacherError(
            f"{name} gave no probabilities for row {start + row + 1}: they sum to {total[row]:.4g}, the least is "
            f'{said[row].min():.4g}; say returns="logits" or "scores" where that is what they are'
        )
    return np.log(np.maximum(said, FLOOR))
