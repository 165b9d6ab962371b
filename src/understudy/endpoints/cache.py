"""Answers that are paid for: one row of an SQLite file for each, committed as it arrives.

In WAL mode a commit is an append, so ``kill -9`` loses nothing that was put, and several commands may share a file.
Failures are never put. There is no key, header or address in it: a row is the hash of what was asked, and the answer.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy.endpoints.asked import Answer
from understudy.errors import DiskFull, StoreError

_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"
_AT_ONCE = 500
_SECONDS_TO_WAIT = 60.0


class Cache:
    """Answers by key; to be used from any thread, and to be closed.

    Raises:
        StoreError: the file is no SQLite database, or cannot be used.
        DiskFull: no space left; everything put before is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._saying():
            self._rows = sqlite3.connect(path, timeout=_SECONDS_TO_WAIT, check_same_thread=False, isolation_level=None)
            try:
                self._rows.execute("PRAGMA journal_mode=WAL")
                self._rows.execute("PRAGMA synchronous=FULL")  # paid for: a power cut must not lose it either
                self._rows.execute(_TABLE)
            except BaseException:
                self._rows.close()
                raise

    def put(self, key: str, answer: Answer) -> None:
        """Store one answer, for good when this returns."""
        text = json.dumps(dataclasses.asdict(answer))  # ASCII: a lone surrogate survives
        with self._saying(), self._lock:
            self._rows.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, text))

    def get(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers there are, by key."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, str] = {}
        with self._saying(), self._lock:
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                found.update(
                    self._rows.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", some).fetchall()
                )
        try:
            return {key: _read(text) for key, text in found.items()}
        except (ValueError, TypeError) as error:
            raise StoreError(f"{self._path} holds an answer that is not ours ({error}); move it away") from error

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._rows.close()

    @contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "full" in str(error):
                raise DiskFull(f"the disk is full while writing {self._path}; free some space and run it again") from (
                    error
                )
            raise StoreError(f"cannot use {self._path} as a cache of answers: {error}; move it away") from error


def _read(text: str) -> Answer:
    fields = json.loads(text)
    top = tuple((str(token), float(value)) for token, value in fields.pop("top", ()))
    return Answer(**fields, top=top)
