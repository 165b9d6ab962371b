"""Whose targets these are: teacher, tokenizer, encoding, task, labels and view, and how two of them differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.errors import StoreError, UsageError
from understudy.files import content_hash, read_json, write_json

MANIFEST = "manifest.json"
SCHEMA = 1
Support = Mapping[str, NDArray[np.bool_]]


def fingerprint(identity: Mapping[str, str]) -> str:
    """Name of the store's folder, 32 hex digits: two identities share targets exactly where all their parts agree.

    >>> fingerprint({"teacher": "a", "view": ""}) == fingerprint({"view": "", "teacher": "a"})
    True
    """
    wrong = [name for name, value in identity.items() if not isinstance(value, str)]
    if wrong or not identity:
        raise UsageError(f"an identity maps names to strings; got {dict(identity)}")
    return content_hash(*(part for item in sorted(identity.items()) for part in item))


def write_manifest(folder: Path, identity: Mapping[str, str], support: Support) -> None:
    """Says whose targets the folder holds, before the first of them is there."""
    masks = {source: [bool(known) for known in mask] for source, mask in support.items()}
    write_json(folder / MANIFEST, {"schema": SCHEMA, "identity": dict(identity), "support": masks})


def read_manifest(folder: Path) -> tuple[dict[str, str], Support] | None:
    """Identity and support of a folder, or None where it has no manifest yet. Raises StoreError."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    found: Any = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("identity"), dict):
        raise StoreError(f"{path} is not the manifest of stored targets")
    if found.get("schema") != SCHEMA:
        raise StoreError(f"{path} has schema {found.get('schema')}, this version of understudy reads {SCHEMA}")
    masks = {source: np.array(mask, bool) for source, mask in found.get("support", {}).items()}
    return found["identity"], masks


def refuse_other(folder: Path, stored: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raises a StoreError that names every part in which the identities differ, with both values."""
    names = [*wanted, *(name for name in stored if name not in wanted)]
    differences = [
        f"another {name} (stored {_short(stored.get(name))}, wanted {_short(wanted.get(name))})"
        for name in names
        if stored.get(name) != wanted.get(name)
    ]
    if differences:
        raise StoreError(
            f"the targets in {folder} are of {' and '.join(differences)}: "
            "name another --store, or let the new teacher label into a folder of its own"
        )


def refuse_other_support(folder: Path, stored: Support, wanted: Support) -> None:
    """Raises a StoreError where a source is said to know other labels than it did."""
    for source in sorted({*stored, *wanted}):
        a, b = (masks.get(source, np.array([], bool)) for masks in (stored, wanted))
        if not np.array_equal(a, b):
            raise StoreError(
                f"the targets in {folder} are of a {source} that knows {_labels(a)}, wanted {_labels(b)}: "
                "name another --store"
            )


def masks(support: Mapping[str, Sequence[bool] | NDArray[np.bool_]]) -> Support:
    """Support masks as bool arrays [K]."""
    return {source: np.asarray(mask, bool) for source, mask in support.items()}


def _labels(mask: NDArray[np.bool_]) -> str:
    return f"{int(mask.sum())} of {len(mask)} labels" if len(mask) else "all labels"


def _short(value: str | None) -> str:
    if value is None:
        return "none"
    return value if len(value) <= 24 else f"{value[:12]}..."
