"""The folder that ships, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from understudy import __version__
from understudy.answers import Scale, answer_named
from understudy.encoding import Encoder
from understudy.errors import UsageError
from understudy.files import file_hash, new_folder, write_bytes, write_json, write_tensors, write_text
from understudy.runtime import MANIFEST, SCHEMA
from understudy.runtime.artefact import manifest_hash

CARD = "README.md"


def write_artefact(
    folder: Path | str,
    *,
    task: str,
    labels: Sequence[str],
    encoder: Encoder,
    model: Path | str | Mapping[str, np.ndarray] | Sequence[Path],
    exits: Sequence[Mapping[str, Any]] = (),
    temperature: float = 1.0,
    thresholds: Mapping[str, float] | None = None,
    gates: Sequence[Mapping[str, Any]] = (),
    limits: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    card: str = "",
    answer: str = "label",
    scale: Scale | None = None,
    label_thresholds: Sequence[float] | None = None,
    dimensions: int | None = None,
    int8_scale: float | None = None,
) -> None:
    """Write an artefact folder that `understudy.runtime.load` opens; an older one at the same place is replaced.

    Args:
        folder: the artefact folder.
        task: the task's name.
        labels: the K labels in the order of the logits.
        encoder: what turns a raw row into the model's inputs.
        model: an ONNX file, the tensors of a static student, or the ONNX files of a student with exits, in order.
        exits: of each part of a student with exits: ``threshold`` (the confidence from which a row leaves; None: never;
            of the last it does not matter), ``temperature`` (what its own logits are divided by), ``cost`` (its
            share of the whole forward's time). Not given: nobody leaves before the end.
        temperature: what the logits are divided by, fitted on validation; above 0.
        thresholds: ``abstain_below``, the probability under which the artefact abstains (0, never, unless given).
        gates: name, limit, value and passed of every gate.
        limits: what the artefact was gated with, and anything a user must know about its range.
        extra: further keys of the manifest.
        card: the text of README.md; not hashed, it may be completed after the evaluation.
        answer: what the logits mean (`understudy.answers`).
        scale: of a score; wanted there.
        label_thresholds: [K] probabilities from which each of several labels holds, a half unless given; of spans one
            number, `understudy.passages.no_answer_above`, 0 unless given.
        dimensions: of a vector; wanted there.
        int8_scale: what one step of a vector in whole numbers stands for; 1 / 127 unless given.

    Raises:
        UsageError: values that no artefact can have.
        DiskFull: nothing was written.
    """
    thresholds = {"abstain_below": 0.0, **(thresholds or {})}
    _check(labels, temperature, thresholds, answer)
    vector = {"dimensions": dimensions, "int8_scale": 1 / 127 if int8_scale is None else float(int8_scale)}
    left: list[dict[str, Any]] = []
    with new_folder(folder) as draft:
        entry = encoder.save(draft)
        if isinstance(model, Mapping):
            kind, name = "static", "static.safetensors"
            write_tensors(draft / name, model)
        elif isinstance(model, Sequence) and not isinstance(model, str):
            left = _exits(model, exits)
            kind, name = "exits", left[0]["file"]
            for path, entry_of in zip(model, left, strict=True):
                write_bytes(draft / entry_of["file"], path.read_bytes())
        else:
            kind, name = "onnx", "model.onnx"
            write_bytes(draft / name, Path(model).read_bytes())
        manifest = {
            **(extra or {}),
            "schema": SCHEMA,
            "understudy": __version__,
            "task": task,
            "answer": answer,
            "labels": list(labels),
            **(_vector(vector) if answer == "vector" else _meaning(answer, labels, scale, label_thresholds)),
            "fields": list(encoder.fields),
            "encoder": entry,
            "model": {"kind": kind, "file": name},
            **({"exits": left} if left else {}),
            "temperature": float(temperature),
            "abstain_below": float(thresholds["abstain_below"]),
            "thresholds": {key: float(value) for key, value in thresholds.items()},
            "gates": [dict(gate) for gate in gates],
            "limits": dict(limits or {}),
            "files": {file.name: file_hash(file) for file in sorted(draft.iterdir())},
        }
        write_json(draft / MANIFEST, {**manifest, "hash": manifest_hash(manifest)})
        write_text(draft / CARD, card)


def _exits(parts: Sequence[Path], given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the manifest says of each part."""
    given = given or [{} for _ in parts]
    if len(parts) < 2 or len(given) != len(parts):
        raise UsageError(f"a student with exits has at least two parts and settings for each, got {len(parts)} parts")
    found = []
    for number, one in enumerate(given):
        threshold, temperature = one.get("threshold"), float(one.get("temperature", 1.0))
        if not 0 < temperature < float("inf") or not (threshold is None or 0 <= threshold <= 1):
            raise UsageError(f"exit {number}: wanted a temperature above 0 and a threshold in [0, 1], got {dict(one)}")
        cost = one.get("cost")
        found.append(
            {
                "exit": number,
                "file": f"model.{number}.onnx",
                "threshold": None if threshold is None else float(threshold),
                "temperature": temperature,
                "cost": None if cost is None else float(cost),
            }
        )
    return found


def _meaning(
    answer: str, labels: Sequence[str], scale: Scale | None, thresholds: Sequence[float] | None
) -> dict[str, Any]:
    """What the manifest says of an answer that is not one label."""
    if answer == "score":
        if scale is None:
            raise UsageError("an artefact that gives scores needs scale: what they are scores of")
        return {"scale": asdict(scale)}
    if answer == "labels":
        found = [0.5] * len(labels) if thresholds is None else [float(one) for one in thresholds]
        if len(found) != len(labels) or not all(0 <= one <= 1 for one in found):
            raise UsageError(f"wanted a probability for each of {len(labels)} labels as label_thresholds, got {found}")
        return {"label_thresholds": dict(zip(labels, found, strict=True))}
    if answer == "span":
        return {"no_answer_above": float(thresholds[0]) if thresholds else 0.0}
    return {}


def _vector(said: dict[str, Any]) -> dict[str, Any]:
    """What the manifest says of vectors."""
    if not said["dimensions"] or not 0 < said["int8_scale"] < 1:
        raise UsageError(f"an artefact that gives vectors needs dimensions, and an int8_scale in (0, 1); got {said}")
    return said


def _check(labels: Sequence[str], temperature: float, thresholds: Mapping[str, float], answer: str) -> None:
    answer_named(answer)
    least = {"score": 1, "vector": 0, "masked": 0, "next": 0}.get(answer, 2)
    if len(labels) < least or len(set(labels)) != len(labels):
        raise UsageError(f"an artefact has at least two labels, all different; got {len(labels)}: {list(labels)[:5]}")
    if not 0 < temperature < float("inf"):
        raise UsageError(f"a temperature is above 0 and finite, got {temperature}")
    if not 0 <= thresholds["abstain_below"] <= 1:
        raise UsageError(f"abstain_below is a probability, got {thresholds['abstain_below']}")
