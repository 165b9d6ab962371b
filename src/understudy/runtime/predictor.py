"""Raw rows in, labels out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding import Encoder, PairEncoder, RowError, WordEncoder, load_encoder
from understudy.errors import ArtefactError, StoreError, UsageError
from understudy.files import read_tensors
from understudy.ragged import Ragged
from understudy.runtime.artefact import find, read_manifest
from understudy.runtime.exits import ExitsModel
from understudy.runtime.graph import GraphModel
from understudy.runtime.lookup import Lookup
from understudy.runtime.single import unpack
from understudy.runtime.static import StaticModel
from understudy.runtime.voices import OneLabel, Vector, finite, voice_of

Row = str | Mapping[str, Any]
Model = Lookup | GraphModel | ExitsModel
_TEXTS, _IMAGES = 8192, 256  # rows encoded at a time: bounds the memory, whatever the number of rows


class Predictor:
    """A loaded artefact. No call changes what another one says, and threads may share it.

    Attributes:
        manifest: the content of ``understudy.json``.
        labels: the K labels, in the order of the logits; none of vectors.
    """

    def __init__(self, manifest: Mapping[str, Any], encoder: Encoder, model: Model) -> None:
        self.manifest, self.labels = manifest, tuple(manifest["labels"])
        self._encoder, self._model = encoder, model
        self._voice = voice_of(manifest)
        # One bare string is all that such a model reads, so that nothing need be made of it first.
        self._one_label = isinstance(self._voice, OneLabel)
        self._lookup = model if isinstance(model, Lookup) and len(encoder.fields) == 1 else None

    def predict(self, rows: Sequence[Row], *, batch: int = 32) -> list[dict[str, Any]]:
        """Every row as it came, plus the answer, which replaces columns of its names:

        one label:       ``label``, ``probabilities`` {label: p} and ``abstained``, true where the best probability is
                         below the threshold chosen on validation; the label is given all the same
        a score:         ``score``, on the scale of the data
        several labels:  ``labels``, those that hold, and ``probabilities`` {label: p}
        tags of words:   ``tags`` and ``spans``, see `understudy.runtime.tagger`
        a vector:        ``embedding``, D numbers, a vector of length 1
        hidden tokens:   ``loss`` and ``filled``, see `understudy.runtime.filler`

        A bare string stands for the only column of the task. Where a row was longer than its encoder's limit, and lost
        its end, it also has ``truncated``, true.
        """
        rows = as_sequence(rows)
        logits, cut = self._said(rows, batch=batch)
        answers = list(map(self._answer, rows, self._voice.said(logits)))
        for row in np.flatnonzero(cut).tolist():
            answers[row]["truncated"] = True
        return answers

    def predict_one(self, row: Row) -> dict[str, Any]:
        """`predict` of one row."""
        if self._lookup is None or type(row) is not str:
            return self.predict([row])[0]
        return self._answer(row, self._voice.said(self._lookup.one(row)[None])[0])

    def labels_of(self, rows: Sequence[Row], *, batch: int = 32) -> list[str]:
        """The label of every row, and nothing else: what `predict` says, for less.

        Raises:
            UsageError: an artefact whose answer is not one label.
        """
        self._refuse_other()
        best = finite(self.logits(rows, batch=batch)).argmax(axis=1).tolist()
        return list(map(self.labels.__getitem__, best))

    def label(self, row: Row) -> str:
        """`labels_of` one row."""
        if self._lookup is None or type(row) is not str or not self._one_label:
            return self.labels_of([row])[0]
        logits = self._lookup.one(row)
        best = logits.argmax()  # of a row with NaN it is the NaN
        return self.labels[best] if isfinite(logits[best]) else self.labels[int(finite(logits[None]).argmax())]

    def predict_proba(self, rows: Sequence[Row], *, batch: int = 32) -> Any:
        """float64 [N, K]: softmax(logits / temperature), the temperature fitted on validation; of several labels the
        sigmoid of each; of tags a `Ragged` [M, K], a row of K for every word.

        Raises:
            UsageError: an artefact that gives scores.
        """
        return self._voice.probabilities(self.logits(rows, batch=batch))

    def numbers(self, rows: Sequence[Row], *, batch: int = 32) -> Any:
        """What `predict` says as one array: probabilities [N, K] (of tags a `Ragged`), scores [N] on the data's scale,
        vectors [N, D]."""
        return self._voice.numbers(self.logits(rows, batch=batch))

    def embed(self, rows: Sequence[Row], *, int8: bool = False, batch: int = 32) -> np.ndarray:
        """The vector of every row, float32 [N, D], of length 1: products of two are their cosine.

        Args:
            rows: texts, or objects with the column of the task.
            int8: whole numbers in -127 .. 127 instead, one byte an entry, as vector stores keep them. One step is
                ``manifest["int8_scale"]`` for every entry of every vector, so that a product of two is their cosine in
                units of its square; the largest entry of the validation texts is 127, and what is larger is cut.
            batch: rows per forward of an ONNX model.

        Raises:
            UsageError: an artefact that gives no vectors.
        """
        voice = self._voice
        if not isinstance(voice, Vector):
            raise UsageError(
                f"this artefact's answer is {self.manifest.get('answer', 'label')}, not a vector: use predict"
            )
        logits = self.logits(rows, batch=batch)
        return voice.int8(logits) if int8 else voice.numbers(logits)

    def _answer(self, row: Row, said: dict[str, Any]) -> dict[str, Any]:
        return {**(row if isinstance(row, Mapping) else {self._encoder.fields[0]: row}), **said}

    def _refuse_other(self) -> None:
        if not self._one_label:
            raise UsageError(f"this artefact's answer is {self.manifest['answer']}, not one label a row: use predict")

    def logits(self, rows: Sequence[Row], *, batch: int = 32) -> Any:
        """float32 [N, K], in the order of the rows; of tags a `Ragged`. Raises RowError (a DataError) naming row and
        column.

        Where a model has exits they are those of the exit that answered, divided by that exit's own temperature.
        """
        return self._said(rows, batch=batch)[0]

    def _said(self, rows: Sequence[Row], *, batch: int) -> tuple[Any, np.ndarray]:
        """`logits`, and bool [N]: which rows were cut; or [0] where none ever is."""
        model = self._model
        if isinstance(model, Lookup):
            return model.logits(self._columns(as_sequence(rows))), np.zeros(0, bool)
        found: list[Any] = [self._voice.nothing]
        cut = [np.zeros(0, bool)]
        for features in self._encoded(rows):
            found.append(model.logits(self._encoder, features, batch=batch))
            if getattr(features, "cut", None) is not None:
                cut.append(features.cut)
        ragged = isinstance(found[0], Ragged)
        return Ragged.join(found) if ragged else np.concatenate(found), np.concatenate(cut)

    def exits(self, rows: Sequence[Row], *, batch: int = 32) -> np.ndarray:
        """int64 [N]: which exit answers each row, counted from 0, the shallowest first.

        Raises:
            UsageError: a model without exits.
        """
        ask = self._with_exits().answers
        found = [ask(self._encoder, features, batch=batch)[1] for features in self._encoded(rows)]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def every_exit(self, rows: Sequence[Row], *, batch: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """float32 [E, N, K], the logits of every exit as if no row left, not divided; and seconds [E] of the parts.

        Raises:
            UsageError: a model without exits.
        """
        model = self._with_exits()
        found = [model.every(self._encoder, features, batch=batch) for features in self._encoded(rows)]
        count = len(self.manifest["exits"])
        logits = [said for said, _ in found] or [np.zeros((count, 0, len(self.labels)), np.float32)]
        return np.concatenate(logits, axis=1), sum((seconds for _, seconds in found), np.zeros(count))

    def _with_exits(self) -> ExitsModel:
        if not isinstance(self._model, ExitsModel):
            raise UsageError("this artefact has no exits: every row goes through the whole model")
        return self._model

    def _encoded(self, rows: Sequence[Row]) -> Iterator[Any]:
        """Features, some thousand rows at a time."""
        rows = as_sequence(rows)
        step = _IMAGES if self._encoder.kind == "pixels" else _TEXTS
        for start in range(0, len(rows), step):
            try:
                yield self._encoder.encode(self._columns(rows[start : start + step]))
            except RowError as error:
                raise RowError(start + error.row, error.column, error.problem) from error.__cause__

    def _columns(self, rows: Sequence[Row]) -> dict[str, Any]:
        fields, kinds = self._encoder.fields, set(map(type, rows))
        if kinds == {str} and len(fields) == 1:
            return {fields[0]: rows}
        if kinds == {dict} and all(all(field in row for field in fields) for row in rows):
            return {field: [row[field] for row in rows] for field in fields}  # type: ignore[index]
        columns: dict[str, list[Any]] = {field: [] for field in fields}
        for number, row in enumerate(rows):
            for field, value in _values(number, row, fields):
                columns[field].append(value)
        return columns


def load(folder: Path | str, *, threads: int = 1) -> Predictor:
    """The predictor in an artefact folder, or in a run folder that has one, after checking every file's hash.

    Args:
        folder: where ``understudy.json`` is, a run folder, or the one file that `export.single_file` wrote.
        threads: threads of an ONNX model. The encoders and the lookup families use one (their only product that may use
            more is numpy's matrix product, which takes what OPENBLAS_NUM_THREADS or OMP_NUM_THREADS allow).

    Raises:
        ArtefactError: the folder is no artefact, or a file is missing, altered or of another schema.
        UsageError: a package that the artefact needs is not installed.
    """
    if threads < 1:
        raise UsageError(f"threads is at least 1, got {threads}")
    if Path(folder).is_file():
        with tempfile.TemporaryDirectory(prefix="understudy-") as place:
            unpack(Path(folder), Path(place))
            return _load(Path(place), threads=threads)
    return _load(find(folder), threads=threads)


def _load(folder: Path, *, threads: int) -> Predictor:
    manifest = read_manifest(folder)
    path = folder / manifest["model"]["file"]
    try:
        encoder = load_encoder(folder, manifest["encoder"])
        kind = manifest["model"]["kind"]
        kinds: dict[str, Callable[[], Model]] = {
            "static": lambda: _lookup(encoder, path),
            "onnx": lambda: GraphModel(path, threads=threads),
            "exits": lambda: ExitsModel(folder, manifest.get("exits", ()), threads=threads),
        }
        if kind not in kinds:
            raise ArtefactError(f'{folder}: a model of kind "{kind}", which this version does not know')
        model = kinds[kind]()
    except StoreError as error:
        raise ArtefactError(str(error)) from error
    if manifest.get("answer") == "tags":
        from understudy.runtime.tagger import Tagger

        return Tagger(manifest, encoder, model)
    if manifest.get("answer") == "span":
        from understudy.runtime.reader import Reader

        return Reader(manifest, encoder, model)
    if manifest.get("answer") == "masked":
        from understudy.runtime.filler import Filler

        return Filler(manifest, encoder, model)
    return Predictor(manifest, encoder, model)


def _lookup(encoder: Encoder, path: Path) -> Lookup:
    """Words and vectors. Raises ArtefactError where they do not fit."""
    words = encoder.inner if isinstance(encoder, PairEncoder) else encoder
    if not (isinstance(encoder, WordEncoder | PairEncoder) and isinstance(words, WordEncoder)):
        raise ArtefactError(f"{path}: vectors are looked up for words, not for {words.kind}; export it again")
    model = StaticModel(read_tensors(path, mmap=False))
    if (model.texts == 2) != isinstance(encoder, PairEncoder):
        raise ArtefactError(f"{path} and its encoder do not agree on how many texts a row has; export it again")
    if encoder.size != len(model.table.sums) - 1:
        raise ArtefactError(
            f"{path} has {len(model.table.sums) - 1} vectors for {encoder.size} ids of its encoder; export it again"
        )
    return Lookup(encoder, model)


def as_sequence(rows: Any) -> Sequence[Row]:
    """Rows as they came. Raises UsageError for a single one."""
    if isinstance(rows, str | bytes | Mapping):
        raise UsageError(f"wanted a list of rows, got one {type(rows).__name__}; use predict_one, or put it in a list")
    return rows if isinstance(rows, Sequence) else list(rows)


def _values(number: int, row: Any, fields: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The columns of one row that the encoder reads."""
    if isinstance(row, Mapping):
        for field in fields:
            if field not in row:
                there = ", ".join(str(name) for name in row) or "nothing"
                raise RowError(number, field, f"there is no such column; the row has: {there}")
            yield field, row[field]
    elif len(fields) == 1:
        yield fields[0], row  # a bare value; the encoder says what is wrong with it
    else:
        raise RowError(number, fields[0], f"wanted an object with {' and '.join(fields)}, got a {type(row).__name__}")
