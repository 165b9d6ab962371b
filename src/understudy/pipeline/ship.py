"""Export before evaluation: INT8, one temperature, gates on validation. What fails a gate is kept, no artefact."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from understudy import runtime, students
from understudy.answers import LABEL, VECTOR, unit
from understudy.evaluation import calibration_of, throughput
from understudy.files import write_tensors
from understudy.pipeline.exits import Leaving, decide
from understudy.pipeline.forms import Array, exporting, raw_rows, size, write
from understudy.pipeline.gates import gates_of, parity_of
from understudy.pipeline.journal import Facts
from understudy.pipeline.label import validation_logits
from understudy.pipeline.ladder import Room, Rung, rungs
from understudy.pipeline.learn import save_module
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.timing import declared_threads
from understudy.statistics import METRICS, softmax, threshold_for
from understudy.targets.signals import to_file
from understudy.teachers import Loaded, score_rows

TIMED_ROWS, SECONDS = 128, 0.2  # a rung's speed: the best pass over so many rows


@dataclass(frozen=True)
class Weighed:
    """A rung as an artefact on validation.

    Attributes:
        rung: how it was made.
        folder: its draft.
        logits: of the validation rows.
        leaving: where rows leave, of a student with exits.
        facts: as the ladder of run.json has it.
    """

    rung: Rung
    folder: Path
    logits: Array
    leaving: Leaving | None
    facts: Facts


def ship(
    material: Material, kind: Apprentice, student: nn.Module, *, teacher: Loaded, room: Room | None = None
) -> Facts:
    """Exports the student into RUN/artefact, or into RUN/rejected where a gate fails.

    Args:
        teacher: rows above the abstain threshold are to reach its accuracy on validation.
        room: where the student can be trained further, should INT8 lose too much; None: it is not.

    Returns:
        ``gates``, ``passed``, ``folder``, ``temperature``, ``abstain_below``, ``parity``, ``ladder``, ``rung``,
        ``bytes``, ``exporting``, ``notes``; of a student with exits ``exits`` too (`exits.decide`).
    """
    rows = material.splits.validation
    reference = score_rows(student, kind.encoder, rows.inputs)
    with tempfile.TemporaryDirectory(prefix="understudy-") as place:
        ladder, best = _climb(material, kind, student, Path(place), reference, room)
        rung, logits, leaving = best.rung, best.logits, best.leaving
        _write_exact(Path(place) / "exact", material, kind, rung)
        parity = parity_of(material, kind, rung.module, Path(place) / "exact")
        gates = gates_of(material, best.folder, logits, parity, best.facts["drop"], exits=leaving is not None)
        passed = all(one["passed"] for one in gates)
        temperature, threshold, each = _calibrated(material, teacher, logits)
        folder = material.folder / ("artefact" if passed else "rejected")
        for old in ("artefact", "rejected"):
            shutil.rmtree(material.folder / old, ignore_errors=True)
        write(
            folder, material, kind, rung.model,
            temperature=temperature, thresholds={"abstain_below": threshold}, label_thresholds=each, gates=gates,
            limits={"validation_rows": len(rows)}, exits=leaving.settings if leaving else (),
            **({"int8_scale": vector_scale(logits)} if material.task.answer is VECTOR else {}),
        )  # fmt: skip
    shutil.rmtree(material.folder / "quantised", ignore_errors=True)
    if rung.module is not student:
        save_module(rung.module, material.folder / "quantised", kind.tokenizer)
    write_tensors(
        material.folder / "scores" / "validation.safetensors", to_file({"artefact": logits, "student": reference})
    )
    return {
        "gates": gates,
        "passed": passed,
        "folder": folder.name,
        "temperature": temperature,
        "abstain_below": threshold,
        "parity": parity,
        "ladder": ladder,
        "rung": best.facts["rung"],
        "bytes": size(folder),
        "exporting": exporting(kind, student),
        "notes": _notes(ladder, best),
        **({"exits": leaving.facts} if leaving else {}),
    }


def vector_scale(vectors: Array) -> float:
    """What one step of whole numbers stands for: the largest entry of vectors of length 1 is 127 of them.

    >>> vector_scale(np.array([[0.0, 2.0]]))
    0.007874015718698502
    """
    return float(np.abs(unit(vectors)).max() / np.float32(127)) or 1 / 127


def _climb(
    material: Material, kind: Apprentice, student: nn.Module, place: Path, reference: Array, room: Room | None
) -> tuple[list[Facts], Weighed]:
    """Every rung up to the first that holds, as facts, fp32 before them; and that rung, or the best where none holds.

    Args:
        reference: the fp32 student's logits on validation: what every drop is measured from.
    """
    metric = METRICS[str(material.recipe.evaluation.metric)]
    before = material.measured(material.splits.validation, reference)
    found: list[Weighed] = []
    ladder: list[Facts] = []
    for number, rung in enumerate(rungs(material, kind, student, place / "rungs", room=room)):
        if not ladder:
            _write_exact(place / "fp32", material, kind, rung)
            ladder.append(_facts(material, place / "fp32", "fp32", before))
        one = _weigh(material, kind, rung, place / f"draft-{number}", before)
        if one.leaving is not None:
            full = one.leaving.facts["metric"]["full_depth"]
            same = {"rung": rung.name, "bytes": one.facts["bytes"], "metric": full}
            ladder.append({**same, "drop": 100 * metric.gain(before, full)})
        found.append(one)
        ladder.append(one.facts)
        if _holds(material, one):
            return ladder, one
    return ladder, max(found, key=lambda one: -one.facts["drop"])


def _weigh(material: Material, kind: Apprentice, rung: Rung, draft: Path, before: float) -> Weighed:
    rows = raw_rows(material.splits.validation)
    write(draft, material, kind, rung.model)
    leaving = None
    if isinstance(rung.module, students.Exits):
        anew = partial(write, draft, material, kind, rung.model)
        leaving = decide(material, draft, rows, lambda exits: anew(exits=exits), exact=before)
    logits = leaving.logits if leaving else runtime.load(draft).logits(rows)
    after = material.measured(material.splits.validation, logits)
    facts = _facts(material, draft, f"{rung.name}{', with exits' if leaving else ''}", before, after)
    one = Weighed(rung, draft, logits, leaving, {**facts, **rung.facts})
    say = material.journal.progress.say
    if not _holds(material, one):
        say(f"{facts['rung']}: {facts['drop']:.2f} points lost, {facts['bytes'] / 1e6:.2f} MB")
    return one


def _facts(material: Material, draft: Path, name: str, before: float, after: float | None = None) -> Facts:
    """One line of the ladder: bytes, metric, drop, and rows per second from raw text or pixels to logits."""
    metric, threads = METRICS[str(material.recipe.evaluation.metric)], material.recipe.evaluation.threads or 1
    some = raw_rows(material.splits.validation)[:TIMED_ROWS]
    rows = material.splits.validation
    with declared_threads(threads):
        predictor = runtime.load(draft, threads=threads)
        if after is None:
            after = material.measured(rows, predictor.logits(raw_rows(rows)))
        speed = throughput(predictor.logits, some, batch=len(some), threads=threads, seconds=SECONDS)
    return {
        "rung": name,
        "bytes": size(draft),
        "metric": after,
        "drop": 100 * metric.gain(before, after),
        "rows_per_s": speed["value"],
    }


def _holds(material: Material, one: Weighed) -> bool:
    limits = material.recipe.export
    return bool(one.facts["drop"] <= float(limits.max_drop or 0.0))


def _write_exact(folder: Path, material: Material, kind: Apprentice, rung: Rung) -> None:
    write(folder, material, kind, rung.exact)


def _calibrated(material: Material, teacher: Loaded, logits: Array) -> tuple[float, float, tuple[float, ...] | None]:
    """The temperature, the confidence from which rows are as often right as the teacher is, and labels' thresholds."""
    labels, answer = material.splits.validation.labels, material.task.answer
    temperature, each = calibration_of(answer, logits, labels)
    if answer is not LABEL:
        return temperature, 0.0, each
    target = float((validation_logits(material, teacher).argmax(1) == labels).mean())
    confidence = softmax(logits, temperature=temperature).max(1)
    return temperature, float(threshold_for(confidence, logits.argmax(1) == labels, accuracy=target) or 0.0), None


def _notes(ladder: list[Facts], best: Weighed) -> list[str]:
    """What a reader must know of a climb; nothing where the first rung held."""
    facts: Mapping[str, object] = best.facts
    kept, trained = facts.get("kept"), facts.get("trained")
    if isinstance(kept, list):
        return [f"plain INT8 lost {ladder[1]['drop']:.2f} points, so these parts stay in fp32: {', '.join(kept)}"]
    if isinstance(trained, dict):
        return [
            f"plain INT8 lost {ladder[1]['drop']:.2f} points, so the student was trained with rounding inside it, for "
            f"{trained['epochs']} more epochs than its twin; RUN/quantised is what became of it"
        ]
    return []
