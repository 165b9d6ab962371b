"""One writer at a time: a lock file with the writer's process and machine."""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from understudy.errors import DiskFull, StoreError
from understudy.files import write_text

NAME = "lock"


@contextmanager
def locked(folder: Path, *, name: str = NAME, doing: str = "writing the targets in") -> Iterator[None]:
    """Holds ``folder/lock`` for the length of the block.

    The file is linked into place whole, so nobody reads half of it and only one process can succeed. The lock of a
    process that is dead (on this machine) is taken over.

    Args:
        folder: what is held.
        name: of the lock file.
        doing: what the holder does with the folder, for the message to whoever comes second.

    Raises:
        StoreError: another process holds the lock; it is named, with what to do.
    """
    path = folder / name
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid()), "token": _token()}
    while not _create(path, mine):
        _take_over(path, doing)
    try:
        yield
    finally:
        if _holder(path) == mine:
            path.unlink(missing_ok=True)


def _token() -> str:
    return secrets.token_hex(8)


def _create(path: Path, mine: dict[str, Any]) -> bool:
    """Whether the lock is ours now. ``os.link`` fails where the name exists, as ``O_EXCL`` does, but with content."""
    draft = path.with_name(f".{path.name.lstrip('.')}.{mine['token']}.tmp")
    try:
        write_text(draft, json.dumps(mine))
        return _link(draft, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"the disk is full while writing {path}; free some space and run it again") from error
        raise StoreError(f"cannot write in {path.parent}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            draft.unlink()


def _link(draft: Path, path: Path) -> bool:
    try:
        os.link(draft, path)
        return True
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            with open(path, "xb") as file:
                file.write(draft.read_bytes())
            return True
        except FileExistsError:
            return False


def _take_over(path: Path, doing: str) -> None:
    """Removes the lock of a dead process; raises where its holder lives, or cannot be known to be dead."""
    holder = _holder(path)
    if holder is None:  # released between our attempt and this look
        return
    pid, host = holder.get("pid"), holder.get("host")
    if pid is None:
        raise StoreError(f"a lock names no process: if nobody is {doing} {path.parent}, delete {path}")
    if host != socket.gethostname() or not isinstance(pid, int) or _alive(pid, holder.get("started")):
        raise StoreError(
            f"process {pid} on {host} is {doing} {path.parent}: wait for it to end, or, if it is gone, delete {path}"
        )
    # Rename, then look: of two processes that both saw the dead lock, one may be about to rename the other's new one.
    aside = path.with_name(f".{path.name.lstrip('.')}.{_token()}.stale")
    with suppress(FileNotFoundError):
        os.rename(path, aside)
        if _holder(aside) != holder:
            with suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink(missing_ok=True)


def _holder(path: Path) -> dict[str, Any] | None:
    """Who holds the lock; None where there is no lock; an empty mapping where the file says nothing readable."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _alive(pid: int, started: object) -> bool:
    if os.name != "posix":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return started is None or _started(pid) in (None, started)


def _started(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot, where the system tells: a pid alone is used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]
