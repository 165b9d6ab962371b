"""One shard: a safetensors file of signals and keys that carries its own hash in its name.

The name is the commit: ``00003-<hash of the file>.safetensors`` appears by one rename, after the bytes are on the disk.
Whatever else lies in the folder after a ``kill -9`` is not a shard. A shard whose bytes no longer give the hash in its
name is set aside, and its rows are missing again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from understudy.errors import StoreError, UsageError
from understudy.files import file_hash, read_tensors, write_tensors
from understudy.targets.signals import Layout, Signals, from_file, layout, to_file

KEYS = "keys"
_NAME = re.compile(r"(\d{5,})-([0-9a-f]{32})\.safetensors")
_KEY = re.compile(r"[0-9a-f]{32}")
_DRAFT = "draft.safetensors"


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard that was read and whose hash agrees. ``signals`` are views of the file."""

    path: Path
    keys: tuple[bytes, ...]
    signals: Signals

    @property
    def layout(self) -> dict[str, Layout]:
        """Signal -> (dtype, shape of one row); the same in every shard of a store."""
        return {name: layout(signal) for name, signal in sorted(self.signals.items())}


def pack(key: str) -> bytes:
    """A content key as its 16 bytes. Raises UsageError for anything but 32 hexadecimal digits.

    >>> len(pack("0" * 32))
    16
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise UsageError(f"{key!r} is not a content key (32 hexadecimal digits, see data.content_key)")
    return bytes.fromhex(key)


def names(folder: Path) -> list[str]:
    """File names of the shards in a folder, in the order of their numbers."""
    return sorted(entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name)) if folder.is_dir() else []


def write(folder: Path, keys: Sequence[bytes], signals: Signals) -> Path:
    """Writes one more shard whole, or nothing. The caller holds the folder's lock. Raises DiskFull."""
    draft = folder / _DRAFT
    taken = [int(match[1]) for entry in folder.iterdir() if (match := _NAME.match(entry.name))]  # .corrupt ones too
    number = max(taken, default=-1) + 1
    packed = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), 16)
    write_tensors(draft, {KEYS: packed, **to_file(signals)})
    path = folder / f"{number:05d}-{file_hash(draft)}.safetensors"
    os.replace(draft, path)
    _sync(folder)
    return path


def read(path: Path) -> Shard:
    """One shard. Raises StoreError where its bytes do not give the hash in its name."""
    match = _NAME.fullmatch(path.name)
    if match is None or file_hash(path) != match[2]:
        raise StoreError(f"{path} is corrupt: its content does not have the hash in its name")
    arrays = read_tensors(path)
    packed = arrays.pop(KEYS)
    return Shard(path, tuple(row.tobytes() for row in packed), from_file(arrays))


def sweep(folder: Path) -> None:
    """Removes what a killed writer left. The caller holds the folder's lock."""
    for entry in folder.iterdir():
        if entry.name == _DRAFT or (entry.name.startswith(f".{_DRAFT}.") and entry.suffix == ".tmp"):
            entry.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Flushes the folder's entries, so that the rename survives a power cut."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
