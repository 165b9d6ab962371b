"""Student and twin: the same rows, the same budget, the same start; one hears the teacher and one does not."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from understudy import students
from understudy.answers import TAGS
from understudy.data import Examples
from understudy.data.feed import Feed
from understudy.errors import Interrupted, StoreError, UnderstudyError, UsageError
from understudy.files import new_folder, read_json, write_json
from understudy.objectives import Term
from understudy.pipeline.adapting import as_learner
from understudy.pipeline.alignment import refuse_misaligned
from understudy.pipeline.journal import Facts
from understudy.pipeline.label import from_store, label
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.objective import build, without_teacher
from understudy.pipeline.recipe import Recipe, with_values
from understudy.pipeline.steps import of_step, started_from
from understudy.pipeline.vectors import listened
from understudy.pipeline.watching import watching
from understudy.pipeline.written import rollouts, telling
from understudy.teachers import Live, Loaded
from understudy.training import Settings, Training, balanced, probe, pulls, train

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
ALPHAS = (0.1, 0.3, 0.5, 0.9)
BALANCE_BATCHES = 4  # on which gradients are measured
SHORT = 0.34  # share of the epochs that a short run gets


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
    """Everything that student, twin and short runs share: rows encoded once, a source of targets, a validator.

    Args:
        material: what the run works on, with the recipe of this training.
        teacher: whose kind peers of ``family: teacher`` are, and the source of targets unless another is named.
        kind: of the student.
        peers: kinds of the students beside it, in the order of ``peer.1``, ``peer.2``.
        source: who teaches in the teacher's place (the model of an earlier step).
    """

    def __init__(
        self,
        material: Material,
        teacher: Loaded,
        kind: Apprentice,
        peers: Sequence[Apprentice] = (),
        source: Loaded | None = None,
    ) -> None:
        self.material, self.teacher, self.kind = material, source or teacher, kind
        self.peers = {f"peer.{i}": peer for i, peer in enumerate(peers, 1)}
        weights = _class_weights(material) if material.recipe.objective.class_weights == "balanced" else None
        stored = material.recipe.teacher.targets == "stored"
        if stored and source is not None:
            label(material, source)
        encoders = {"student": kind.encoder}
        encoders |= {n: peer.encoder for n, peer in self.peers.items() if _reads_otherwise(peer, kind)}
        encoders |= {} if stored else {"teacher": self.teacher.encoder}
        answered = _answered(self.teacher, material.shown) if stored and material.task.answer is TAGS else None
        self.feed = Feed(material.shown, encoders, class_weights=weights, answered=answered)
        refuse_misaligned(material.recipe, self.feed)
        self.twin_feed = self.feed
        if len(material.shown) > len(material.splits.train):
            self.twin_feed = Feed(material.splits.train, {"student": kind.encoder}, class_weights=weights)
        live = None if stored else Live(self.teacher.model, order=self.teacher.label_order)
        self.source = listened(material, self.teacher, live or from_store(material, self.teacher))
        kinds = {"student": kind, **self.peers}
        self.validate = {name: material.validator(one.encoder) for name, one in kinds.items()}

    def precision(self) -> tuple[str, str]:
        """``fp32`` or ``bf16`` by a probe on this machine, and the sentence about it."""
        torch.manual_seed(self.material.recipe.seed)
        size = self.material.recipe.train.batch_size or 32
        learner = students.Student(as_learner(self.kind.build(), self.material.recipe))
        return probe(learner, self.feed, batch_size=size)

    def teach(
        self, recipe: Recipe, *, role: str, seed: int, folder: Path | None = None, start: Path | None = None
    ) -> Taught:
        """One training: ``role`` student hears teacher and labels, role twin hears the labels only.

        The twin makes as many optimiser steps of as many rows, those of the student's earlier steps included; without
        the unlabelled rows it passes over its rows more often.

        Args:
            recipe: dials, decided.
            role: student or twin.
            seed: of everything random.
            folder: of checkpoints.
            start: a saved model whose weights the student starts from.
        """
        torch.manual_seed(seed)
        student = self.kind.alone() if role == "twin" and self.kind.alone else self.kind.build()
        if start is not None and role == "student":
            student.load_state_dict(load_module(start, self.kind).state_dict())
        cohort = {"student": students.Student(as_learner(student, recipe))}
        if role == "student":
            cohort |= {name: students.Student(peer.build()) for name, peer in self.peers.items()}
        inner = {name: one.module for name, one in cohort.items()}
        settings, feed, notes = settings_of(recipe, seed=seed), self.feed, []
        source: Any = self.source
        prepare = rollouts(recipe, self.kind.encoder, seed=seed) if role == "student" else None
        if role == "twin":
            terms, source, feed = without_teacher(inner, self.material.task.hard), None, self.twin_feed
            settings = twins_settings(recipe, settings, rows=len(self.feed), own=len(feed))
        else:
            terms = build(recipe, inner, self.teacher.model)
            source = self.source if any(listens_outside(term, cohort) for term in terms) else None
            if recipe.objective.balance == "gradients":
                terms, sentence = balanced(terms, self._norms(recipe, cohort, terms, source, seed, folder))
                notes.append(sentence)
                self.material.journal.progress.say(sentence)
        journal, tracker = self.material.journal, recipe.train.track if folder is not None else None
        logs = self.material.folder / "track" / f"{role}-{seed}"
        # A student that is taught no logits scores by chance, and its best epoch would be an accident: keep the last.
        validate = {name: self.validate[name] for name in cohort if any(_speaks(term, name) for term in terms)}
        with watching(journal.progress, role, tracker=tracker, folder=logs) as watch:
            done = train(
                cohort, feed, objective=terms, teacher=source, settings=settings, validate=validate, prepare=prepare,
                folder=folder, watch=watch, should_stop=journal.should_stop,
            )  # fmt: skip
        if prepare is not None:
            notes.append(telling(prepare, done))
            journal.progress.say(notes[-1])
            journal.log("rollouts", role=role, seed=seed, seconds=done.preparing, text=notes[-1])
        ships = "student"
        if recipe.ships == "best" and done.best:
            best = self.material.best(done.best.values())
            ships = next(name for name, score in done.best.items() if score == best)
        return Taught(done, ships, tuple(terms), tuple(notes))

    def _norms(
        self,
        recipe: Recipe,
        cohort: Mapping[str, nn.Module],
        terms: Sequence[Term],
        source: Any,
        seed: int,
        folder: Path | None,
    ) -> dict[str, float]:
        """Gradient norm of every term, kept beside the checkpoints: a resumed training must not measure anew."""
        kept = None if folder is None else folder / "norms.json"
        if kept is not None and kept.is_file():
            return {name: float(norm) for name, norm in read_json(kept).items()}
        size = recipe.train.batch_size or 32
        said = pulls(cohort, self.feed, terms, teacher=source, batches=BALANCE_BATCHES, batch_size=size, seed=seed)
        norms = {row["name"]: row["gradient_norm"] for row in said}
        if kept is not None:
            write_json(kept, norms)
        return norms


@dataclass(frozen=True)
class Taught:
    """A training, which of its students ships, and what it was taught."""

    training: Training
    ships: str
    terms: tuple[Term, ...]
    notes: tuple[str, ...]


def twins_settings(recipe: Recipe, settings: Settings, *, rows: int, own: int) -> Settings:
    """The student's dials with as many optimiser steps as all of the student's own trainings together.

    Args:
        recipe: of the run, with its steps.
        settings: of the student's last training.
        rows: that the student learns from.
        own: that the twin learns from.
    """

    def steps_of(epochs: int, batch_size: int, most: int | None) -> int:
        steps = epochs * -(-rows // batch_size)
        return min(steps, most or steps)

    steps = steps_of(settings.epochs, settings.batch_size, settings.max_steps)
    for step in started_from(recipe):
        earlier = settings_of(of_step(recipe, step), seed=settings.seed)
        steps += steps_of(earlier.epochs, earlier.batch_size, earlier.max_steps)
    return replace(settings, epochs=-(-steps // -(-own // settings.batch_size)), max_steps=steps)


def _speaks(term: Term, name: str) -> bool:
    """Whether a term teaches the answers of this student."""
    owner = "student" if term.of.startswith("exit.") else term.of
    return owner == name and not {"logits", "head"}.isdisjoint(term.needs.learner)


def listens_outside(term: Term, cohort: Mapping[str, nn.Module]) -> bool:
    """Whether a term listens to a teacher from outside the cohort."""
    return term.against not in ("labels", "self", *cohort) and not term.against.startswith("peer.")


def _reads_otherwise(peer: Apprentice, kind: Apprentice) -> bool:
    return peer.encoder.fingerprint != kind.encoder.fingerprint


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
            scores[value] = room.teach(trial, role="student", seed=recipe.seed).training.best["student"]
            tried.append({"dial": dial, "value": value, "validation": scores[value]})
        top = room.material.best(scores.values())
        best = min(value for value, score in scores.items() if score == top)
        recipe = with_values(recipe, {f"objective.{dial}": best})
        shown = ", ".join(f"{value:g}: {score:.4f}" for value, score in scores.items())
        notes.append(f"{dial} {best:g} was chosen on validation, by short runs ({shown})")
    return recipe, {"notes": notes, "tried": tried}


def _alpha(recipe: Recipe, dial: str, value: float) -> float:
    if dial == "alpha":
        return value
    return 0.1 if recipe.objective.alpha == "auto" else float(recipe.objective.alpha)


def learn(
    room: Classroom, recipe: Recipe, *, role: str, seed: int, folder: Path, start: Path | None = None, name: str = ""
) -> Facts:
    """Trains one model and saves it into ``folder``; returns its history, best score, seconds and notes.

    Args:
        room: rows, teacher and validator.
        recipe: dials, decided.
        role: student or twin.
        seed: of everything random.
        folder: where the model goes.
        start: a saved model whose weights it starts from.
        name: of the training, where it is not the role's own.
    """
    checkpoints = room.material.folder / "checkpoints" / f"{name or role}-{seed}"
    try:
        taught = room.teach(recipe, role=role, seed=seed, folder=checkpoints, start=start)
    except Interrupted as error:
        raise Interrupted(f"{name or role}, seed {seed}: {error}") from None
    done = taught.training
    save_module(students.merged(_inner(done.students[taught.ships])), folder, room.kind.tokenizer)
    shutil.rmtree(checkpoints, ignore_errors=True)
    facts = {
        "history": [dict(epoch) for epoch in done.history],
        "best": done.best.get(taught.ships),
        "seconds": done.seconds,
        "rollout_seconds": done.preparing,
        "steps": done.steps,
        "notes": [*taught.notes, *done.notes],
        "objective": [_described(term) for term in taught.terms],
    }
    return facts if len(done.students) == 1 else {**facts, "cohort": dict(done.best), "ships": taught.ships}


def _described(term: Term) -> Facts:
    weight = term.weight if isinstance(term.weight, int | float) else str(term.weight)
    return {
        "name": term.name, "per": term.per, "of": term.of, "against": term.against, "weight": weight,
        "formula": term.formula, "coupled": term.coupled,
    }  # fmt: skip


def save_module(module: nn.Module, folder: Path, tokenizer: Any = None) -> None:
    """Saves a student; of a module that is no family of ours, its weights (its code stays with its author).

    ``tokenizer``: what reads for it, where any program is to open the folder.
    """
    try:
        students.save(module, folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
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
            found = students.load(folder)
            wrap = {"masked": students.MaskedLM, "causal": students.CausalLM}.get(kind.encoder.kind)
            return wrap(found).eval() if wrap else found
        module = kind.build()
        load_model(module, str(folder / "model.safetensors"))
        return module.eval()
    except (UnderstudyError, OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{reason}; delete {folder}, and the same command trains that model again") from error


def _inner(student: nn.Module) -> nn.Module:
    inner: Any = getattr(student, "module", student)
    return inner


def _answered(teacher: Loaded, rows: Examples) -> np.ndarray[Any, Any]:
    """[N]: words of each row of which stored targets say anything; the teacher may have room for fewer than others."""
    encoder: Any = teacher.encoder
    found: np.ndarray[Any, Any] = encoder.answered(encoder.encode(rows.inputs))
    return found


def _class_weights(material: Material) -> np.ndarray[Any, Any]:
    """Rows / (classes * rows of the class): every class weighs the same in the hard terms."""
    counts = material.splits.train.counts(len(material.splits.label_names))
    return (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)


def best_seed(material: Material, facts: Mapping[int, Facts]) -> int:
    """The seed whose model was best on validation; the first of equals."""
    top = material.best(one["best"] for one in facts.values())
    return min(seed for seed, one in facts.items() if one["best"] == top)
