"""The gates between a trained student and an artefact, on validation."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from understudy import export, runtime, students
from understudy.answers import SPAN, VECTOR
from understudy.data import Examples
from understudy.evaluation import gate, latency
from understudy.pipeline.exits import score_every
from understudy.pipeline.forms import Array, raw_rows, size
from understudy.pipeline.journal import Facts
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.timing import declared_threads
from understudy.statistics.metrics import recall_per_class
from understudy.teachers import score_rows

PARITY = 0.01  # largest difference, in logits, between the module and its fp32 export
VECTOR_PARITY = 1e-3  # largest 1 - cosine between their vectors
PARITY_ROWS = 256  # at least so many real rows
ALONE = 8  # rows that a process without torch has to answer alike


def parity_of(material: Material, kind: Apprentice, student: nn.Module, exact: Path) -> dict[str, Any]:
    """Module against fp32 export on real rows of mixed lengths: validation, and training rows where that is small."""
    rows, train = material.splits.validation, material.splits.train
    if len(rows) < PARITY_ROWS:
        rows = Examples.join([rows, train.take(range(min(len(train), PARITY_ROWS - len(rows))))])
    if not isinstance(student, students.Exits):
        ours = score_rows(student, kind.encoder, rows.inputs)
        if material.task.answer is VECTOR:
            theirs = runtime.load(exact).logits(raw_rows(rows))
            return export.vector_parity(ours, theirs, most_error=VECTOR_PARITY)
        theirs = runtime.load(exact).logits(raw_rows(rows))
        return export.parity(ours, theirs, most_error=PARITY, spans=material.task.answer is SPAN)
    every, theirs = score_every(student, kind.encoder, rows.inputs), runtime.load(exact).every_exit(raw_rows(rows))[0]
    whole = export.parity(np.concatenate(every), np.concatenate(theirs), most_error=PARITY)
    each = [export.parity(a, b, most_error=PARITY) for a, b in zip(every, theirs, strict=True)]
    return {**whole, "rows": len(rows), "exits": each}


def gates_of(
    material: Material, draft: Path, logits: Array, parity: Mapping[str, Any], drop: float, *, exits: bool
) -> list[Facts]:
    """Every gate of the recipe, and whether the draft passes it."""
    rows = material.splits.validation
    limits = material.recipe.export
    same = ("parity (largest difference in logits)", PARITY)
    if material.task.answer is VECTOR:
        same = ("parity (largest 1 - cosine)", VECTOR_PARITY)
    if material.task.answer.reduced:
        same = ("parity (largest difference in nats of a text)", PARITY)
    gates = [
        gate(*same, parity["max_abs_error"], at_most=True),
        gate(
            f"INT{limits.bits} {'and exits ' if exits else ''}loss (points)",
            float(limits.max_drop or 0.0),
            drop,
            at_most=True,
        ),
        gate("same answers without torch (share)", 1.0, _alone(draft, rows), at_least=True),
    ]
    if limits.max_mb is not None:
        gates.append(gate("size (MB)", limits.max_mb, size(draft) / 1e6, at_most=True))
    if limits.max_ms is not None:
        gates.append(gate("p95 (ms)", limits.max_ms, p95(material, draft), at_most=True))
    names = material.splits.label_names
    for label, floor in limits.floors.items():
        recall = recall_per_class(rows.labels, logits.argmax(1), classes=len(names))
        gates.append(gate(f"recall of {label}", floor, float(recall[names.index(label)]), at_least=True))
    return gates


def p95(material: Material, draft: Path) -> float:
    """Milliseconds that 95 % of the validation rows stay below, one by one from raw input to label."""
    threads = material.recipe.evaluation.threads or 1
    with declared_threads(threads):
        predictor = runtime.load(draft, threads=threads)
        some = raw_rows(material.splits.validation)[: material.recipe.evaluation.latency_rows]
        return float(latency(predictor.predict_one, some, threads=threads)["p95"])


def _alone(draft: Path, rows: Examples) -> float:
    """Share of rows that a process which never imports torch labels as this one does."""
    # The same rows in one batch: INT8 activations have one scale per batch, and a row may be near a threshold.
    wanted = runtime.load(draft).predict(raw_rows(rows)[:ALONE])
    with tempfile.TemporaryDirectory(prefix="understudy-") as place:
        lines = "".join(
            json.dumps(_on_disk(row, i, Path(place))) + "\n" for i, row in enumerate(raw_rows(rows)[:ALONE])
        )
        command = [sys.executable, "-c", _ALONE, str(draft)]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, encoding="utf-8", timeout=120)
    if done.returncode:
        return 0.0
    return runtime.same_answers(wanted, [json.loads(line) for line in done.stdout.splitlines()])


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
