"""A look at stored targets: what a store holds, and whether the teacher of a run still says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import StoreError, TeacherError
from understudy.files import read_json, sealed
from understudy.pipeline.asking import is_endpoint
from understudy.pipeline.journal import Facts, Journal
from understudy.pipeline.label import VERIFIED, identity_of, labelled_rows
from understudy.pipeline.material import Material
from understudy.pipeline.opening import ASKED, asked, store_of
from understudy.pipeline.progress import Progress, Silent
from understudy.pipeline.recipe import load_recipe, with_values
from understudy.pipeline.samples import sampled
from understudy.pipeline.stages import load_splits, settled
from understudy.pipeline.teach import reopened, teach, untaught
from understudy.pipeline.views import read_views
from understudy.targets import Store, shards
from understudy.targets.identity import MANIFEST, read_manifest, refuse_other
from understudy.targets.signals import Layout, numbers
from understudy.teachers import Loaded, verify_tokens
from understudy.teachers.sampled import IDS, LOG_MASS, LOG_P, said_error, tolerance

_BINS = 1 << 16  # of the histogram of head masses: quantiles are right to one part in so many
_QUANTILES = (0.05, 0.5, 0.95)


def stats(path: Path) -> Facts:
    """What a folder of stored targets holds, or the one of a run; nothing in it is changed.

    Returns:
        ``folder``, ``identity``, ``rows``, ``shards``, ``bytes`` (of its shards, on disk), ``bytes_per_row``,
        ``set_aside`` (corrupt shards that were found before) and ``signals``: name -> dtype and shape of a row; of
        samples of tokens ``tokens``, ``bytes_per_token``, ``head_mass`` (``mean``, ``p5``, ``p50``, ``p95`` over
        tokens), ``log_p_bits`` and ``log_p_error`` (nats, at most, and below which value nothing is told apart) too.

    Raises:
        StoreError: no stored targets, those of another version, or a corrupt shard.
    """
    folder = path if (path / MANIFEST).exists() else folder_of(path)
    found = read_manifest(folder)
    if found is None:
        raise StoreError(f"{folder} holds no stored targets: it has no {MANIFEST}")
    identity, _ = found
    keys: set[bytes] = set()
    layout: dict[str, Layout] = {}
    size, masses = 0, _Masses()
    names = shards.names(folder)
    lowest = 0.0
    for name in names:
        shard = shards.read(folder / name)
        layout = layout or shard.layout
        if shard.layout != layout:
            raise StoreError(f"{shard.path} holds other signals than {names[0]} beside it: delete one of them")
        keys.update(shard.keys)
        size += shard.path.stat().st_size
        if LOG_MASS in shard.signals:
            masses.add(numbers(shard.signals[LOG_MASS]))
            lowest = min(lowest, _lowest(numbers(shard.signals[LOG_P])))
    facts: Facts = {
        "folder": folder.name,
        "identity": identity,
        "rows": len(keys),
        "shards": len(names),
        "bytes": size,
        "bytes_per_row": size / max(len(keys), 1),
        "set_aside": len(list(folder.glob("*.corrupt"))),
        "signals": {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in layout.items()},
    }
    if {IDS, LOG_P, LOG_MASS} <= set(layout):
        facts |= {"tokens": masses.count, "bytes_per_token": size / max(masses.count, 1), "head_mass": masses.said()}
        facts |= said_error(layout[LOG_P][0], lowest)
    return facts


def verify(run: Path, rows: int = VERIFIED, *, progress: Progress | None = None) -> Facts:
    """Asks the teacher of a run again about rows that are stored. Nothing is trained, and nothing is stored.

    Args:
        run: its folder.
        rows: to ask about, at most.
        progress: who listens.

    Returns:
        ``folder``, ``rows``, ``max_error``, ``unit`` (``nats``, or ``relative``: |again - stored| / (1 + |stored|)),
        ``tolerance``, ``agreement``, and ``same_weights``: whether the teacher is the very one that was asked then.

    Raises:
        StoreError: no run, nothing stored, a corrupt shard (it is set aside, as whenever a store is opened), or answers
            that differ by more than the tolerance.
        TeacherError: the teacher is not there any more.
    """
    given = asked(run)
    folder = folder_of(run)
    found = read_manifest(folder)
    if found is None:
        raise StoreError(f"{folder} is not there any more: understudy label {run} asks the teacher again")
    decided = run / "recipe.yaml"
    if given.task is None and decided.is_file():  # the teacher's folder may have said it, which may be gone
        given = with_values(given, {"task": load_recipe(decided).task})
    name, splits = load_splits(given)
    task, recipe = settled(given, name, splits)
    material = Material(recipe, task, splits, run, store_of(given, run), Journal(run, progress or Silent()))
    loaded = _teacher(material)
    if recipe.data.views:
        material = replace(material, views=read_views(run, labels=splits.train.labels))
    stored, wanted = found[0], identity_of(material, loaded)
    refuse_other(folder, {**stored, "teacher": wanted["teacher"]}, wanted)
    store, examples = Store(folder, identity=stored), labelled_rows(material)
    if store.notes:
        raise StoreError(f"{folder}: {store.notes[0]}: understudy label {run} does that")
    same = {"folder": folder.name, "same_weights": stored["teacher"] == wanted["teacher"]}
    if sampled(material.recipe):
        encoder: Any = loaded.encoder
        said = verify_tokens(store, loaded.model, encoder, examples, rows)
        return {**same, **said, "unit": "nats", "tolerance": tolerance(store.identity)}
    said = store.verify(loaded.scorer(examples.inputs), rows, keys=examples.keys)
    return {**same, **said, "unit": "relative", "tolerance": 1e-3}


def folder_of(run: Path) -> Path:
    """Where the stored targets of a run lie.

    Raises:
        StoreError: no run, or one that stored nothing.
    """
    if not run.is_dir():
        raise StoreError(f"{run} is no folder: a run, or a folder of STORE/targets, is wanted")
    if not (run / ASKED).is_file():
        raise StoreError(f"{run} is neither a run nor a folder of STORE/targets: it has no recipe and no {MANIFEST}")
    recipe, record = asked(run), run / "stages" / "label.json"
    if not record.is_file():
        raise StoreError(f"{run} has no stored targets: its teacher is asked live, or nothing was labelled so far")
    found = read_json(record)
    if not isinstance(found, dict) or "folder" not in found.get("facts", {}):
        raise StoreError(f"{record} is not what labelling wrote: understudy label {run} writes it again")
    return store_of(recipe, run) / "targets" / str(found["facts"]["folder"])


def _teacher(material: Material) -> Loaded:
    """The teacher of a run as it was taught; never trained here."""
    record = material.folder / "stages" / "teach.json"
    facts = read_json(record)["facts"] if record.is_file() else {}
    for place in _places(facts):
        if not sealed(material.store / place):
            raise TeacherError(
                f"the teacher in {material.store / place} is not there any more, or was changed: understudy teach "
                f"{material.folder} trains it again"
            )
    if facts.get("members") is not None:
        return teach(material)[0]
    if facts.get("folder") is not None:
        return reopened(material, material.store / facts["folder"], ())
    if is_endpoint(material.recipe.teacher.path):
        return teach(material)[0]
    loaded, fresh = untaught(material)
    if fresh:
        raise TeacherError(f"the teacher of {material.folder} was never trained: understudy teach trains it")
    return loaded


def _places(facts: Any) -> Iterator[str]:
    """Every folder of a trained teacher that a stage's facts name."""
    if isinstance(facts, dict):
        if isinstance(facts.get("folder"), str):
            yield facts["folder"]
        for value in facts.values():
            yield from _places(value)


def _lowest(log_p: np.ndarray) -> float:
    """The least log-probability that is a number; of 8 bits the format says which it is."""
    real = log_p[log_p > -5e4] if log_p.dtype.kind == "f" else log_p[:0]
    return float(real.min(initial=0.0))


class _Masses:
    """Mean and quantiles of head masses, whatever their number, from a histogram."""

    def __init__(self) -> None:
        self.count, self._sum = 0, 0.0
        self._bins = np.zeros(_BINS + 1, np.int64)

    def add(self, log_mass: np.ndarray) -> None:
        """Log tail masses [M]."""
        head = np.clip(-np.expm1(log_mass.astype(np.float64)), 0.0, 1.0)
        self.count += len(head)
        self._sum += float(head.sum())
        self._bins += np.bincount(np.rint(head * _BINS).astype(np.int64), minlength=_BINS + 1)

    def said(self) -> dict[str, float] | None:
        """``mean``, ``p5``, ``p50``, ``p95``; None without a token."""
        if not self.count:
            return None
        below = np.cumsum(self._bins)
        at = [float(np.searchsorted(below, share * self.count)) / _BINS for share in _QUANTILES]
        return {"mean": self._sum / self.count, **dict(zip(("p5", "p50", "p95"), at, strict=True))}
