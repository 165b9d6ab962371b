"""Export before evaluation: INT8, one temperature, gates on validation. What fails a gate is kept, no artefact."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from understudy import export, runtime, students
from understudy.data import Examples
from understudy.evaluation import gate, latency
from understudy.files import write_tensors
from understudy.pipeline.exits import decide, score_every
from understudy.pipeline.journal import Facts
from understudy.pipeline.label import validation_logits
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.timing import declared_threads
from understudy.statistics import METRICS, fit_temperature, softmax, threshold_for
from understudy.statistics.metrics import recall_per_class
from understudy.teachers import Loaded, score_rows

PARITY = 0.01  # largest difference, in logits, between the module and its fp32 export
PARITY_ROWS = 256  # at least so many real rows
ALONE = 8  # rows that a process without torch has to answer alike

Array = np.ndarray[Any, Any]
Model = Path | Mapping[str, Array] | list[Path]


def ship(material: Material, kind: Apprentice, student: nn.Module, *, teacher: Loaded) -> Facts:
    """Exports the student into RUN/artefact, or into RUN/rejected where a gate fails.

    Args:
        teacher: rows above the abstain threshold are to reach its accuracy on validation.

    Returns:
        ``gates``, ``passed``, ``folder``, ``temperature``, ``abstain_below``, ``parity``, ``ladder``, ``bytes``,
        ``exporting``; of a student with exits ``exits`` too (`exits.decide`).
    """
    rows = material.splits.validation
    target = float((validation_logits(material, teacher).argmax(1) == rows.labels).mean())
    metric = METRICS[str(material.recipe.evaluation.metric)]
    reference = score_rows(student, kind.encoder, rows.inputs)
    before = metric.function(rows.labels, reference.argmax(1))
    with tempfile.TemporaryDirectory(prefix="understudy-") as place:
        models = _models(material, kind, student, Path(place))
        found: dict[str, Array] = {}
        for name, model in models.items():
            draft = Path(place) / f"{name}-artefact"
            _write(draft, material, kind, model)
            found[name] = runtime.load(draft).logits(raw_rows(rows))
        parity = _parity(material, kind, student, Path(place) / "fp32-artefact")
        draft = Path(place) / "int8-artefact"
        logits, leaving = found["int8"], None
        if isinstance(student, students.Exits):
            anew = partial(_write, draft, material, kind, models["int8"])
            leaving = decide(material, draft, raw_rows(rows), lambda exits: anew(exits=exits), exact=before)
            logits = leaving.logits
        after = metric.function(rows.labels, logits.argmax(1))
        temperature = fit_temperature(logits, rows.labels)
        confidence = softmax(logits, temperature=temperature).max(1)
        threshold = threshold_for(confidence, logits.argmax(1) == rows.labels, accuracy=target) or 0.0
        drop = 100 * metric.gain(before, after)
        gates = _gates(material, draft, rows, logits, parity, drop, exits=leaving is not None)
        passed = all(one["passed"] for one in gates)
        folder = material.folder / ("artefact" if passed else "rejected")
        for old in ("artefact", "rejected"):
            shutil.rmtree(material.folder / old, ignore_errors=True)
        _write(
            folder, material, kind, models["int8"],
            temperature=temperature, thresholds={"abstain_below": float(threshold)}, gates=gates,
            limits={"validation_rows": len(rows)}, exits=leaving.settings if leaving else (),
        )  # fmt: skip
        sizes = {name: _size(Path(place) / f"{name}-artefact") for name in models}
    scores = {"artefact": logits.astype(np.float32), "student": reference.astype(np.float32)}
    write_tensors(material.folder / "scores" / "validation.safetensors", scores)
    reached = {name: metric.function(rows.labels, found[name].argmax(1)) for name in ("fp32", "int8")}
    reached |= {"int8, with exits": after} if leaving else {}
    bits = f"int{material.recipe.export.bits}"
    rungs = [
        {
            "rung": name.replace("int8", bits),
            "bytes": sizes[name[:4]],
            "metric": value,
            "drop": 100 * metric.gain(before, value),
        }
        for name, value in reached.items()
    ]
    return {
        "gates": gates,
        "passed": passed,
        "folder": folder.name,
        "temperature": temperature,
        "abstain_below": float(threshold),
        "parity": parity,
        "ladder": rungs,
        "bytes": _size(folder),
        "exporting": _exporting(kind, student),
        **({"exits": leaving.facts} if leaving else {}),
    }


def _parity(material: Material, kind: Apprentice, student: nn.Module, exact: Path) -> dict[str, Any]:
    """Module against fp32 export on real rows of mixed lengths: validation, and training rows where that is small."""
    rows, train = material.splits.validation, material.splits.train
    if len(rows) < PARITY_ROWS:
        rows = Examples.join([rows, train.take(range(min(len(train), PARITY_ROWS - len(rows))))])
    if not isinstance(student, students.Exits):
        ours = score_rows(student, kind.encoder, rows.inputs)
        return export.parity(ours, runtime.load(exact).logits(raw_rows(rows)), most_error=PARITY)
    every, theirs = score_every(student, kind.encoder, rows.inputs), runtime.load(exact).every_exit(raw_rows(rows))[0]
    whole = export.parity(np.concatenate(every), np.concatenate(theirs), most_error=PARITY)
    each = [export.parity(a, b, most_error=PARITY) for a, b in zip(every, theirs, strict=True)]
    return {**whole, "rows": len(rows), "exits": each}


def to_graph(module: nn.Module, encoder: Any, rows: Examples, path: Path) -> None:
    """Any model with an ONNX form, as one fp32 file; the example is real rows."""
    export.to_onnx(module, _example(encoder, rows), path)


def _example(encoder: Any, rows: Examples) -> dict[str, torch.Tensor]:
    some = rows.take(range(min(8, len(rows))))
    features = encoder.encode(some.inputs)
    arrays = encoder.collate(features, np.arange(len(some)))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def write_plain(folder: Path, teacher: Loaded, labels: Sequence[str], graph: Path, task: str) -> None:
    """A model as an artefact folder without gates: how a teacher is timed in ONNX Runtime."""
    export.write_artefact(folder, task=task, labels=labels, encoder=teacher.encoder, model=graph)


def _exporting(kind: Apprentice, student: nn.Module) -> str:
    """How numbers become INT8; of exits the model inside decides, for a student of the user's own has no family."""
    if isinstance(student, students.Exits):
        return "calibrated" if isinstance(student.model, students.Cnn) else "dynamic"
    return kind.exporting


def _models(material: Material, kind: Apprentice, student: nn.Module, place: Path) -> dict[str, Model]:
    """The exact model, and the one that ships."""
    if isinstance(student, students.Exits):
        folders = [place / "fp32", place / "int8"]
        for folder in folders:
            folder.mkdir()
        parts = export.parts_to_onnx(student, _example(kind.encoder, material.splits.validation), folders[0])
        rows = _calibration(material, kind) if _exporting(kind, student) == "calibrated" else None
        return {"fp32": parts, "int8": export.quantise_parts(parts, folders[1], rows)}
    if kind.exporting == "static":
        return {
            "fp32": export.static_tensors(student, bits=32),
            "int8": export.static_tensors(student, bits=material.recipe.export.bits),
        }
    exact, small = place / "fp32.onnx", place / "int8.onnx"
    to_graph(student, kind.encoder, material.splits.validation, exact)
    if kind.exporting == "dynamic":
        export.quantise_dynamic(exact, small)
    else:
        export.quantise_static(exact, small, _calibration(material, kind))
    return {"fp32": exact, "int8": small}


def _calibration(material: Material, kind: Apprentice) -> list[dict[str, Array]]:
    """Training rows in batches of 32: the ranges that activations are given."""
    train = material.splits.train
    most = min(material.recipe.export.calibration_rows, len(train))
    rows = train.take(np.random.default_rng(material.recipe.seed).permutation(len(train))[:most])
    features = kind.encoder.encode(rows.inputs)
    return [kind.encoder.collate(features, np.arange(i, min(i + 32, most))) for i in range(0, most, 32)]


def _write(folder: Path, material: Material, kind: Apprentice, model: Model, **more: Any) -> None:
    names = material.splits.label_names
    export.write_artefact(folder, task=material.task.name, labels=names, encoder=kind.encoder, model=model, **more)


def _gates(
    material: Material,
    draft: Path,
    rows: Examples,
    logits: Array,
    parity: Mapping[str, Any],
    drop: float,
    *,
    exits: bool,
) -> list[Facts]:
    limits, threads = material.recipe.export, material.recipe.evaluation.threads or 1
    gates = [
        gate("parity (largest difference in logits)", PARITY, parity["max_abs_error"], at_most=True),
        gate(f"INT{limits.bits} {'and exits ' if exits else ''}loss (points)", limits.max_drop, drop, at_most=True),
        gate("same labels without torch (share)", 1.0, _alone(draft, rows), at_least=True),
    ]
    if limits.max_mb is not None:
        gates.append(gate("size (MB)", limits.max_mb, _size(draft) / 1e6, at_most=True))
    if limits.max_ms is not None:
        with declared_threads(threads):
            predictor = runtime.load(draft, threads=threads)
            some = raw_rows(rows)[: material.recipe.evaluation.latency_rows]
            gates.append(
                gate(
                    "p95 (ms)",
                    limits.max_ms,
                    latency(predictor.predict_one, some, threads=threads)["p95"],
                    at_most=True,
                )
            )
    names = material.splits.label_names
    recall = recall_per_class(rows.labels, logits.argmax(1), classes=len(names))
    for label, floor in limits.floors.items():
        gates.append(gate(f"recall of {label}", floor, float(recall[names.index(label)]), at_least=True))
    return gates


def _alone(draft: Path, rows: Examples) -> float:
    """Share of rows that a process which never imports torch labels as this one does."""
    # The same rows in one batch: INT8 activations have one scale per batch, and a row may be near a threshold.
    wanted = [one["label"] for one in runtime.load(draft).predict(raw_rows(rows)[:ALONE])]
    with tempfile.TemporaryDirectory(prefix="understudy-") as place:
        lines = "".join(
            json.dumps(_on_disk(row, i, Path(place))) + "\n" for i, row in enumerate(raw_rows(rows)[:ALONE])
        )
        command = [sys.executable, "-c", _ALONE, str(draft)]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, encoding="utf-8", timeout=120)
    if done.returncode:
        return 0.0
    got = [json.loads(line)["label"] for line in done.stdout.splitlines()]
    return float(np.mean([a == b for a, b in zip(wanted, got, strict=True)])) if len(got) == len(wanted) else 0.0


_ALONE = """
import sys
from understudy import runtime
runtime.stream(sys.argv[1], sys.stdin, sys.stdout)
sys.exit(any(name in sys.modules for name in ("torch", "transformers", "scipy", "sklearn")))
"""


def _on_disk(row: Any, number: int, place: Path) -> Any:
    """The row as JSON can carry it: an image becomes a file."""
    if isinstance(row, Mapping) and isinstance(row.get("image"), bytes):
        path = place / f"{number}.image"
        path.write_bytes(row["image"])
        return {"image": str(path)}
    return row


def raw_rows(rows: Examples) -> list[Any]:
    """The rows as a user would hand them to the artefact."""
    names = list(rows.inputs)
    return [dict(zip(names, values, strict=True)) for values in zip(*rows.inputs.values(), strict=True)]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
