"""Where an error becomes one line and an exit code. Free of typer, so that ``predict`` can share it."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback

from understudy.errors import UnderstudyError

_MOST_LINES = 3
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_BUGS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.EEXIST,
    errno.ENOENT,
)

# torch's own words, in RuntimeErrors, when a tensor is larger than the memory or than any number of bytes
_NO_MEMORY = ("can't allocate memory", "Storage size calculation overflowed", "out of memory")


def outcome(error: BaseException) -> tuple[int, str]:
    """The exit code of an error, and what to say about it; nothing to say is the empty string.

    >>> outcome(KeyboardInterrupt())
    (130, 'stopped by Ctrl-C; the same command resumes')
    """
    if isinstance(error, UnderstudyError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped by Ctrl-C; the same command resumes"
    if isinstance(error, BrokenPipeError):
        # the reader has what it wanted; what is still buffered must not complain when Python exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0, ""
    if isinstance(error, OSError) and error.errno in _FULL:
        return 75, f"no space left for {error.filename or 'the run'}; free some, then the same command resumes"
    if isinstance(error, OSError) and error.errno in _NOT_BUGS and error.filename is not None:
        return 2, f"cannot use {error.filename}: {error.strerror}"
    if isinstance(error, MemoryError) or any(said in str(error) for said in _NO_MEMORY):
        asked = re.search(r"allocate (\d+) bytes", str(error))
        much = f" ({int(asked[1]) / 1e9:,.0f} GB asked for at once)" if asked else ""
        return 2, f"memory ran out{much}: a smaller student, batch or vocabulary is wanted; nothing done so far is lost"
    reason = (str(error).splitlines() or ["no message"])[0]
    return 1, f"a bug: {type(error).__name__}: {reason} (UNDERSTUDY_TRACEBACK=1 shows where)"


def report(error: BaseException) -> int:
    """Says on stderr what happened, at most three lines; the exit code."""
    if os.environ.get("UNDERSTUDY_TRACEBACK") == "1":
        traceback.print_exception(error)
    code, message = outcome(error)
    say(message)
    return code


def say(message: str) -> None:
    """A message on stderr, free of control characters: a file's name or a row's text may hold some."""
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in message.splitlines()[:_MOST_LINES]]
    if lines:
        print("understudy: " + "\n  ".join(lines), file=sys.stderr)
