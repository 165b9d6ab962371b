"""An artefact folder as one file: a plain zip archive without compression, which ends in a hash of itself."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from understudy.files import write_bytes
from understudy.runtime.artefact import find, read_manifest
from understudy.runtime.single import sealed_archive


def single_file(folder: Path | str, path: Path | str) -> None:
    """Write an artefact as one file that `understudy.runtime.load` opens; the same folder gives the same bytes.

    Args:
        folder: an artefact, or a run folder that has one; its files are checked against their hashes first.
        path: the file; an older one at the same place is replaced.

    Raises:
        ArtefactError: the folder is no artefact, or a file of it is missing or altered.
        DiskFull: nothing was written.
    """
    folder = find(folder)
    names = [*read_manifest(folder)["files"], *(file.name for file in folder.iterdir() if file.is_file())]
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(set(names)):
            # A fixed date: what is the same is to look the same.
            archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), (folder / name).read_bytes())
    write_bytes(path, sealed_archive(whole.getvalue()))
