"""From what the user typed to tables, one per split."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.data.tables import BUILDERS, Table, read_file, read_hub
from understudy.errors import DataError

SPLITS = ("train", "validation", "test", "unlabelled")
ALIASES = {
    "valid": "validation", "val": "validation", "dev": "validation", "eval": "validation",
    "unlabeled": "unlabelled", "unsupervised": "unlabelled", "training": "train", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Tables by split (always with ``train``), sentences about the choice, and whether they came from the hub."""

    tables: dict[str, Table]
    notes: tuple[str, ...]
    hub: bool = False


def find(path_or_name: str | Path, *, as_text: Sequence[str]) -> Found:
    """A folder, a file, or a data set name.

    Raises:
        DataError: there is no such thing (nearest names are given), or it cannot be read.
    """
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        return _folder(path, as_text)
    if path.is_file():
        return Found({"train": read_file(path, as_text=as_text)}, (f"{path.name} is one file: it is split here",))
    missing = f"no folder or file {path}{_hint(path)}"
    if isinstance(path_or_name, Path) or _is_path(path_or_name):
        raise DataError(missing)
    try:
        tables = read_hub(path_or_name)
    except DataError as error:
        raise DataError(f"{missing}; nor does the Hugging Face hub give a data set of that name: {error}") from error
    return _hub(path_or_name, tables)


def _folder(folder: Path, as_text: Sequence[str]) -> Found:
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    by_split: dict[str, list[Path]] = {}
    for file in files:
        if file.suffix in BUILDERS:
            by_split.setdefault(file.stem, []).append(file)
    for stem, same in by_split.items():
        if stem in ALIASES and ALIASES[stem] not in by_split:
            raise DataError(
                f"{folder} holds {same[0].name}: rename it to {ALIASES[stem]}{same[0].suffix} to have it read"
            )
        if stem in SPLITS and len(same) > 1:
            raise DataError(f"{folder} holds both {same[0].name} and {same[1].name}: keep the one that is meant")
    if "train" not in by_split:
        wanted = ", ".join(f"train{suffix}" for suffix in BUILDERS)
        there = ", ".join(entry.name for entry in sorted(folder.iterdir())[:8]) or "nothing"
        raise DataError(f"{folder} has none of {wanted}; it holds {there}")
    ignored = [same.name for stem, group in by_split.items() if stem not in SPLITS for same in group]
    notes = (f"not read, no split is called so: {', '.join(ignored)}",) if ignored else ()
    return Found({s: read_file(by_split[s][0], as_text=as_text) for s in SPLITS if s in by_split}, notes)


def _hub(name: str, tables: dict[str, Table]) -> Found:
    renamed = {ALIASES.get(split, split): table for split, table in reversed(tables.items())} | {
        split: table for split, table in tables.items() if split in SPLITS
    }
    if "train" not in renamed:
        raise DataError(f"the data set {name} has no train split; it has {', '.join(tables) or 'none'}")
    ignored = sorted(set(renamed) - set(SPLITS))
    notes = (f"splits of {name} that are not read: {', '.join(ignored)}",) if ignored else ()
    return Found({split: renamed[split] for split in SPLITS if split in renamed}, notes, hub=True)


def _is_path(name: str) -> bool:
    """Whether a name cannot be a data set's: those are ``name`` or ``owner/name``, without a file's suffix."""
    path = Path(name)
    return name.startswith((".", "~")) or path.is_absolute() or len(path.parts) > 2 or path.suffix in BUILDERS


def _hint(path: Path) -> str:
    """The nearest names in the folder where it should be, or the folder that is missing too."""
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent} either)"
    near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=3)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
