"""The command line: every command is documented and its examples parse; every error is one line and a code."""

from __future__ import annotations

import errno
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from understudy import errors
from understudy.cli.app import build, run
from understudy.cli.boundary import outcome
from understudy.cli.dials import DIALS
from understudy.cli.results import show_run

COMMANDS = (
    *("demo", "init", "check", "distill"),
    *("teach", "label", "train", "export", "evaluate", "report"),
    *("generate", "compare", "predict", "objectives", "doctor", "schema"),
    *("targets plan", "targets stats", "targets verify"),
)
PROMISED = (
    *("--teacher", "--data", "--student", "--out", "--recipe", "--set", "--task", "--text", "--label", "--image"),
    *("--temperature", "--alpha", "--epochs", "--seed", "--seeds", "--metric", "--max-ms", "--max-mb", "--max-drop"),
    *("--store", "--fresh", "--json", "--track", "--calls-per-day", "--teacher-cost-per-million"),
)


@pytest.fixture(scope="module")
def program() -> Any:
    return typer.main.get_command(build())


def examples(command: Any) -> list[str]:
    _, _, tail = command.help.partition("Examples:")
    return [line.strip() for line in tail.splitlines() if line.strip()]


def command_of(program: Any, name: str) -> Any:
    """A command, or one of a group: two words."""
    for word in name.split():
        program = program.commands[word]
    return program


def test_the_commands_are_the_promised_ones(program: Any) -> None:
    inside = {name: getattr(program.commands[name], "commands", None) for name in program.list_commands(None)}
    found = [f"{name} {word}".strip() for name, words in inside.items() for word in words or [""]]
    assert tuple(found) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_with_examples_that_parse(program: Any, name: str) -> None:
    command = command_of(program, name)
    assert command.help.partition("\n")[0].endswith(".")
    shown = examples(command)
    assert shown
    for line in shown:
        words = shlex.split(line.rpartition("| ")[2].partition(" > ")[0])
        called = ["understudy", *name.split()]
        assert words[: len(called)] == called, line
        command.make_context(name, words[len(called) :])  # raises on an option that is not there
    assert [p.name for p in command.params if not p.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_prints_the_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*name.split(), "--help"]) == 0
    assert f"understudy {name}" in capsys.readouterr().out.partition("Examples:")[2]


def test_distill_has_the_promised_options_and_check_takes_the_same(program: Any) -> None:
    of = {name: {o for p in program.commands[name].params for o in p.opts} for name in ("distill", "check")}
    assert [option for option in PROMISED if option not in of["distill"]] == []
    assert of["distill"] - of["check"] == {"--fresh"}
    assert of["check"] <= of["distill"]


def test_every_dial_is_a_key_of_the_recipe() -> None:
    from understudy.pipeline.recipe import recipe_keys

    known = {key for key, _ in recipe_keys()}
    assert [dial.key for dial in DIALS if dial.key not in known] == []
    assert len({dial.option for dial in DIALS}) == len({dial.key for dial in DIALS}) == len(DIALS)


def test_without_a_command_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    said = capsys.readouterr().out
    assert [name for name in COMMANDS if name.split()[0] not in said] == []
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("understudy 0.")


BAD = [
    (["distil"], 'did you mean "distill"'),
    (["distill", "--temprature", "3"], 'did you mean "--temperature"'),
    (["distill", "--epochs"], "--epochs"),
    (["check", "stray"], "stray"),
    (["train"], "RUN"),
    (["predict", "runs/x", "--threads", "0"], "--threads"),
    (["distill", "--student", "static"], "data.path is missing: --data says it"),
    (["check", "--data", "d", "--student", "statik"], 'did you mean "static"'),
    (["check", "--data", "d", "--student", "static", "--temperature", "-1"], "objective.temperature"),
    (["check", "--data", "d", "--student", "static", "--alpha", "2"], "objective.alpha"),
    (["check", "--data", "d", "--student", "static", "--set", "trian.epochs=1"], 'did you mean "train.epochs"'),
    (["check", "--data", "d", "--student", "static", "--recipe", "quik"], 'did you mean "quick"'),
    (["compare", "nowhere"], "no run.json"),
    (["targets"], "missing command"),
    (["targets", "plam"], 'did you mean "plan"'),
    (["targets", "plan", "--tokens", "10", "--vocabulary", "100"], "--budget"),
    (["targets", "plan", "--budget", "5 GBit", "--tokens", "10", "--vocabulary", "100"], "such as 50GB"),
    (["targets", "plan", "--budget", "10GB", "--tokens", "1000000000", "--vocabulary", "128000"], "13 GB for"),
    (["targets", "plan", "--budget", "5GB", "--tokens", "1.5", "--vocabulary", "128000"], "1e9 or 1B"),
    (["targets", "plan", "--budget", "5GB", "--tokens", "1e9 of them", "--vocabulary", "128000"], "1e9 or 1B"),
    (["targets", "plan", "--budget", "5GB", "--tokens", "0", "--vocabulary", "128000"], "tokens of at least 1"),
    (["targets", "plan", "--budget", "5GB", "--tokens", "1", "--vocabulary", "2"], "vocabulary of at least 3"),
    (["targets", "verify", "run", "--rows", "0"], "--rows"),
]


@pytest.mark.parametrize(("argv", "words"), BAD, ids=[" ".join(argv) for argv, _ in BAD])
def test_bad_calls_are_one_line_and_code_2(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("understudy: ")
    assert said.err.count("\n") == 1
    assert words.lower() in said.err.lower()


CODES: list[tuple[BaseException, int]] = [
    (errors.UsageError("x"), 2),
    (errors.RecipeError("x"), 2),
    (errors.DataError("x"), 3),
    (errors.LabelError("x"), 3),
    (errors.StoreError("x"), 3),
    (errors.TeacherError("x"), 4),
    (errors.GateError("x"), 5),
    (errors.NonFiniteError("x"), 6),
    (errors.Interrupted("x"), 75),
    (errors.DiskFull("x"), 75),
    (errors.Interrupted("x", by_user=True), 130),
    (KeyboardInterrupt(), 130),
    (OSError(errno.ENOSPC, "No space left on device", "f"), 75),
    (PermissionError(errno.EACCES, "Permission denied", "f"), 2),
    (errors.UnderstudyError("x"), 1),
    (ValueError("x\ny"), 1),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=[repr(error) for error, _ in CODES])
def test_every_error_has_its_code(error: BaseException, code: int) -> None:
    found, message = outcome(error)
    assert found == code
    assert message
    assert "\n" not in message


def test_a_bug_names_itself_and_shows_its_traceback_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_json = tmp_path / "run.json"
    run_json.write_text("[]")
    monkeypatch.setenv("UNDERSTUDY_TRACEBACK", "1")
    assert run(["compare", str(tmp_path)]) == 3
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.delenv("UNDERSTUDY_TRACEBACK")
    assert run(["compare", str(tmp_path)]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_control_characters_of_a_name_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "a\x1b[31m\tb"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@dataclass
class Finished:
    """What a run leaves behind, as the command line sees it."""

    folder: Path
    facts: dict[str, Any]

    def summary(self) -> str:
        return "kept 99 %"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_failed_gate_is_measured_reported_and_code_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    gates = [{"name": "max_mb", "limit": 1, "value": 2, "passed": False}]
    assert show_run(Finished(tmp_path, {"verdict": {"gates": gates}, "x": float("nan")}), as_json=as_json) == 5
    said = capsys.readouterr()
    assert "max_mb is 2, limit 1" in said.err
    if as_json:
        assert json.loads(said.out) == {"verdict": {"gates": gates}, "x": None}
    else:
        assert said.out == "kept 99 %\n"
    assert show_run(Finished(tmp_path, {"verdict": {"gates": []}}), as_json=as_json) == 0


def test_a_run_without_measurements_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_run(Finished(tmp_path, {}), as_json=False) == 0
    assert f"understudy evaluate {tmp_path}" in capsys.readouterr().out


def written_run(folder: Path, accuracy: float) -> Path:
    folder.mkdir()
    models = {"artefact": {"bytes": 1_000_000, "metrics": {"accuracy": {"value": accuracy, "low": 0.8, "high": 0.99}}}}
    facts = {"schema": 1, "task": "t", "models": models, "comparison": {"metric": "accuracy", "retention": 0.98}}
    (folder / "run.json").write_text(json.dumps({**facts, "verdict": {"distillation": "BEATS", "gates": []}}))
    return folder


def test_compare_prints_one_table_and_writes_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(written_run(tmp_path / name, value)) for name, value in (("one", 0.91), ("two", 0.93))]
    page = tmp_path / "page.html"
    assert run(["compare", *runs, "--out", str(page)]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("0.91", "0.93", "BEATS", "98.0", str(page)))
    assert "<svg" in page.read_text()
    assert run(["compare", *runs, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row["artefact"]["value"] for row in rows] == [0.91, 0.93]


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("doctor", lambda found: found["versions"]["torch"] and found["machine"]["cores"] >= 1),
        ("objectives", lambda found: "soft_labels" in [row["name"] for row in found["objectives"]]),
    ],
)
def test_tables_are_also_one_json_object(
    name: str, check: Callable[[Any], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--json"]) == 0
    assert check(json.loads(capsys.readouterr().out))
    assert run([name]) == 0
    assert capsys.readouterr().out.count("\n") > 5


def test_check_fits_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    from understudy.cli.screens import show_check

    show_check(
        {
            "teacher": {"path": "my-bert", "accuracy": 0.94, "spearman on 500 validation rows": 0.9},
            "majority": 0.07,
            "labels": "labels: as in the data",
            "forecast": {"seconds": 92, "disk_bytes": 2e9},
            "terms": [{"name": "soft_labels", "value": 1.25, "gradient_norm": 0.5, "count": 32}],
            "sizes": {"teacher": {"parameters": 22_713_216, "bytes": 90_900_000}},
            "notes": ["3 validation rows are also in train"],
        }
    )
    said = capsys.readouterr().out.replace("\u00a0", " ")
    wanted = (
        "accuracy 0.94, Spearman correlation on 500 validation rows 0.9",
        "always the same  0.07",
        "labels           as in the data",
        "1 min 32 s, 2 GB on disk",
        "gradient norm",
        "1.25",
        "22.7 M parameters, 90.9 MB",
    )
    assert [word for word in (*wanted, "- 3 validation rows") if word not in said] == []
    assert said.count("\n") <= 24


def test_check_shows_every_candidate_of_a_student_that_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    from understudy.cli.screens import show_check

    rows = [("cut", None, None, False, "no layers"), ("gru", 9e5, 1.4, False, ""), ("conv", 4e5, 0.21, True, "")]
    keys = ("name", "bytes", "p95_ms", "fits", "skipped")
    show_check({"choice": {"candidates": [dict(zip(keys, row, strict=True)) for row in rows]}})
    said = [line.split() for line in capsys.readouterr().out.replace("\u00a0", "").splitlines()]
    assert ["cut", "–", "–", "no", "layers"] in said
    assert ["gru", "900kB", "1.4ms", "over", "a", "limit"] in said
    assert ["conv", "400kB", "210µs", "chosen"] in said


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = "import sys; from understudy.cli.app import run; sys.exit(run(['schema']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
