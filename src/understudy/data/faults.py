"""Why a file of rows cannot be read: the line, in words, where a reader says a byte or a class of its own."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

_SURPLUS = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")
_OPEN = re.compile(r"EOF inside string starting at row (\d+)")
_TWICE = re.compile(r"Multiple matches for FieldRef\.Name\((.+?)\)")
_BOMS = (b"\xff\xfe", b"\xfe\xff")
_EXAMPLE = '{"text": "...", "label": "..."}'


def fault(path: Path, said: str) -> str:
    """What is wrong with a file that could not be read, as far as looking at it tells; else what was said of it."""
    if path.suffix == ".parquet":
        found = _TWICE.search(said)
        return said if found is None else _twice(found[1])
    return _letters(path) or (_lines(path) if path.suffix == ".jsonl" else _fields(said)) or said


def header_fault(path: Path) -> str:
    """What is wrong with the names of a CSV file's columns; "" where nothing is."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        names = next(csv.reader(file), [])
    seen = {name for name in names if name and names.count(name) > 1}
    if seen:
        return _twice(min(seen))
    if len(names) == 1:
        for mark, called in ((";", '";"'), ("\t", "tabs"), ("|", '"|"')):
            if mark in names[0]:
                return f'it has one column, "{names[0]}", whose parts are separated by {called}: wanted commas'
    return ""


def _twice(name: str) -> str:
    return f'two columns are called "{name}": rename one'


def _letters(path: Path) -> str:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1 and line[:2] in _BOMS:
                return "it is UTF-16: save it as UTF-8"
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return f"line {number:,} is not UTF-8: save the file as UTF-8"
    return ""


def _lines(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                return (
                    f"line {number:,} is not JSON ({_short(line)}): wanted an object such as {_EXAMPLE} in every line"
                )
            if not isinstance(row, dict):
                return f"line {number:,} is {_short(line)}: wanted an object such as {_EXAMPLE} in every line"
    return ""


def _fields(said: str) -> str:
    if found := _SURPLUS.search(said):
        wanted, line, got = found.groups()
        return f"line {line} has {got} values, the header {wanted}: put quotes around texts with commas"
    if found := _OPEN.search(said):
        return f"a quote that opens near line {int(found[1]) + 1} is never closed"
    return ""


def _short(line: str) -> str:
    text = line.strip()
    return text if len(text) <= 40 else text[:37] + "..."
