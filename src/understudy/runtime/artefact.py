"""The artefact folder: where it is, and whether it is exactly what was exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from understudy.errors import ArtefactError, StoreError
from understudy.files import content_hash, file_hash, read_json

MANIFEST = "understudy.json"
SCHEMA = 1
_NEEDED = ("task", "labels", "encoder", "model", "temperature", "abstain_below", "files")


def find(folder: Path | str) -> Path:
    """The artefact folder: the one given, or the ``artefact`` in a run folder. Raises ArtefactError."""
    folder = Path(folder)
    for candidate in (folder, folder / "artefact"):
        if (candidate / MANIFEST).is_file():
            return candidate
    wanted = f"a folder with {MANIFEST}, or a run folder with artefact/{MANIFEST}"
    raise ArtefactError(f"no artefact in {folder}: wanted {wanted}; export it first, or check the gates of that run")


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """The manifest of an artefact folder, after every file in it was checked against its hash.

    The card (README.md) is for people and is not checked. Raises ArtefactError naming the file that is missing or
    altered, and for a manifest that is altered or of another schema.
    """
    folder = Path(folder)
    try:
        manifest = read_json(folder / MANIFEST)
    except StoreError as error:
        raise ArtefactError(str(error)) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        got = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise ArtefactError(
            f"{folder / MANIFEST}: wanted schema {SCHEMA}, got {got}; it was exported by another version "
            f"({manifest.get('understudy', 'unknown') if isinstance(manifest, dict) else 'unknown'}): export it again"
        )
    missing = [key for key in _NEEDED if key not in manifest]
    if missing:
        raise ArtefactError(f'{folder / MANIFEST} has no "{missing[0]}"; export the artefact again')
    if manifest.get("hash") != manifest_hash(manifest):
        raise ArtefactError(f"{folder / MANIFEST} was altered after the export; export the artefact again")
    _verify(folder, manifest)
    return manifest


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Hash of everything in a manifest but its own ``hash``."""
    rest = {key: value for key, value in manifest.items() if key != "hash"}
    return content_hash(json.dumps(rest, sort_keys=True))


def _verify(folder: Path, manifest: Mapping[str, Any]) -> None:
    files = manifest["files"]
    for name, known in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ArtefactError(f"{folder / MANIFEST} names {name}, which lies outside the artefact; do not trust it")
        if not (folder / name).is_file():
            raise ArtefactError(f"{folder} lacks {name}; copy the whole folder again")
        try:
            got = file_hash(folder / name)
        except StoreError as error:
            raise ArtefactError(str(error)) from error
        if got != known:
            raise ArtefactError(f"{folder / name} was altered: wanted hash {known}, got {got}; copy the folder again")
    parts = [one.get("file") for one in manifest.get("exits", ())]
    for name in (manifest["model"]["file"], manifest["encoder"].get("file"), *parts):
        if name is not None and name not in files:
            raise ArtefactError(f"{folder / MANIFEST} gives no hash for {name}; export the artefact again")
