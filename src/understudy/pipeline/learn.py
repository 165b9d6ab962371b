"""Student and twin: the same rows, the same budget, the same start; one hears the teacher and one does not."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from understudy import objectives as match
from understudy import students
from understudy.data.feed import Feed
from understudy.errors import Interrupted, StoreError, UnderstudyError, UsageError
from understudy.files import new_folder, write_json
from understudy.objectives import Term
from understudy.pipeline.journal import Facts
from understudy.pipeline.label import open_store
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.recipe import Recipe, with_values
from understudy.pipeline.watching import watching
from understudy.teachers import Live, Loaded, Stored
from understudy.training import Settings, Training, probe, train

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
ALPHAS = (0.1, 0.3, 0.5, 0.9)
SHORT = 0.34  # share of the epochs that a short run gets


def objective(recipe: Recipe) -> list[Term]:
    """alpha * hard + (1 - alpha) * temperature^2 * KL, as the recipe says."""
    return match.shorthand(float(recipe.objective.alpha), temperature=float(recipe.objective.temperature or 1.0))


def settings_of(recipe: Recipe, *, seed: int) -> Settings:
    """The training dials of student and twin alike."""
    dials = recipe.train
    return Settings(
        epochs=dials.epochs or 1,
        batch_size=(dials.batch_size or 32) * dials.accumulation,
        accumulation=dials.accumulation,
        learning_rate=dials.learning_rate or 1e-3,
        weight_decay=dials.weight_decay,
        warmup=dials.warmup,
        schedule=dials.schedule,
        clip=dials.clip or None,
        precision=dials.precision if dials.precision != "auto" else "fp32",
        seed=seed,
        patience=dials.patience,
        max_steps=dials.max_steps,
        bucketed=dials.bucket,
        checkpoint_seconds=dials.checkpoint_seconds,
    )


class Classroom:
    """Rows, teacher and kind of student, ready for any number of trainings."""

    def __init__(self, material: Material, teacher: Loaded, kind: Apprentice) -> None:
        self.material, self.teacher, self.kind = material, teacher, kind
        weights = _class_weights(material) if material.recipe.objective.class_weights == "balanced" else None
        stored = material.recipe.teacher.targets == "stored"
        encoders = {"student": kind.encoder} if stored else {"student": kind.encoder, "teacher": teacher.encoder}
        self.feed = Feed(material.learnable, encoders, class_weights=weights)
        self.twin_feed = self.feed
        if material.splits.unlabelled is not None:
            self.twin_feed = Feed(material.splits.train, {"student": kind.encoder}, class_weights=weights)
        self.source = (
            Stored(open_store(material, teacher)) if stored else Live(teacher.model, order=teacher.label_order)
        )
        self.validate = material.validator(kind.encoder)

    def precision(self) -> tuple[str, str]:
        """``fp32`` or ``bf16`` by a probe on this machine, and the sentence about it."""
        torch.manual_seed(self.material.recipe.seed)
        size = self.material.recipe.train.batch_size or 32
        return probe(students.Student(self.kind.build()), self.feed, batch_size=size)

    def teach(self, recipe: Recipe, *, role: str, seed: int, folder: Path | None = None) -> Training:
        """One training: ``role`` student hears teacher and labels, role twin hears the labels only.

        The twin makes as many optimiser steps of as many rows; without the unlabelled rows it passes over its rows
        more often.
        """
        torch.manual_seed(seed)
        student = students.Student(self.kind.build())
        settings, feed, terms = settings_of(recipe, seed=seed), self.feed, objective(recipe)
        source: Stored | Live | None = self.source
        if role == "twin":
            steps = settings.epochs * -(-len(self.feed) // settings.batch_size)
            feed, terms, source = self.twin_feed, [match.hard_labels()], None
            each = -(-len(feed) // settings.batch_size)
            settings = replace(settings, epochs=-(-steps // each), max_steps=min(steps, settings.max_steps or steps))
        journal, tracker = self.material.journal, recipe.train.track if folder is not None else None
        logs = self.material.folder / "track" / f"{role}-{seed}"
        with watching(journal.progress, role, tracker=tracker, folder=logs) as watch:
            return train(
                student, feed, objective=terms, teacher=source, settings=settings, validate=self.validate,
                folder=folder, watch=watch, should_stop=journal.should_stop,
            )  # fmt: skip


def tune(room: Classroom) -> tuple[Recipe, Facts]:
    """Decides precision, temperature and alpha where the recipe leaves them open: by short runs, on validation."""
    recipe, notes, tried = room.material.recipe, [], []
    if recipe.train.precision == "auto":
        chosen, sentence = room.precision()
        recipe = with_values(recipe, {"train.precision": chosen})
        notes.append(sentence)
    for dial, choices in (("temperature", TEMPERATURES), ("alpha", ALPHAS)):
        if getattr(recipe.objective, dial) != "auto":
            continue
        scores = {}
        for value in choices:
            trial = with_values(recipe, {f"objective.{dial}": value, "objective.alpha": _alpha(recipe, dial, value)})
            trial = with_values(trial, {"train.epochs": max(1, round(SHORT * (recipe.train.epochs or 1)))})
            scores[value] = room.teach(trial, role="student", seed=recipe.seed).best["student"]
            tried.append({"dial": dial, "value": value, "validation": scores[value]})
        best = max(scores, key=lambda value: (scores[value], -value))
        recipe = with_values(recipe, {f"objective.{dial}": best})
        shown = ", ".join(f"{value:g}: {score:.4f}" for value, score in scores.items())
        notes.append(f"{dial} {best:g} was chosen on validation, by short runs ({shown})")
    return recipe, {"notes": notes, "tried": tried}


def _alpha(recipe: Recipe, dial: str, value: float) -> float:
    if dial == "alpha":
        return value
    return 0.1 if recipe.objective.alpha == "auto" else float(recipe.objective.alpha)


def learn(room: Classroom, recipe: Recipe, *, role: str, seed: int, folder: Path) -> Facts:
    """Trains one model and saves it into ``folder``; returns its history, best score, seconds and notes."""
    checkpoints = room.material.folder / "checkpoints" / f"{role}-{seed}"
    try:
        done = room.teach(recipe, role=role, seed=seed, folder=checkpoints)
    except Interrupted as error:
        raise Interrupted(f"{role}, seed {seed}: {error}") from None
    save_module(_inner(done.student), folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return {
        "history": [dict(epoch) for epoch in done.history],
        "best": done.best["student"],
        "seconds": done.seconds,
        "steps": done.steps,
        "notes": list(done.notes),
    }


def save_module(module: nn.Module, folder: Path) -> None:
    """Saves a student; of a module that is no family of ours, its weights (its code stays with its author)."""
    try:
        students.save(module, folder)
    except UsageError:
        from safetensors.torch import save_model

        with new_folder(folder) as draft:
            save_model(module, str(draft / "model.safetensors"))
            write_json(draft / "config.json", {"module": type(module).__name__})


def load_module(folder: Path, kind: Apprentice) -> nn.Module:
    """What ``save_module`` saved.

    Raises:
        StoreError: files that are damaged or not there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    try:
        config = (folder / "config.json").read_text(encoding="utf-8")
        if '"module"' not in config or '"understudy_family"' in config or '"architectures"' in config:
            return students.load(folder)
        module = kind.build()
        load_model(module, str(folder / "model.safetensors"))
        return module.eval()
    except (UnderstudyError, OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{reason}; delete {folder}, and the same command trains that model again") from error


def _inner(student: nn.Module) -> nn.Module:
    inner: Any = getattr(student, "module", student)
    return inner


def _class_weights(material: Material) -> np.ndarray[Any, Any]:
    """Rows / (classes * rows of the class): every class weighs the same in the hard terms."""
    counts = material.splits.train.counts(len(material.splits.label_names))
    return (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)


def best_seed(facts: Mapping[int, Facts]) -> int:
    """The seed whose model was best on validation; the first of equals."""
    return max(facts, key=lambda seed: (facts[seed]["best"], -seed))
