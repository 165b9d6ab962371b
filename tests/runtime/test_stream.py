"""JSON lines in, JSON lines out; and the entry point around it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from understudy import __main__ as entry
from understudy import runtime
from understudy.errors import DataError

from .conftest import LABELS, Made

UNDERSTUDY = [sys.executable, "-m", "understudy"]


def answers(made: Made, lines: list[str | bytes], **settings: int) -> list[dict[str, object]]:
    out = io.StringIO()
    runtime.stream(made.folder, lines, out, **settings)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_objects_strings_and_empty_lines(all_made: dict[str, Made]) -> None:
    lines = ['{"text": "my card", "id": 1}\n', "\n", '"where is my cash"', b'{"text": "\xc3\xbc"}\r\n']
    got = answers(all_made["static"], lines)
    assert [row["text"] for row in got] == ["my card", "where is my cash", "ü"]
    assert got[0]["id"] == 1
    assert got == runtime.load(all_made["static"].folder).predict(
        [{"text": "my card", "id": 1}, "where is my cash", "ü"]
    )


@pytest.mark.parametrize("chunk", [1, 3, 1024])
def test_chunks_change_nothing(all_made: dict[str, Made], chunk: int) -> None:
    made = all_made["subwords"]
    lines = [json.dumps(row) for row in made.rows]
    got = answers(made, lines, chunk=chunk)
    assert [row["label"] for row in got] == [row["label"] for row in runtime.load(made.folder).predict(made.rows)]


def test_what_cannot_be_utf8_comes_back_as_it_came(all_made: dict[str, Made]) -> None:
    for name in ("static", "subwords"):
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        runtime.stream(all_made[name].folder, ['{"text": "\\ud800 中 \\u0000"}'], out)
        out.seek(0)
        assert json.loads(out.read())["text"] == "\ud800 中 \0"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("my card", "line 5 is not JSON"),
        ('{"text": ', "line 5 is not JSON"),
        (b"\xff\xfe\xfd", "line 5 is not UTF-8"),
        ("[" * 100_000, "line 5 is not JSON"),
        ("null", 'line 5, column "text".*nothing'),
        ("7", 'line 5, column "text".*int'),
        ('{"text": NaN}', 'line 5, column "text".*nothing'),
        ('{"txt": "my card"}', 'line 5, column "text".*txt'),
    ],
)
@pytest.mark.parametrize("chunk", [2, 1024])
def test_a_bad_line_is_named_and_the_ones_before_it_answered(
    all_made: dict[str, Made], line: str | bytes, says: str, chunk: int
) -> None:
    out = io.StringIO()
    lines: list[str | bytes] = ['"one"', "", '"two"', '"three"', line, '"never"']
    with pytest.raises(DataError, match=says):
        runtime.stream(all_made["static"].folder, lines, out, chunk=chunk)
    assert [json.loads(text)["text"] for text in out.getvalue().splitlines()] == ["one", "two", "three"]


def run(*arguments: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*UNDERSTUDY, *arguments], input=given, capture_output=True, text=True, env={**os.environ, **env}, timeout=60
    )


def test_predict_without_torch_or_typer(all_made: dict[str, Made]) -> None:
    """Everything that is installed here would be importable, so what counts is what was imported."""
    program = (
        "import sys, understudy, understudy.runtime\n"
        "from understudy.__main__ import main\n"
        "code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'scipy', 'sklearn', 'typer', 'rich', 'onnx'}\n"
        "print(code, sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    for made in (all_made["static"], all_made["subwords"]):
        done = subprocess.run(
            [sys.executable, "-c", program, "predict", str(made.folder)],
            input='"my card"\n', capture_output=True, text=True,
        )  # fmt: skip
        assert done.stderr == "0 []\n"
        assert json.loads(done.stdout)["label"] in LABELS


def test_predict_reads_a_file_or_stdin(all_made: dict[str, Made], tmp_path: Path) -> None:
    folder = str(all_made["static"].folder)
    (tmp_path / "rows.jsonl").write_text('"my card"\n{"text": "中"}\n', encoding="utf-8")
    # A locale without UTF-8 must not matter.
    from_file = run("predict", folder, str(tmp_path / "rows.jsonl"), LC_ALL="C", PYTHONUTF8="0")
    from_stdin = run("predict", folder, "-", "--threads", "2", given='"my card"\n"中"\n')
    assert from_file.returncode == from_stdin.returncode == 0
    assert from_file.stdout == from_stdin.stdout
    assert [json.loads(line)["text"] for line in from_file.stdout.splitlines()] == ["my card", "中"]


def test_every_error_is_one_line_with_its_code(
    all_made: dict[str, Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(all_made["static"].folder)
    (tmp_path / "rows.jsonl").write_text('"fine"\n{"x": 1}\n')
    cases = {
        (): 2,
        (folder, "-", "extra"): 2,
        (folder, "--treads", "2"): 2,
        (folder, "--threads", "many"): 2,
        (folder, "--threads", "0"): 2,
        (folder, str(tmp_path / "gone.jsonl")): 2,
        (str(tmp_path), "-"): 3,
        (str(tmp_path / "none"), "-"): 3,
        (folder, str(tmp_path / "rows.jsonl")): 3,
    }
    for arguments, code in cases.items():
        assert entry.main(["predict", *arguments]) == code, arguments
        error = capsys.readouterr().err
        assert error.startswith("understudy: "), error
        assert error.count("\n") == 1, error


def test_a_bug_is_one_line_and_the_traceback_on_request(
    all_made: dict[str, Made], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(runtime, "stream", broken)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert entry.main(["predict", "x"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("understudy: a bug: ZeroDivisionError: two")
    assert error.count("\n") == 1
    monkeypatch.setenv("UNDERSTUDY_TRACEBACK", "1")
    assert entry.main(["predict", "x"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_error(all_made: dict[str, Made], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('"my card"\n' * 20_000)
    command = [*UNDERSTUDY, "predict", str(all_made["static"].folder), str(tmp_path / "rows.jsonl")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def _hears_ctrl_c() -> None:
    """A suite that runs in the background of a script hands on an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_is_130(all_made: dict[str, Made]) -> None:
    command = [*UNDERSTUDY, "predict", str(all_made["static"].folder)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=_hears_ctrl_c,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write('"my card"\n' * 1024)
    process.stdin.flush()
    assert process.stdout.readline()  # it is running, and now waits for more
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.count("\n") == 1
