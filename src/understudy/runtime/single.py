"""One file that holds an artefact: a zip archive without compression whose last bytes are the hash of all before."""

from __future__ import annotations

import io
import struct
import zipfile
from hashlib import blake2b
from pathlib import Path

from understudy.errors import ArtefactError
from understudy.runtime.artefact import MANIFEST

_HASH = 32  # hex digits, as the archive's comment


def sealed_archive(data: bytes) -> bytes:
    """A zip archive without a comment, with the hash of everything before as its comment."""
    data = data[:-2] + struct.pack("<H", _HASH)
    return data + blake2b(data, digest_size=_HASH // 2).hexdigest().encode()


def unpack(file: Path, folder: Path) -> None:
    """Write the files of a single-file artefact into a folder.

    Raises:
        ArtefactError: the file is no such archive, a byte of it was altered, or it holds what no artefact holds: files
            in folders or outside, compressed ones, two of one name.
    """
    try:
        data = file.read_bytes()
        if not zipfile.is_zipfile(io.BytesIO(data)):
            raise ArtefactError(f"{file} is no artefact: wanted a folder, or the one file that an export writes")
        if blake2b(data[:-_HASH], digest_size=_HASH // 2).hexdigest().encode() != data[-_HASH:]:
            raise ArtefactError(f"{file} was altered, or is no artefact; copy it again")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in _names(file, archive):
                (folder / name).write_bytes(archive.read(name))
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise ArtefactError(f"{file} cannot be read ({error}); copy it again") from error


def _names(file: Path, archive: zipfile.ZipFile) -> list[str]:
    """The files of the archive, all of them plain names. A zip archive may name whatever it likes."""
    names = [entry.filename for entry in archive.infolist()]
    for name in names:
        if name != Path(name).name or name.startswith(".") or "\\" in name:
            raise ArtefactError(f"{file} names {name}, which lies outside the artefact; do not trust it")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise ArtefactError(f"{file} holds compressed files, as no export does; do not trust it")
    if len(set(names)) != len(names) or MANIFEST not in names:
        raise ArtefactError(f"{file} is no artefact: wanted one {MANIFEST} among files of different names")
    return names
