"""Stored targets: what a teacher says about each content, asked once.

    STORE/targets/<fingerprint>/manifest.json                     whose targets (identity), which labels a source knows
                                00000-<hash>.safetensors          keys [n, 16] and one array [n, ...] per signal; of
                                                                  words [m, K] and offsets [n + 1], without padding
                                lock                              while somebody writes

Rows are joined by content key, so shuffling, packing, resuming or appending cannot misalign them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from understudy.errors import StoreError, TeacherError, UsageError
from understudy.targets import check, shards
from understudy.targets.identity import (
    Support,
    fingerprint,
    masks,
    read_manifest,
    refuse_other,
    refuse_other_support,
    write_manifest,
)
from understudy.targets.lock import locked
from understudy.targets.rows import Rows
from understudy.targets.shards import pack
from understudy.targets.signals import Signals, taken

Score = Callable[[list[int]], Signals]
IN_MEMORY = 1 << 30  # bytes of signals up to which they are held as one array each; beyond, files are mapped


class Store:
    """The targets of one teacher in one folder.

    Args:
        folder: the folder, usually ``STORE/targets/<fingerprint(identity)>``. Made at the first write.
        identity: whose targets: ``teacher`` (weight hash), ``tokenizer``, ``encoding``, ``task``, ``labels``, ``view``.
        support: source -> mask [K] of the labels that it knows; a source that knows them all is left out. None takes
            what is stored.
        in_memory: bytes of signals up to which they are held in memory.

    Attributes:
        notes: what was found and mended (corrupt shards), one sentence each.

    Raises:
        StoreError: the folder holds targets of another identity (what differs is named), or no manifest.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        identity: Mapping[str, str],
        support: Mapping[str, Sequence[bool] | NDArray[np.bool_]] | None = None,
        in_memory: int = IN_MEMORY,
    ) -> None:
        self.folder = Path(folder)
        self.identity = dict(identity)
        self.fingerprint = fingerprint(identity)
        self.notes: list[str] = []
        self._rows = Rows(in_memory=in_memory)
        self._wanted_support = None if support is None else masks(support)
        self._claim(write=False)
        self._scan()

    @property
    def support(self) -> Support:
        """Source -> bool mask [K] of the labels it knows; absent where it knows them all."""
        return self._support

    def __len__(self) -> int:
        return len(self._rows)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Distinct keys that are not stored, in the order of their first appearance."""
        return [key for key in dict.fromkeys(keys) if pack(key) not in self._rows]

    def write(
        self,
        keys: Sequence[str],
        score: Score,
        *,
        shard_rows: int = 2048,
        dtype: Literal["float16", "float32", "given"] = "float32",
        on_progress: Callable[[int, int], None] | None = None,
        on_stop: Callable[[], bool] | None = None,
    ) -> int:
        """Asks the teacher about the contents that are missing, each once, and stores the answers shard by shard.

        Args:
            keys: content keys of the rows; those that are stored already cost nothing.
            score: positions in ``keys`` -> {signal: array [n, ...], or a `Ragged` of n rows}, in that order. It is
                called once per shard.
            shard_rows: rows per shard, and what a kill can cost.
            dtype: how floating signals are stored, ``given``: each as it comes; integers stay as they are.
            on_progress: called with (rows scored, rows to score), first with 0.
            on_stop: asked before each shard; True ends the writing there, with whole shards.

        Returns:
            The number of rows scored and stored.

        Raises:
            StoreError: another process writes here, or the signals are not those of the stored shards.
            TeacherError: an answer that is not finite (the row is named; the finite ones are kept), or not one per row.
            DiskFull: no space left; whole shards stay.
        """
        if shard_rows < 1 or dtype not in ("float16", "float32", "given"):
            raise UsageError(
                f'shard_rows is at least 1 and dtype "float16", "float32" or "given"; got {shard_rows}, "{dtype}"'
            )
        if not self.missing(keys):
            return 0
        with locked(self.folder):
            shards.sweep(self.folder)
            self._claim(write=True)
            self._scan()
            return self._fill(keys, score, shard_rows, dtype, on_progress, on_stop)

    def _fill(
        self,
        keys: Sequence[str],
        score: Score,
        shard_rows: int,
        dtype: str,
        on_progress: Callable[[int, int], None] | None,
        on_stop: Callable[[], bool] | None,
    ) -> int:
        first: dict[str, int] = {}
        for row, key in enumerate(keys):
            first.setdefault(key, row)
        rows = [first[key] for key in self.missing(keys)]
        done = 0
        for start in range(0, len(rows), shard_rows):
            if on_progress:
                on_progress(done, len(rows))
            if on_stop and on_stop():
                return done
            block = rows[start : start + shard_rows]
            signals = check.answers(score(block), len(block), dtype=dtype)
            bad = check.first_bad(signals)
            good = [i for i in range(len(block)) if bad is None or check.finite(signals, i)]
            kept = {name: taken(signal, good) for name, signal in signals.items()}
            self._append([pack(keys[block[i]]) for i in good], kept)
            if bad is not None:
                raise TeacherError(
                    f'the teacher\'s "{bad.signal}" of row {block[bad.row]:,} (content {keys[block[bad.row]]}) is '
                    f"{bad.value}{' as ' + dtype if bad.overflow else ''}: {bad.advice} "
                    f"({len(block) - len(good):,} such rows in this shard; the others are kept)"
                )
            done += len(block)
        if on_progress:
            on_progress(done, len(rows))
        return done

    def read(self, keys: Sequence[str], *, signals: Iterable[str] | None = None) -> Signals:
        """Signal -> array [N, ...], one row per key, in the order of the keys; ``signals`` are those wanted, None: all.

        Of words it is a `Ragged` of N rows.

        Raises:
            StoreError: some keys are not stored; they are counted.
        """
        try:  # every step of a training passes here, so the keys are looked at only where they cannot be found
            return self._rows.gather(list(map(bytes.fromhex, keys)), signals)
        except (KeyError, TypeError, ValueError):
            raise StoreError(
                f"{len(self.missing(keys)):,} of {len(set(keys)):,} contents have no targets in {self.folder}: "
                'run "understudy label RUN", or Store.write with the teacher'
            ) from None

    def verify(
        self, score: Score, n: int = 64, *, keys: Sequence[str], seed: int = 0, tolerance: float = 1e-3
    ) -> dict[str, float]:
        """Asks the teacher again about random stored rows.

        Args:
            score: as in `write`: positions in ``keys`` -> {signal: array}.
            n: rows to ask about, at most.
            keys: content keys of the rows that the caller can give to the teacher; those not stored are left out.
            seed: of the choice.
            tolerance: largest error, |again - stored| / (1 + |stored|), that is still the same teacher.

        Returns:
            ``rows``, ``max_error`` and ``agreement``, the share of rows with the same largest entry in every
            two-dimensional floating signal.

        Raises:
            StoreError: the answers differ by more.
        """
        first: dict[str, int] = {}
        for row, key in enumerate(keys):
            if pack(key) in self._rows:
                first.setdefault(key, row)
        if not first:
            raise StoreError(f"none of the {len(keys):,} rows has targets in {self.folder}: there is nothing to verify")
        known = np.array(sorted(first.values()))
        chosen = np.random.default_rng(seed).choice(known, min(n, len(known)), replace=False).tolist()
        again = check.answers(score(chosen), len(chosen), dtype="float32")
        stored = self.read([keys[row] for row in chosen])
        error, agreement = check.compare(stored, again)
        if not error <= tolerance:
            raise StoreError(
                f"these are another teacher's targets: {len(chosen):,} rows of {self.folder} asked again differ by up "
                f"to {error:.3g} (allowed {tolerance:.3g}), and {agreement:.1%} agree on the largest entry: "
                "name another --store, or delete that folder to label again"
            )
        return {"rows": len(chosen), "max_error": error, "agreement": agreement}

    def stats(self) -> dict[str, Any]:
        """``rows``, ``bytes`` on disk, ``bytes_per_row``, ``shards``, and ``signals``: name -> dtype and row shape."""
        size = sum(shard.path.stat().st_size for shard in self._rows.shards)
        layout = self._rows.shards[0].layout if self._rows.shards else {}
        return {
            "rows": len(self),
            "bytes": size,
            "bytes_per_row": size / len(self) if len(self) else 0.0,
            "shards": len(self._rows.shards),
            "signals": {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in layout.items()},
        }

    def _claim(self, *, write: bool) -> None:
        """Checks whose folder this is; with ``write``, an empty one becomes ours."""
        found = read_manifest(self.folder)
        wanted = self._wanted_support
        if found is None:
            if shards.names(self.folder):
                raise StoreError(f"{self.folder} holds shards without a manifest, nobody knows whose: delete it")
            self._support: Support = wanted or {}
            if write:
                write_manifest(self.folder, self.identity, self._support)
            return
        identity, self._support = found
        refuse_other(self.folder, identity, self.identity)
        if wanted is not None:
            refuse_other_support(self.folder, self._support, wanted)

    def _scan(self) -> None:
        """Reads the shards that are new since the last look; a corrupt one is set aside and noted."""
        known = {shard.path.name for shard in self._rows.shards}
        for name in shards.names(self.folder):
            if name in known:
                continue
            try:
                shard = shards.read(self.folder / name)
            except StoreError:
                self._set_aside(self.folder / name)
                continue
            self._rows.add(shard)

    def _set_aside(self, path: Path) -> None:
        if not path.exists():  # a second process was quicker
            return
        self.notes.append(f"{path.name} is corrupt: set aside as {path.name}.corrupt, its rows are to be scored again")
        try:
            os.replace(path, path.with_name(path.name + ".corrupt"))
        except OSError as error:
            self.notes.append(f"{path.name} could not be renamed ({error.strerror}); it is not read")

    def _append(self, keys: list[bytes], signals: Signals) -> None:
        if not keys:
            return
        if self._rows.shards:  # before the file is there
            check.same_layout(self._rows.shards[0].layout, signals, self.folder)
        self._rows.add(shards.read(shards.write(self.folder, keys, signals)))
