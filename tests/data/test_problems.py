"""Every bad data set is one line that says what was wanted, what came, where, and what to do."""

# ruff: noqa: E501  (a table: one case, one line)

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from understudy.data import load
from understudy.errors import DataError, LabelError, UnderstudyError, UsageError
from understudy.tasks import LAYOUTS

TABULAR = (("task", "tabular-classification"), ("layouts", LAYOUTS))
PAIRS = (("task", "pair-classification"), ("layouts", LAYOUTS))
REGRESSION = (("task", "regression"), ("label", "score"), ("layouts", LAYOUTS))
TABLE = [{"n": f"{i}.5", "label": "xy"[i % 2]} for i in range(60)]
SCORES = [{"text": f"text {i}", "score": f"{i}"} for i in range(30)]
GOOD = [{"text": f"{word} {i}", "label": word} for i in range(10) for word in ("refund", "travel")]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as .csv, .jsonl or .parquet."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    table = pa.Table.from_pylist(rows)
    pyarrow.csv.write_csv(table, path) if path.suffix == ".csv" else pyarrow.parquet.write_table(table, path)
    return path


def folder(*files: tuple[str, Any]) -> Callable[[Path], Path]:
    """A builder of a folder: name -> rows, text or bytes."""

    def build(path: Path) -> Path:
        for name, content in files:
            if isinstance(content, list):
                write(path / name, content)
            else:
                (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return build


def file(name: str, content: Any) -> Callable[[Path], Path]:
    return lambda path: folder((name, content))(path) / name


def empty_beside_tickets(path: Path) -> Path:
    (path / "tickets").mkdir()
    return path / "tickts"


def no_rows(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({"text": pa.array([], pa.string())}), path / "a.parquet")
    return path / "a.parquet"


def two_labels(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet

    columns = [pa.array(["a", "b"]), pa.array(["x", "y"]), pa.array(["x", "y"])]
    table = pa.Table.from_arrays(columns, names=["text", "label", "label"])
    pyarrow.parquet.write_table(table, path / "a.parquet")
    return path / "a.parquet"


def with_row(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [*GOOD[:2], row, *GOOD[2:]]


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[Path], Any]
    says: tuple[str, ...]
    error: type[UnderstudyError] = DataError
    options: tuple[tuple[str, Any], ...] = ()


CASES = [
    Case("no such folder", empty_beside_tickets, ("no folder or file", "did you mean tickets?")),
    Case("no parent either", lambda p: p / "a" / "b.csv", ("no folder or file", "there is no folder")),
    Case("no such name on the hub", lambda p: "understudy-no-such-data", ("no folder or file", "Hugging Face hub")),
    Case("folder without train", folder(("test.csv", GOOD)), ("train.parquet, train.csv", "it holds test.csv")),
    Case("empty folder", folder(), ("it holds nothing",)),
    Case("both formats", folder(("train.csv", GOOD), ("train.parquet", GOOD)), ("both train.csv and train.parquet",)),
    Case("alias", folder(("train.csv", GOOD), ("dev.csv", GOOD)), ("rename it to validation.csv",)),
    Case("suffix", file("rows.tsv", "text\tlabel\n"), ("the suffix is .tsv", ".parquet, .csv, .jsonl")),
    Case("suffix in a folder", folder(("train.json", "[]")), ("it holds train.json",)),
    Case("no text column", file("a.csv", GOOD), ('no column "txt"', 'did you mean "text"', "--text"), DataError, (("text", "txt"),)),
    Case("no label column", file("a.parquet", GOOD), ('no column "intent"', "known: label, text", "--label"), DataError, (("label", "intent"),)),
    Case("no image column", file("a.csv", GOOD), ('no column "image"', "--image"), DataError, (("task", "image-classification"),)),
    Case("a pair of one column", file("a.csv", GOOD), ("names one column twice",), UsageError, (*PAIRS, ("text", "text,text"))),
    Case("a pair of which one is not there", file("a.csv", GOOD), ("this task reads two columns",), UsageError, PAIRS),
    Case("unknown task", file("a.csv", GOOD), ('unknown task "text"', "text-classification"), UsageError, (("task", "text"),)),
    Case("shares", file("a.csv", GOOD), ("between 0 and 1",), UsageError, (("test_share", 1.0),)),
    Case("negative share", file("a.csv", GOOD), ("between 0 and 1",), UsageError, (("validation_share", -0.1),)),
    Case("empty csv", file("a.csv", ""), ("a.csv is empty",)),
    Case("csv of a header", file("a.csv", "text,label\n"), ("a.csv is empty",)),
    Case("empty jsonl", file("a.jsonl", ""), ("a.jsonl is empty",)),
    Case("empty test", folder(("train.csv", GOOD), ("test.csv", "text,label\n")), ("test.csv is empty",)),
    Case("empty unlabelled", folder(("train.csv", GOOD), ("unlabelled.jsonl", "")), ("unlabelled.jsonl is empty",)),
    Case("corrupt parquet", file("a.parquet", b"PAR1 and nothing"), ("cannot read", "a.parquet")),
    Case("corrupt jsonl", file("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "la'), ("cannot read", "a.jsonl", 'line 2 is not JSON ({"text": "b", "la)', "wanted an object such as")),
    Case("a text in each line", file("a.jsonl", '"a"\n"b"\n'), ('line 1 is "a": wanted an object',)),
    Case("parquet without a row", no_rows, ("a.parquet is empty",)),
    Case("two columns of a name in csv", file("a.csv", "text,label,label\na,b,c\n"), ('two columns are called "label": rename one',)),
    Case("two columns of a name in parquet", two_labels, ('two columns are called "label": rename one',)),
    Case("semicolons", file("a.csv", "text;label\na;b\n"), ("separated by \";\": wanted commas",)),
    Case("UTF-16", file("a.csv", "text,label\na,b\n".encode("utf-16")), ("it is UTF-16: save it as UTF-8",)),
    Case("corrupt csv", file("a.csv", 'text,label\na,b\n"c,d\n'), ("cannot read", "a.csv", "a quote that opens near line 3 is never closed")),
    Case("csv that is not UTF-8", file("a.csv", b"text,label\ncaf\xe9,b\n"), ("cannot read", "line 2 is not UTF-8: save the file as UTF-8")),
    Case("commas without quotes", file("a.csv", "text,label\nhello, world,x\nwell, no,y\n"), ("quotes around texts",)),
    Case("one comma too many", file("a.csv", "text,label\nhello,x\nwell, no,y\n"), ("cannot read", "line 3 has 3 values, the header 2", "quotes around texts")),
    Case("one class", file("a.csv", [{"text": str(i), "label": "x"} for i in range(9)]), ("one class only", '"x"'), LabelError),
    Case("no label at all", file("a.jsonl", [{"text": str(i), "label": None} for i in range(9)]), ("no row of a.jsonl has a label",), LabelError),
    Case("null text", file("a.jsonl", with_row({"text": None, "label": "refund"})), ("a.jsonl, row 3", "holds nothing, wanted a text")),
    Case("empty text in csv", file("a.csv", "text,label\na,x\n,y\n"), ("a.csv, row 2", "is empty")),
    Case("blank text", file("a.parquet", with_row({"text": " \n", "label": "refund"})), ("a.parquet, row 3", "is empty")),
    Case("numbers for text", file("a.parquet", [{"text": i, "label": i % 2} for i in range(9)]), ("a.parquet, row 1", "an int (0)")),
    Case("NaN for text", file("a.parquet", [{"text": float("nan"), "label": i % 2} for i in range(9)]), ("row 1", "holds nothing")),
    Case("a number among texts", file("a.jsonl", with_row({"text": 7, "label": "refund"})), ("a.jsonl, row 3", "an int (7)")),
    Case("lists for text", file("a.jsonl", [{"text": ["a"], "label": i % 2} for i in range(9)]), ("row 1", "a list")),
    Case("unseen label", folder(("train.csv", GOOD), ("test.csv", [*GOOD, {"text": "new", "label": "refnd"}])), ("test.csv, row 21", '"refnd"', 'did you mean "refund"'), LabelError),
    Case("unlabelled test file", folder(("train.csv", GOOD), ("test.csv", "text,label\na,\nb,\n")), ("no row of test.csv has a label", "remove the file")),
    Case("booleans among strings", file("a.jsonl", with_row({"text": "a", "label": True})), ("boolean and string", "a.jsonl"), LabelError),
    Case("numbers among strings", file("a.jsonl", with_row({"text": "a", "label": 1})), ("number and string",), LabelError),
    Case("booleans and words in csv", file("a.csv", "text,label\na,True\nb,no\nc,False\n"), ("boolean and string", "True"), LabelError),
    Case("booleans and numbers in csv", file("a.csv", "text,label\na,true\nb,0\nc,1\n"), ("boolean and string",), LabelError),
    Case("lists for labels", file("a.jsonl", [{"text": str(i), "label": [i]} for i in range(9)]), ("holds a list",), LabelError),
    Case("a label per row", file("a.csv", [{"text": f"t{i}", "label": f"l{i}"} for i in range(90)]), ("90 different labels", "--label"), LabelError),
    Case("too few rows", file("a.csv", "text,label\na,x\nb,y\n"), ("2 rows", "too few to split")),
    Case("null image", file("a.jsonl", [{"image": None, "label": i} for i in range(3)]), ("row 1", "holds nothing", "PNG or JPEG")),
    Case("number for an image", file("a.jsonl", [{"image": 3, "label": i} for i in range(3)]), ("an int", "PNG or JPEG")),
    Case("a typo among numbers", file("a.csv", [*TABLE, {"n": "oops", "label": "x"}]), ("a.csv, row 61", "holds 'oops', and numbers in 60 other rows"), DataError, TABULAR),
    Case("identifiers alone", file("a.csv", [{"id": f"r{i}", "label": "xy"[i % 2]} for i in range(60)]), ('every column but "label"', "(id)", "nothing is left"), DataError, TABULAR),
    Case("a number without end", file("a.csv", [*TABLE, {"n": "1e300", "label": "x"}]), ("row 61", "holds 1e+300", "at most 1e+30"), DataError, TABULAR),
    Case("a score without end", file("a.csv", [*SCORES, {"text": "a", "score": "1e301"}]), ("row 31", "wanted a number such as 0.5, at most 1e+30"), LabelError, REGRESSION),
    Case("a score with a comma", file("a.csv", [*SCORES, {"text": "a", "score": "0,5"}]), ("row 31", "wanted a number such as 0.5"), LabelError, REGRESSION),
    Case("no such image file", file("a.csv", [{"image": "no.png", "label": i} for i in range(3)]), ("row 1", "no.png", "No such file")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_problem(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UnderstudyError) as caught:
        load(case.build(tmp_path), **dict(case.options))
    message = str(caught.value)
    assert type(caught.value) is case.error, message
    assert "\n" not in message, message
    assert len(message) < 600, message
    for part in case.says:
        assert part in message, message


def test_enough_cases() -> None:
    assert len(CASES) >= 40
