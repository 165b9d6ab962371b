"""Files that are complete or not there: hashes, atomic writes, seals, and the safetensors format without torch.

Every write goes to a temporary sibling, is flushed to the disk and then renamed, so that a reader (or a run that starts
again after ``kill -9``) never sees half a file. A full disk is an `errors.DiskFull`, and leaves nothing behind.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from understudy.errors import DiskFull, StoreError

SEAL = "seal.json"
_FULL = (errno.ENOSPC, errno.EDQUOT)

# The order of this table is the order in which the safetensors package lays tensors out (largest alignment last here).
_DTYPES: dict[str, str] = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "BF16": "<u2", "I32": "<i4",
    "U32": "<u4", "F32": "<f4", "C64": "<c8", "F64": "<f8", "I64": "<i8", "U64": "<u8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items() if name != "BF16"}
_RANK = {name: rank for rank, name in enumerate(_DTYPES)}


def content_hash(*parts: str | bytes) -> str:
    """Hash of a sequence of strings, 32 hex digits (blake2b, 16 bytes).

    Every part is preceded by its length, so that moving a character from one part to the next changes the hash.

    >>> content_hash("ab", "c") == content_hash("a", "bc")
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def file_hash(path: Path | str) -> str:
    """Hash of a file's bytes, 32 hex digits. Raises StoreError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error


def folder_hash(path: Path | str) -> str:
    """Hash of the relative names and contents of all files below a folder; its seal is left out."""
    folder = Path(path)
    return content_hash(*(part for name in _names(folder) for part in (name, file_hash(folder / name))))


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write a whole file, or nothing. Parent folders are made. Raises DiskFull."""
    with _replacing(Path(path)) as file:
        file.write(data)


def write_text(path: Path | str, text: str) -> None:
    """Write a whole UTF-8 file with unix line ends, or nothing."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """Write a whole JSON file, or nothing. NaN and infinities are a ValueError: JSON has none."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    # Only a lone surrogate cannot be UTF-8, and the escape that replaces it is the one that JSON has for it.
    write_bytes(path, text.encode("utf-8", "backslashreplace") + b"\n")


def read_json(path: Path | str) -> Any:
    """The content of a JSON file. Raises StoreError with its path when it is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is not JSON ({error}); it was cut short or is not ours") from error


@contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """A temporary sibling folder that becomes ``path`` when the block succeeds, and vanishes when it does not.

    An existing folder is replaced as a whole: between the two renames ``path`` is missing, but it is never a mixture.
    Raises DiskFull when the disk filled up inside the block, whoever was writing.
    """
    target = Path(path)
    draft = target.parent / f".{target.name}.{secrets.token_hex(6)}.new"
    with _disk(target):
        draft.mkdir(parents=True)
        try:
            yield draft
            for folder, _, names in os.walk(draft):
                for name in names:
                    _sync(Path(folder) / name)
                _sync(Path(folder))
            _swap(draft, target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def seal(folder: Path | str) -> None:
    """Write ``seal.json``, the hash of every file below the folder: what is sealed was written to its end."""
    folder = Path(folder)
    write_json(folder / SEAL, {name: file_hash(folder / name) for name in _names(folder)})


def sealed(folder: Path | str) -> bool:
    """Whether the folder has a seal, and every file that the seal names is there with the same content."""
    folder = Path(folder)
    try:
        hashes = read_json(folder / SEAL)
        return isinstance(hashes, dict) and all(file_hash(folder / name) == known for name, known in hashes.items())
    except StoreError:
        return False


def write_tensors(
    path: Path | str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays as a safetensors file, byte for byte what the safetensors package writes.

    Args:
        path: the file.
        tensors: name -> array of bool, integer, float or complex64 (numpy has no bfloat16).
        metadata: strings that travel in the header.
    """
    arrays = {name: _little(array, name) for name, array in tensors.items()}
    order = sorted(arrays, key=lambda name: (-_RANK[_NAMES[arrays[name].dtype]], name.encode("utf-8", "surrogatepass")))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata is not None else {}
    end = 0
    for name in order:
        start, end = end, end + arrays[name].nbytes
        header[name] = {
            "dtype": _NAMES[arrays[name].dtype], "shape": list(arrays[name].shape), "data_offsets": [start, end],
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with _replacing(Path(path)) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            # Not tobytes(): a table of a gigabyte need not be copied to be written.
            file.write(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)


def read_tensors(path: Path | str, mmap: bool = True) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file; read-only views of the file when ``mmap``. bfloat16 arrives as float32.

    Raises StoreError naming the file when it is missing, cut short or not of this format.
    """
    header, start = _header(Path(path))
    try:
        data = np.asarray(np.memmap(path, np.uint8, "r")) if mmap else np.fromfile(path, np.uint8)
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    arrays = {}
    for name, (dtype, shape, first, last) in header.items():
        array = data[start + first : start + last].view(np.dtype(_DTYPES[dtype])).reshape(shape)
        arrays[name] = (array.astype("<u4") << 16).view("<f4") if dtype == "BF16" else array
    return arrays


def read_metadata(path: Path | str) -> dict[str, str]:
    """The strings in a safetensors header; empty when there are none. Raises StoreError."""
    raw, _ = _raw_header(Path(path))
    return {str(key): str(value) for key, value in raw.get("__metadata__", {}).items()}


def _header(path: Path) -> tuple[dict[str, tuple[str, tuple[int, ...], int, int]], int]:
    """Name -> (dtype, shape, first byte, last byte), checked to tile the file exactly; and where the data starts."""
    raw, start = _raw_header(path)
    entries: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
    try:
        for name, entry in raw.items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                shape = tuple(int(size) for size in entry["shape"])
                wanted = int(np.prod(shape, dtype=object)) * np.dtype(_DTYPES[entry["dtype"]]).itemsize
                if min((0, *shape)) < 0 or last - first != wanted:
                    raise ValueError(f"tensor {name!r} has {last - first} bytes where its shape needs {wanted}")
                entries[name] = (entry["dtype"], shape, first, last)
        position = 0
        for _, _, first, last in sorted(entries.values(), key=lambda entry: entry[2:]):
            if first != position:
                raise ValueError(f"bytes {position} to {first} belong to no tensor, or to two")
            position = last
        if position != path.stat().st_size - start:
            raise ValueError(f"{position} bytes of tensors announced, {path.stat().st_size - start} there")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StoreError(f"{path} is a corrupt safetensors file: {_reason(error)}; write or copy it again") from error
    return entries, start


def _raw_header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            raw = json.loads(file.read(length))
        if not isinstance(raw, dict) or not isinstance(raw.get("__metadata__", {}), dict):
            raise ValueError("the header is not an object")
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is a corrupt safetensors file: {error}; write or copy it again") from error
    return raw, 8 + length


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _little(array: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(array)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype not in _NAMES:
        known = ", ".join(str(dtype) for dtype in _NAMES)
        raise StoreError(f"tensor {name!r} has dtype {array.dtype}, which safetensors cannot hold; known: {known}")
    return array


def _names(folder: Path) -> list[str]:
    """Relative names of all files below a folder but its seal, sorted, with forward slashes."""
    found = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return sorted(name for name in found if name != SEAL)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file handle whose content becomes ``path`` when the block succeeds."""
    draft = path.parent / f".{path.name}.{secrets.token_hex(6)}.tmp"
    with _disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(draft, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
            _sync(path.parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turn "no space left" into DiskFull. Rust and C++ writers only say so in the text of their own exceptions."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if getattr(error, "errno", None) in _FULL or "No space left on device" in str(error):
            raise DiskFull(f"the disk is full while writing {path}; free some space and run it again") from error
        raise


def _swap(draft: Path, target: Path) -> None:
    if not target.exists():
        os.replace(draft, target)
    else:
        old = target.parent / f".{target.name}.{secrets.token_hex(6)}.old"
        os.replace(target, old)
        try:
            os.replace(draft, target)
        except BaseException:
            os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink()
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Flush a file or a folder's entries; some file systems cannot flush folders, and that is all right."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
