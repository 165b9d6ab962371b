"""The teacher's word on every row, asked once and stored for every run beside this one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from understudy.answers import agree
from understudy.data import Examples
from understudy.errors import Interrupted
from understudy.files import content_hash
from understudy.pipeline.journal import Facts
from understudy.pipeline.material import Material
from understudy.pipeline.samples import identity as identity_of_samples
from understudy.pipeline.samples import sampled, scorer_of
from understudy.targets import Store, fingerprint
from understudy.targets.signals import numbers
from understudy.teachers import Live, Loaded, Mixed, Stored, StoredTokens, verify_tokens
from understudy.teachers.label import Logits

VERIFIED = 32  # rows that are scored again after every labelling
MASS = "mass"  # the signal beside an endpoint's logits (`Loaded.beside`)


def identity_of(material: Material, teacher: Loaded) -> dict[str, str]:
    """Whose targets: this teacher's, reading these labels with this encoding."""
    return {
        "teacher": teacher.fingerprint,
        "encoding": teacher.encoder.fingerprint,
        "task": material.task.name,
        "labels": content_hash(*material.splits.meaning),
        "order": content_hash(repr(teacher.label_order)),
        **identity_of_samples(material, teacher),
    }


def open_store(material: Material, teacher: Loaded) -> Store:
    """The targets of this teacher, whichever run wrote them."""
    identity = identity_of(material, teacher)
    return Store(material.store / "targets" / fingerprint(identity), identity=identity)


def from_store(material: Material, teacher: Loaded) -> Stored | StoredTokens | Mixed:
    """Stored targets in the teacher's place; it is asked itself where the student writes some of the batches."""
    store = open_store(material, teacher)
    if not sampled(material.recipe):
        return Stored(store)
    found = StoredTokens(store)
    if not material.recipe.objective.on_policy_share:
        return found
    encoder: Any = teacher.encoder
    return Mixed(found, Live(teacher.model, order=teacher.label_order), encoder)


def label(material: Material, teacher: Loaded) -> Facts:
    """Scores what the store does not know yet, then scores a few stored rows again.

    Returns:
        ``rows``, ``teacher_calls``, ``seconds``, ``folder`` (relative to the store), ``stats``, ``verified``,
        ``notes`` and ``agreement`` (share of labelled training rows on which teacher and label agree; None of scores).
    """
    store, progress = open_store(material, teacher), material.journal.progress
    rows = labelled_rows(material)
    tokens = sampled(material.recipe)
    score: Any = scorer_of(material, teacher, rows) if tokens else teacher.scorer(rows.inputs)
    told = partial(progress.advance, model="teacher")
    began = time.perf_counter()
    calls = store.write(
        rows.keys,
        score,
        shard_rows=256 if tokens else 2048,
        dtype="given" if tokens else "float32",
        on_progress=None if teacher.account else told,  # an endpoint says more, after each answer
        on_stop=material.journal.should_stop,
    )
    if store.missing(rows.keys):
        raise Interrupted("stopped while labelling: whole shards are stored; the same command goes on from there")
    seconds = time.perf_counter() - began
    if tokens:
        encoder: Any = teacher.encoder
        verified = verify_tokens(store, teacher.model, encoder, rows, VERIFIED)
    else:
        verified = store.verify(score, VERIFIED, keys=rows.keys)
    return {
        "rows": len(rows),
        "teacher_calls": calls,
        "seconds": seconds,
        "folder": Path(store.folder).name,
        "stats": store.stats(),
        "verified": verified,
        "notes": list(store.notes),
        "agreement": _agreement(store, material),
        **({"mass": _mass(store, rows.keys)} if MASS in store.stats()["signals"] else {}),
    }


def validation_logits(material: Material, teacher: Loaded) -> Logits:
    """What the teacher says of the validation rows, float32 [N, K] or of words: stored, or asked where it is live."""
    rows = material.splits.validation
    if material.recipe.teacher.targets == "stored" and not sampled(material.recipe):
        return open_store(material, teacher).read(rows.keys)["logits"]
    return teacher.scores(rows.inputs)


def labelled_rows(material: Material) -> Examples:
    """The rows that the teacher is asked about."""
    if sampled(material.recipe):  # of validation sums are wanted, which are asked for
        return material.shown
    return Examples.join([material.shown, material.splits.validation])


def _mass(store: Store, keys: Sequence[str]) -> Facts:
    """Of what an endpoint says, how much lies on labels: mean, least, and the share of rows with less than half."""
    seen = numbers(store.read(keys, signals=[MASS])[MASS])
    return {"mean": float(seen.mean()), "least": float(seen.min()), "below_half": float((seen < 0.5).mean())}


def _agreement(store: Store, material: Material) -> float | None:
    labelled, answer = material.splits.train, material.task.answer
    if not answer.decides:
        return None
    return float(agree(answer.predicted(store.read(labelled.keys)["logits"]), labelled.labels).mean())
