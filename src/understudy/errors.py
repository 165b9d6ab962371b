"""The exception tree. Every message says what was wanted, what came, where, and what to do.

    UnderstudyError              1   a bug, or an error without a room of its own
    ├── UsageError               2   a call or an option that cannot be used
    │   └── RecipeError          2   a recipe with unknown keys or impossible values
    ├── DataError                3   rows, columns, labels
    │   ├── LabelError           3   labels of teacher and data that cannot be aligned
    │   ├── StoreError           3   a foreign or corrupt store, run folder or checkpoint
    │   └── ArtefactError        3   an artefact that is incomplete or altered
    ├── TeacherError             4   a teacher that cannot be used
    ├── GateError                5   an exported model that fails a gate
    ├── NonFiniteError           6   training became non-finite
    └── Interrupted             75   stopped on the way; the same command resumes (130 for Ctrl-C)
        └── DiskFull            75   no space left; nothing half-written stays

The number is the exit code of the command line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnderstudyError(Exception):
    """Root of every error that Understudy raises on purpose."""

    exit_code = 1


class UsageError(UnderstudyError):
    """A call or an option that cannot be used."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe with unknown keys or impossible values."""


class DataError(UnderstudyError):
    """Rows, columns or labels that cannot be used."""

    exit_code = 3


class LabelError(DataError):
    """Labels of teacher and data that cannot be aligned."""


class StoreError(DataError):
    """A foreign or corrupt store, run folder or checkpoint."""


class ArtefactError(DataError):
    """An artefact that is incomplete, altered or of another version."""


class TeacherError(UnderstudyError):
    """A teacher that cannot be loaded or asked."""

    exit_code = 4


class GateError(UnderstudyError):
    """An exported model that fails a gate."""

    exit_code = 5


class NonFiniteError(UnderstudyError):
    """Training became non-finite; the last good checkpoint stays."""

    exit_code = 6


class Interrupted(UnderstudyError):
    """Stopped on the way; the same command resumes."""

    exit_code = 75

    def __init__(self, message: str, *, by_user: bool = False) -> None:
        super().__init__(message)
        if by_user:
            self.exit_code = 130


class DiskFull(Interrupted):
    """No space left on the device; what was complete stays, nothing half-written does."""


def choices(got: object, known: Iterable[str]) -> str:
    """Sorted choices with the nearest match first, for the end of an error message.

    >>> choices("statik", ["static", "cut"])
    'did you mean "static"? known: cut, static'
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(got), names, n=1)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
