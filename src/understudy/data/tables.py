"""Files and data sets as columns, through the ``datasets`` library, without leaving anything behind."""

from __future__ import annotations

import glob
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.data.faults import fault, header_fault
from understudy.errors import DataError

BUILDERS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json"}


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of one file or of one split of a data set.

    Attributes:
        source: what to call it in a message (``train.csv``).
        folder: where relative paths in its columns start, or None.
        rows: a ``datasets.Dataset``, or None for a file without a row.
    """

    source: str
    folder: Path | None
    rows: Any

    def __len__(self) -> int:
        return 0 if self.rows is None else len(self.rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return () if self.rows is None else tuple(self.rows.column_names)

    def values(self, column: str) -> list[Any]:
        """The stored values of a column; images stay file bytes, class labels stay numbers."""
        stored, feature = self.rows.data.column(column).to_pylist(), self.rows.features[column]
        return [_plain(value, feature) for value in stored] if "Json" in repr(feature) else stored

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """Names of a column of ClassLabels, or of lists of them, in their order; None for any other column."""
        feature = self.rows.features[column]
        names = getattr(getattr(feature, "feature", feature), "names", None)
        return None if names is None else tuple(names)


def _plain(value: Any, feature: Any) -> Any:
    """A stored value less the JSON that datasets 5 makes of what has other types, or other keys, in other rows."""
    if value is None:
        return None
    if type(feature).__name__ == "Json":
        return json.loads(value)
    if isinstance(feature, dict):
        return {name: _plain(value[name], inner) for name, inner in feature.items()}
    inner = getattr(feature, "feature", None)
    return [_plain(one, inner) for one in value] if inner is not None and isinstance(value, list) else value


@contextmanager
def quiet() -> Iterator[None]:
    """The ``datasets`` library without progress bars and log lines; both are as before afterwards."""
    import datasets

    bars, verbosity = not datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


def read_file(path: Path, *, as_text: Sequence[str] = ()) -> Table:
    """One .parquet, .csv or .jsonl file.

    Args:
        path: the file; its suffix says what it is.
        as_text: CSV columns whose values stay what was written: a text "null" is a text, a label "1" and a label
            "other" are both strings however many rows apart. (Type inference runs on 10,000 rows at a time.)

    Raises:
        DataError: a suffix that is not known, or a file that cannot be read.
    """
    if path.suffix not in BUILDERS:
        raise DataError(
            f"cannot read {path}: the suffix is {path.suffix or 'missing'}, known are {', '.join(BUILDERS)}"
        )
    options: dict[str, Any] = {}
    if path.suffix == ".csv":
        options = {"converters": dict.fromkeys(as_text, str), "na_filter": False, "keep_default_na": False}
    import datasets

    try:
        with quiet(), tempfile.TemporaryDirectory() as cache:
            rows = datasets.load_dataset(
                BUILDERS[path.suffix],
                data_files={"rows": _literal(path)},
                split="rows",
                cache_dir=cache,
                keep_in_memory=True,
                **options,
            )
    except Exception as error:
        if _is_empty(error):
            return Table(path.name, path.parent, None)
        raise DataError(f"cannot read {path}: {fault(path, _reason(error))}") from error
    if path.suffix == ".csv" and (wrong := header_fault(path)):
        raise DataError(f"cannot read {path}: {wrong}")
    if "__index_level_0__" in rows.column_names:  # pandas takes surplus values of a row for an index
        raise DataError(
            f"cannot read {path}: rows have more values than the header; put quotes around texts with commas"
        )
    return Table(path.name, path.parent, rows)


def _literal(path: Path) -> str:
    """The path with glob characters escaped: a folder called ``runs[1]`` is a folder."""
    return glob.escape(str(path.resolve()))


def _is_empty(error: BaseException) -> bool:
    """A file without a row is four different errors in ``datasets``, by format."""
    last = _innermost(error)
    return (
        isinstance(last, StopIteration)
        or "corresponds to no data" in str(last)
        or "BatchSize must be greater than 0" in str(last)
        or type(last).__name__ == "EmptyDataError"
    )


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause; it may name a row or a byte."""
    last = _innermost(error)
    lines = str(last).strip().splitlines()
    return lines[0].strip()[:300] if lines else type(last).__name__


def read_hub(name: str) -> dict[str, Table]:
    """The splits of a Hugging Face data set, ``name`` or ``name:configuration``, from the user's cache or the hub.

    Raises:
        DataError: no such data set, or no network.
    """
    import datasets

    repository, _, configuration = name.partition(":")
    try:
        with quiet():
            found = datasets.load_dataset(repository, configuration or None)
    except Exception as error:
        raise DataError(_reason(error)) from error
    return {split: Table(f"{name}[{split}]", None, rows) for split, rows in found.items()}
