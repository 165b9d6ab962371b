"""JSON lines in, JSON lines out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from understudy.encoding import RowError
from understudy.errors import DataError
from understudy.runtime.predictor import Predictor, load


def stream(
    folder: Path | str, lines_in: Iterable[str | bytes], out: TextIO, *, threads: int = 1, chunk: int = 1024
) -> int:
    """Answer every line; the number of rows answered.

    A line is an object with the columns of the task, or a bare JSON string for the first of them. Empty lines are
    skipped. When a line is bad, the lines before it are answered first, so that a caller can go on behind it.

    Args:
        folder: an artefact or a run folder.
        lines_in: JSON lines, as text or as UTF-8 bytes.
        out: where the answers go, one object a line, flushed after every chunk.
        threads: threads of an ONNX model.
        chunk: the most lines that are read before answers are written.

    Raises:
        DataError: a line is not JSON or its row cannot be used; names the line, counted from 1.
        ArtefactError: see `load`.
    """
    predictor = load(folder, threads=threads)
    numbered = enumerate(lines_in, 1)
    answered = 0
    while lines := list(islice(numbered, chunk)):
        numbers, rows, problem = _parse(lines)
        try:
            answered += _answer(predictor, rows, out)
        except RowError as error:
            _answer(predictor, rows[: error.row], out)
            where = f'line {numbers[error.row]}, column "{error.column}"'
            raise DataError(f"{where}: {error.problem}") from error.__cause__
        if problem is not None:
            raise problem
    return answered


def _parse(lines: list[tuple[int, str | bytes]]) -> tuple[list[int], list[Any], DataError | None]:
    """Line numbers and rows, up to the first line that is not JSON, and what is wrong with that one."""
    numbers: list[int] = []
    rows: list[Any] = []
    for number, line in lines:
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = str(error).removesuffix(" (char 0)")
                if isinstance(error, UnicodeDecodeError):
                    return numbers, rows, DataError(f"line {number} is not UTF-8: save the rows as UTF-8")
                advice = 'wanted {"text": "..."} or a quoted string'
                return numbers, rows, DataError(f"line {number} is not JSON ({reason}): {advice}")
            numbers.append(number)
            rows.append(row)
    return numbers, rows, None


def _answer(predictor: Predictor, rows: list[Any], out: TextIO) -> int:
    if rows:
        out.writelines(_lines(predictor.predict(rows)))
        out.flush()
    return len(rows)


def _lines(answers: Iterable[dict[str, Any]]) -> Iterator[str]:
    for answer in answers:
        line = json.dumps(answer, ensure_ascii=False)
        # Only a lone surrogate cannot be UTF-8, and the escape that replaces it is the one that JSON has for it.
        yield line.encode("utf-8", "backslashreplace").decode() + "\n"
