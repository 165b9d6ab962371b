"""Bad input: one message that says what to do, the promised exit code, no traceback, and nothing lost.

Every row of the tables is a real call of the command line in this process; a few are repeated as real processes. What
can be known before training is refused by ``check`` and ``distill`` alike, before the run's folder is touched.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.cli.app import run

Files = dict[str, "str | bytes | Callable[[Place], None]"]


@dataclass
class Place:
    """What a bad call may name: ``{here}`` is empty at first, the others are shared and must stay as they are."""

    here: Path
    bert: Path
    data: Path
    run: Path
    pictures: Path
    other: list[Path] = field(default_factory=list)

    def words(self, call: str) -> list[str]:
        names = {name: str(getattr(self, name)) for name in ("here", "bert", "data", "run", "pictures")}
        return [word.format(**names) for word in shlex.split(call)]

    def fingerprint(self) -> dict[str, str]:
        """Every file that a bad call must leave alone; a run's log may grow by the line that says it failed."""
        roots = (self.bert, self.data, self.run.parent, self.pictures)
        files = [file for root in roots for file in sorted(root.rglob("*")) if file.is_file()]
        kept = [file for file in files if file.name != "log.jsonl"]
        return {str(file): hashlib.blake2b(file.read_bytes()).hexdigest() for file in kept}


@dataclass(frozen=True)
class Bad:
    """One bad call: its words (``{here}`` and others are filled in), its code, what the message must hold."""

    name: str
    call: str
    code: int
    says: tuple[str, ...]
    files: Files = field(default_factory=dict)


def png(value: int = 0, side: int = 8) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.full((side, side), value, np.uint8)).save(file, format="PNG")
    return file.getvalue()


def parquet(path: Path, columns: dict[str, list[Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def images(path: Path, rows: int = 40, *, spoil: int | None = None) -> None:
    pictures: list[bytes | None] = [png(5 * i) for i in range(rows)]
    if spoil is not None:
        pictures[spoil] = png(1)[:50]
    parquet(path, {"image": pictures, "label": [f"{i % 2}" for i in range(rows)]})


@pytest.fixture(scope="module")
def shared(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Place:
    pictures = tmp_path_factory.mktemp("pictures")
    for name in ("train", "validation", "test"):
        images(pictures / f"{name}.parquet")
    return Place(Path(), finished.teacher, finished.data, finished.folder, pictures)


@pytest.fixture
def place(shared: Place, tmp_path: Path) -> Place:
    return Place(tmp_path, shared.bert, shared.data, shared.run, shared.pictures)


@pytest.fixture(scope="module", autouse=True)
def everything_stays(shared: Place) -> Iterator[None]:
    before = shared.fingerprint()
    assert len(before) > 20
    yield
    assert shared.fingerprint() == before


def said_briefly(err: str) -> str:
    """The message of a failed call: the last thing on stderr, at most three lines, no traceback, no bug."""
    assert "Traceback" not in err
    _, begun, message = err.rpartition("understudy: ")
    assert begun, f"nothing was said: {err!r}"
    assert len(message.strip().splitlines()) <= 3, message
    assert "a bug" not in message, message
    return message


def refused(call: list[str], code: int, says: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    got = run(call)
    said = capsys.readouterr()
    assert got == code, said.err
    message = said_briefly(said.err)
    assert [part for part in says if part not in message] == [], message
    return message


def fill(place: Place, files: Files) -> None:
    for name, content in files.items():
        path = place.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(place)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")


ROWS = "".join(f"hello {word},{label}\n" for label in ("billing", "music", "travel", "weather") for word in "abcdefg")
TWO = "".join(f"hello {word},{label}\n" for label in "xy" for word in "abcdefghij")
TEXT = "--teacher {bert} --student static"
GOOD = f"--data {{data}} {TEXT}"
HERE = f"--data {{here}}/d {TEXT}"


def csv(rows: str, header: str = "text,label", name: str = "d/train.csv") -> Files:
    return {name: f"{header}\n{rows}"}


def lines(*rows: str, name: str = "d/train.jsonl") -> Files:
    return {name: "".join(f"{row}\n" for row in rows)}


RECIPES = [
    Bad("unknown student", "--data {data} --teacher {bert} --student statik", 2, ('did you mean "static"',)),
    Bad("unknown task", f"{GOOD} --task text-clasification", 2, ("text-classification",)),
    Bad("unknown metric", f"{GOOD} --metric acuracy", 2, ('did you mean "accuracy"', "--metric")),
    Bad("negative temperature", f"{GOOD} --temperature -1", 2, ("objective.temperature", "greater than 0")),
    Bad("temperature in words", f"{GOOD} --temperature hot", 2, ("objective.temperature", "auto")),
    Bad("temperature nan", f"{GOOD} --temperature nan", 2, ("objective.temperature",)),
    Bad("alpha 2", f"{GOOD} --alpha 2", 2, ("objective.alpha", "less than or equal to 1")),
    Bad("seeds 0", f"{GOOD} --seeds 0", 2, ("seeds", "greater than or equal to 1")),
    Bad("seed -1", f"{GOOD} --seed -1", 2, ("seed",)),
    Bad("epochs 0", f"{GOOD} --epochs 0", 2, ("train.epochs",)),
    Bad("epochs 1.5", f"{GOOD} --epochs 1.5", 2, ("train.epochs", "integer")),
    Bad("max-ms negative", f"{GOOD} --max-ms -3", 2, ("export.max_ms",)),
    Bad("max-mb infinite", f"{GOOD} --max-mb inf", 2, ("export.max_mb",)),
    Bad("max-drop 101", f"{GOOD} --max-drop 101", 2, ("export.max_drop",)),
    Bad("set without =", f"{GOOD} --set train.epochs", 2, ("key=value",)),
    Bad("set of no key", f"{GOOD} --set train.epoch=3", 2, ('did you mean "train.epochs"',)),
    Bad("set that is no YAML", f"{GOOD} --set 'train.epochs=[1'", 2, ("--set train.epochs",)),
    Bad("floor of no label", f"{GOOD} --set export.floors.musik=0.5", 2, ("export.floors", 'did you mean "music"')),
    Bad("floor above 1", f"{GOOD} --set export.floors.music=50", 2, ("export.floors.music", "less than or equal to 1")),
    Bad("scope of no label", f"{GOOD} --set evaluation.out_of_scope=oos", 2, ("evaluation.out_of_scope", "no label")),
    Bad("label is text", f"{GOOD} --label text", 2, ("same column", "--label")),
    Bad("images for text", "--data {data} --teacher {bert} --student mlp", 2, ('student "mlp" cannot do text',)),
    Bad("texts for images", "--data {pictures} --teacher cnn --student gru", 2, ('student "gru" cannot do image',)),
    Bad("text task for digits", "--data digits --teacher cnn --student mlp --task text-classification", 2, ("digits",)),
    Bad("cut has no such layer", f"{GOOD} --student cut --set student.layers=[0,7]", 2, ("layer", "7")),
    Bad("cut of more layers", f"{GOOD} --student cut --set student.layers=9", 2, ("between 1 and 2",)),
    Bad("tracker of no kind", f"{GOOD} --track wandbb", 2, ("wandbb",)),
    Bad("limit of nothing", f"{GOOD} --set data.limit=2", 2, ("data.limit",)),
    Bad("shares leave nothing", f"{GOOD} --set data.test_share=0.5 --set data.validation_share=0.5", 2, ("below 0.9",)),
    Bad("recipe not there", f"{GOOD} --recipe {{here}}/no.yaml", 2, ("no such recipe",)),
    Bad("recipe unknown key", f"{GOOD} --recipe {{here}}/r.yaml", 2, ('did you mean "objective.temperature"', "r.yaml"),
        {"r.yaml": "objective:\n  temperatur: 4\n"}),
    Bad("recipe yes, no", f"{GOOD} --recipe {{here}}/r.yaml", 2, ("quotes", '"yes"'),
        {"r.yaml": "labels: [yes, no]\n"}),
    Bad("recipe floor of yes", f"{GOOD} --recipe {{here}}/r.yaml", 2, ("quotes",),
        {"r.yaml": "export:\n  floors: {yes: 0.5}\n"}),
    Bad("recipe 1e-4 epochs", f"{GOOD} --recipe {{here}}/r.yaml", 2, ("train.epochs",),
        {"r.yaml": "train: {epochs: 1e-4}\n"}),
    Bad("recipe runs code", f"{GOOD} --recipe {{here}}/r.yaml", 2, ("data, not code", "nothing was run"),
        {"r.yaml": '!!python/object/apply:os.mkdir ["pwned"]\n'}),
    Bad("recipe is a list", f"{GOOD} --recipe {{here}}/r.yaml", 2, ("wanted a mapping",), {"r.yaml": "- 1\n- 2\n"}),
    Bad("recipe no YAML", f"{GOOD} --recipe {{here}}/r.yaml", 2, ("r.yaml: line 2",),
        {"r.yaml": "train:\n\tepochs: 3\n"}),
    Bad("recipe key twice", f"{GOOD} --recipe {{here}}/r.yaml", 2, ("there twice",), {"r.yaml": "seed: 1\nseed: 2\n"}),
    Bad("recipe is a picture", f"{GOOD} --recipe {{here}}/r.yaml", 2, ("UTF-8",), {"r.yaml": png()}),
    Bad("recipe is a folder", f"{GOOD} --recipe {{here}}", 2, ("it is a folder, wanted a YAML file",)),
]  # fmt: skip

DATA = [
    Bad("no such file", f"--data {{here}}/tikets.csv {TEXT}", 3, ("did you mean tickets.csv",), {"tickets.csv": ""}),
    Bad("no such folder", f"--data {{here}}/a/b {TEXT}", 3, ("no folder or file",)),
    Bad("no such data set", f"--data nosuch-owner/nosuch-set {TEXT}", 3, ("Hugging Face",)),
    Bad("another suffix", f"--data {{here}}/d.txt {TEXT}", 3, (".csv",), {"d.txt": "x"}),
    Bad("no train file", HERE, 3, ("train.csv", "it holds readme.md"), {"d/readme.md": "x"}),
    Bad("two train files", HERE, 3, ("both",), {**csv(ROWS), **lines("{}")}),
    Bad("split by another name", HERE, 3, ("rename it to validation.csv",), {**csv(ROWS), "d/dev.csv": "x"}),
    Bad("empty file", HERE, 3, ("train.csv is empty",), {"d/train.csv": ""}),
    Bad("header only", HERE, 3, ("train.csv is empty",), csv("")),
    Bad("empty split", HERE, 3, ("validation.csv is empty",), {**csv(ROWS), **csv("", name="d/validation.csv")}),
    Bad("no text column", HERE, 3, ('no column "text"', "words", "--text"), csv(ROWS, "words,label")),
    Bad("no label column", HERE, 3, ('no column "label"', "--label"), csv(ROWS, "text,intent")),
    Bad("no column in test", HERE, 3, ("test.csv", '"label"'), {**csv(ROWS), **csv(ROWS, "text,y", "d/test.csv")}),
    Bad("one class", HERE, 3, ("one class only", "at least two"), csv("a,x\nb,x\nc,x\n")),
    Bad("no label at all", HERE, 3, ("no row", "has a label"), csv("a,\nb,\nc,\n")),
    Bad("two rows", HERE, 3, ("too few to split",), csv("a,x\nb,y\n")),
    Bad("a class per row", HERE, 3, ("is this the label column",), csv("".join(f"t {i},l{i}\n" for i in range(80)))),
    Bad("unseen label", HERE, 3, ("test.csv, row 2", '"sport"'),
        {**csv(ROWS), **csv("a,music\nb,sport\n", name="d/test.csv")}),
    Bad("labels hidden", HERE, 3, ("no row of test.csv has a label",),
        {**csv(ROWS), **csv("a,\nb,\n", name="d/test.csv")}),
    Bad("null text", HERE, 3, ("row 2", "nothing"),
        lines('{"text": "a", "label": "x"}', '{"text": null, "label": "y"}')),
    Bad("NaN text", HERE, 3, ("row 1", "nothing"), {"d/train.parquet": lambda place: parquet(
        place.here / "d/train.parquet", {"text": [float("nan"), 1.5], "label": ["x", "y"]})}),
    Bad("blank text", HERE, 3, ("row 2", "is empty"), csv('a,x\n"  ",y\n')),
    Bad("numbers for text", HERE, 3, ("wanted a text",),
        lines('{"text": 1, "label": "x"}', '{"text": 2, "label": "y"}')),
    Bad("labels of two kinds", HERE, 3, ("kinds",), lines('{"text": "a", "label": 1}', '{"text": "b", "label": true}')),
    Bad("a list of labels", HERE, 3, ("at least two",), lines('{"text": "a", "label": ["x"]}')),
    Bad("commas without quotes", HERE, 3, ("quotes",), csv("a, b,x\nc, d,y\n")),
    Bad("broken parquet", HERE, 3, ("cannot read", "train.parquet"), {"d/train.parquet": b"\x80\x81PAR1"}),
    Bad("broken jsonl", HERE, 3, ("cannot read",), lines('{"text": "a", "label": "x"}', '{"text": ')),
    Bad("not UTF-8", HERE, 3, ("cannot read",), {"d/train.csv": b"text,label\n\xff\xfe\xfa,x\n"}),
    Bad("floor that validation lacks", f"{HERE} --set export.floors.music=0.5", 2, ("no validation row has",),
        {**csv(ROWS), **csv("q,billing\nr,travel\n", name="d/validation.csv")}),
    Bad("image path missing", "--data {here}/d --teacher cnn --student mlp", 3, ("row 1", "cannot read the image"),
        csv("no.png,x\nno.png,y\n", "image,label")),
    Bad("images too small for a cnn", "--data {here}/d --teacher mlp --student cnn", 2, ("4x4", "2x2"),
        {"d/train.parquet": lambda place: parquet(
            place.here / "d/train.parquet", {"image": [png(i, 2) for i in range(9)], "label": list("xyz" * 3)})}),
    Bad("image null", "--data {here}/d --teacher cnn --student mlp", 3, ("row 1", "wanted image bytes"),
        {"d/train.parquet": lambda place: parquet(
            place.here / "d/train.parquet", {"image": [None, png()], "label": ["x", "y"]})}),
    *(
        Bad(f"broken PNG in {split}", "--data {here}/d --teacher cnn --student mlp", 3, (split, "row 31"),
            {f"d/{name}.parquet": lambda place, name=name, split=split: images(
                place.here / f"d/{name}.parquet", spoil=30 if name == split else None)
             for name in ("train", "validation", "test")})
        for split in ("train", "test")
    ),
]  # fmt: skip


def rows(*made: dict[str, Any], name: str = "train") -> Files:
    """JSON lines of forty rows that are good in their way, and of those that are not."""
    return lines(*map(json.dumps, made), name=f"d/{name}.jsonl")


TAGGED = [{"tokens": ["to", f"town{i}"], "tags": ["O", "B-city"]} for i in range(40)]
SCORED = [{"sentence1": f"a {i}", "sentence2": f"b {i}", "score": i / 8} for i in range(40)]
VECTORS = [{"text": f"a {i}", "labels": [i % 2, 1 - i % 2, int(i % 3 == 0)]} for i in range(40)]
NAMED = [{"text": f"a {i}", "labels": ["xy"[i % 2], "z"][: 1 + i % 2]} for i in range(40)]
TABLE = [{"age": i, "town": "abc"[i % 3], "label": "xy"[i % 2]} for i in range(40)]
PAIRED = "--data {here}/d --teacher {bert} --student cut --set student.layers=1"
TAGGING = "--data {here}/d --teacher {bert} --student gru"
TABULAR = "--data {here}/d --teacher boosting --student mlp"

TASKS = [
    Bad("fewer tags than words", TAGGING, 3, ("row 41", "2 words", "1 tag"),
        rows(*TAGGED, {"tokens": ["to", "Rome"], "tags": ["O"]})),
    Bad("tags that are not BIO", TAGGING, 3, ("row 41, word 2", "'city'", "B-city"),
        rows(*TAGGED, {"tokens": ["to", "Rome"], "tags": ["O", "city"]})),
    Bad("words that are a text", f"{TAGGING} --task token-classification", 3, ("row 41", "wanted a list of words"),
        rows(*TAGGED, {"tokens": "to Rome", "tags": ["O", "B-city"]})),
    Bad("a text family for tags", HERE, 2, ("token-classification", "gru"), rows(*TAGGED)),
    Bad("a teacher of texts for tags", f"{TAGGING} --set teacher.fine_tune=never", 3,
        ("BertForSequenceClassification", "ForTokenClassification"),
        rows(*TAGGED, {"tokens": ["a", "b", "c"], "tags": ["B-a", "O", "O"]})),  # as many tags as it has classes
    Bad("a score in words", f"{PAIRED} --task regression", 3, ("row 41", '"score"', "wanted a number"),
        rows(*({**row, "score": str(row["score"])} for row in SCORED), {**SCORED[0], "score": "much"})),
    Bad("an endless score", f"{PAIRED} --task regression", 3, ("row 41", "inf", "wanted a number"),
        rows(*SCORED, {**SCORED[0], "score": float("inf")})),
    Bad("one score", f"{PAIRED} --task regression", 3, ("1 different scores", "at least two"),
        rows(*({**row, "score": 2.0} for row in SCORED))),
    Bad("a temperature for scores", f"{PAIRED} --task regression --temperature 2", 2, ("temperature",), rows(*SCORED)),
    Bad("half of a pair", PAIRED, 3, ("row 41", "sentence2", "nothing"),
        rows(*SCORED, {**SCORED[0], "sentence2": None})),
    Bad("a label vector too short", HERE, 3, ("row 41", "a vector of 2 labels", "3 each"),
        rows(*VECTORS, {"text": "b", "labels": [0, 1]})),
    Bad("labels that are no list", f"{HERE} --task multi-label", 3, ("row 1", "wanted a list of labels"),
        rows(*({**row, "labels": "x"} for row in NAMED))),
    Bad("a label named twice", HERE, 3, ("row 41", '"x"', "twice"),
        rows(*NAMED, {"text": "b", "labels": ["x", "x"]})),
    Bad("a column of mixed types", TABULAR, 3, ("age", "row 41"), rows(*TABLE, {**TABLE[0], "age": "about 12"})),
    Bad("a teacher of texts for a table", TABULAR.replace("boosting", "{bert}"), 4, ("boosting",), rows(*TABLE)),
]  # fmt: skip


def spoilt(change: Callable[[Path], None]) -> Files:
    """A copy of the teacher, changed, as ``{here}/t``."""

    def make(place: Place) -> None:
        change(Path(shutil.copytree(place.bert, place.here / "t", dirs_exist_ok=True)))

    return {"t/x": make}


def config(**changes: Any) -> Files:
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, **changes}))

    return spoilt(change)


def tensors(change: Callable[[dict[str, Any]], None]) -> Files:
    def rewrite(folder: Path) -> None:
        from safetensors.numpy import load_file, save_file

        held = load_file(folder / "model.safetensors")
        change(held)
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})

    return spoilt(rewrite)


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


MINE = "--data {data} --teacher {here}/t --student static"
NAMES = dict(enumerate(["card", "trip", "rain", "song"]))

TEACHERS = [
    Bad("no teacher", "--data {data} --student static", 4, ("--teacher",)),
    Bad("no such teacher", "--data {data} --teacher ./nowhere/at/all --student static", 4, ("no such folder",)),
    Bad("not on the hub", "--data {data} --teacher nosuch/model --student static", 4, ("pass a folder",)),
    Bad("a cnn for text", "--data {data} --teacher cnn --student static", 4, ("reads images",)),
    Bad("a text teacher for images", "--data {pictures} --teacher {bert} --student mlp", 4, ("image model",)),
    Bad("a file", "--data {data} --teacher {here}/t.safetensors --student static", 4, ("folder",),
        {"t.safetensors": "x"}),
    Bad("an empty folder", MINE, 4, ("config.json",), {"t/readme.md": "x"}),
    Bad("a pickle", MINE, 4, ("pickle", "safetensors"), spoilt(pickled)),
    Bad("a pickle by name", "--data {data} --teacher {here}/t.bin --student static", 4, ("pickle",), {"t.bin": "PK"}),
    Bad("cut short", MINE, 4, ("corrupt safetensors", "again"), spoilt(cut_short)),
    Bad("not safetensors", MINE, 4, ("corrupt safetensors",),
        spoilt(lambda t: (t / "model.safetensors").write_text("x"))),
    Bad("NaN in the weights", MINE, 4, ("NaN",), tensors(lambda held: held["classifier.weight"].fill(np.nan))),
    Bad("a layer is missing", MINE, 4, ("not in its files",),
        tensors(lambda held: held.pop("bert.encoder.layer.1.output.dense.weight"))),
    Bad("config is no JSON", MINE, 4, ("not JSON",), spoilt(lambda t: (t / "config.json").write_text("{"))),
    Bad("another width", MINE, 4, ("config.json",), config(hidden_size=48)),
    Bad("no tokenizer", MINE, 4, ("tokenizer",), spoilt(lambda t: [f.unlink() for f in t.glob("tokenizer*")])),
    Bad("code of its own", MINE, 4, ("run code",), config(auto_map={"AutoModel": "m.M"})),
    Bad("an adapter", MINE, 4, ("merge",), spoilt(lambda t: (t / "adapter_config.json").write_text("{}"))),
    Bad("an adapter alone", MINE, 4, ("is an adapter; merge it",), {"t/adapter_config.json": "{}"}),
    Bad("other labels", f"{MINE} --set teacher.fine_tune=never", 3, ("labels do not fit", "fine-tune"),
        config(id2label=NAMES, label2id={name: i for i, name in NAMES.items()})),
    Bad("no head", f"{MINE} --set teacher.fine_tune=never", 4, ("no trained head", "teacher.fine_tune=auto"),
        tensors(lambda held: [held.pop(f"classifier.{name}") for name in ("weight", "bias")])),
]  # fmt: skip

BEFORE = [*RECIPES, *DATA, *TASKS, *TEACHERS]


def test_what_no_memory_holds_is_no_bug(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    call = place.words(f"check {GOOD} --set student.hidden=9000000000000")
    refused(call, 2, ("memory ran out", "a smaller student"), capsys)


@pytest.mark.parametrize("bad", BEFORE, ids=lambda bad: bad.name)
def test_what_can_be_known_before_training_is_refused_before_it(
    bad: Bad, place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.here)
    fill(place, bad.files)
    out = place.here / "runs" / "new"
    call = [*place.words(bad.call), "--out", str(out)]
    first = refused(["check", *call], bad.code, bad.says, capsys)
    assert not out.parent.exists()  # check writes nothing
    assert refused(["distill", *call], bad.code, bad.says, capsys) == first
    stages = {path.stem for path in out.glob("stages/*.json")}
    assert stages <= {"data"}
    assert not (out / ".lock").exists()
    assert not (place.here / "pwned").exists()


def copied(place: Place) -> Path:
    """The run, its store beside it, as ``{here}/runs/text``: for calls that may leave a mark."""
    shutil.copytree(place.run.parent, place.here / "runs", dirs_exist_ok=True)
    return place.here / "runs" / place.run.name


def again(finished: Any, folder: Path, *more: str) -> list[str]:
    return [*finished.call(out=folder), *more]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


RUNS = [
    Bad("no such stage", "trian {run}", 2, ('did you mean "train"',)),
    Bad("no such option", "train {run} --frehs", 2, ("--frehs",)),
    *(
        Bad(f"{verb} of no run", f"{verb} {{here}}/nowhere", 3, ("is not a run", "understudy distill --out"))
        for verb in ("teach", "label", "train", "export", "evaluate", "report")
    ),
    Bad("report without run.json", "report {here}/r", 3, ("is not a run",), {"r/notes.txt": "x"}),
    Bad("compare without run.json", "compare {run} {here}/r", 2, ("no run.json", "understudy distill"), {"r/x": "x"}),
    Bad("compare of half a file", "compare {run} {here}/r", 3, ("not readable as JSON",),
        {"r/run.json": '{"schema": 1,'}),
    Bad("compare of another schema", "compare {here}/r", 3, ("schema 1",), {"r/run.json": '{"schema": 99}'}),
    Bad("compare of two tasks", "compare {run} {here}/r", 2, ("one task", "image-classification"),
        {"r/run.json": '{"schema": 1, "task": "image-classification", "models": {}}'}),
    Bad("predict nowhere", "predict {here} {here}/l", 3, ("no artefact",), {"l": "{}"}),
    Bad("predict without a file", "predict {run} {here}/no.jsonl", 2, ("no.jsonl",)),
    Bad("predict no JSON", "predict {run} {here}/l", 3, ("line 2 is not JSON",), {"l": '"a"\n{"text": \n'}),
    Bad("predict another column", "predict {run} {here}/l", 3, ("line 1", '"text"', "txt"), {"l": '{"txt": "a"}\n'}),
    Bad("predict null", "predict {run} {here}/l", 3, ("line 3", "null"), {"l": '"a"\n\n{"text": null}\n'}),
    Bad("predict a number", "predict {run} {here}/l", 3, ("line 1",), {"l": "7\n"}),
    Bad("predict on 0 threads", "predict {run} {here}/l --threads 0", 2, ("--threads",), {"l": '"a"\n'}),
    Bad("init over a file", "init --data {data} --out {here}/r.yaml", 2, ("already there",), {"r.yaml": "seed: 1\n"}),
    Bad("init of nothing", "init --data {here}/nothing.csv", 3, ("no folder or file",)),
    Bad("demo into a folder of yours", "demo --out {here}/mine", 3, ("holds files that are no run",),
        {"mine/thesis.tex": "x"}),
    Bad("distill into the data", f"distill {GOOD} --out {{data}}", 3, ("holds files that are no run", "--out")),
    Bad("distill into a file", f"distill {GOOD} --out {{here}}/f", 3, ("is a file",), {"f": "x"}),
    Bad("fresh over stages of yours", f"distill {GOOD} --out {{here}}/mine --fresh", 3, ("no run",),
        {"mine/stages/one.txt": "x"}),
    Bad("store inside the run", f"distill {GOOD} --out {{here}}/r --store {{here}}/r/s", 2, ("beside",)),
    *(Bad(f"{verb}: store is a file", f"{verb} {GOOD} --out {{here}}/r --store {{here}}/s", 2, ("--store", "is a file"),
        {"s": "x"}) for verb in ("check", "distill")),
    Bad("compare into a folder", "compare {run} --out {here}", 2, ("--out", "is a folder: wanted a file")),
    Bad("predict Latin-1", "predict {run} {here}/l", 3, ("line 1 is not UTF-8",), {"l": '"caf\xe9"'.encode("latin-1")}),
    Bad("an endpoint without its scheme",
        "generate --prompts {here}/q.csv --teacher HOST/v1 --model m --out {here}/a.jsonl", 2, ("https://HOST/v1",),
        {"q.csv": "prompt\na\n"}),
    Bad("texts from a classifier", "generate --prompts {here}/q.csv --teacher {bert} --out {here}/a.jsonl", 4,
        ("is a BertForSequenceClassification", "...ForCausalLM"), {"q.csv": "prompt\na\n"}),
]  # fmt: skip


@pytest.mark.parametrize("bad", RUNS, ids=lambda bad: bad.name)
def test_a_bad_call_on_runs_stores_and_artefacts(bad: Bad, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    fill(place, bad.files)
    before = tree(place.here)
    refused(place.words(bad.call), bad.code, bad.says, capsys)
    assert {name: tree(place.here).get(name) for name in before} == before


def test_there_are_as_many_as_promised() -> None:
    assert len(BEFORE) + len(RUNS) >= 100
    names = [bad.name for bad in (*BEFORE, *RUNS)]
    assert len(set(names)) == len(names)


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["static.safetensors", "understudy.json"])
def test_an_altered_artefact_is_not_used(file: str, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied(place)
    spoil(folder / "artefact" / file)
    (place.here / "rows").write_text('"my card"\n')
    refused(["predict", str(folder), str(place.here / "rows")], 3, (file,), capsys)
    (folder / "artefact" / file).unlink()
    refused(["predict", str(folder), str(place.here / "rows")], 3, (), capsys)


@pytest.mark.parametrize("file", ["artefact/understudy.json", "evidence.json"])
def test_what_was_cut_short_is_made_again(finished: Any, file: str, place: Place) -> None:
    """By the command that made it: a damaged file is no file."""
    folder = copied(place)
    path = folder / file
    path.write_bytes(path.read_bytes()[:100])
    assert run(again(finished, folder)) == 0
    assert json.loads(path.read_text()).keys() == json.loads((finished.folder / file).read_text()).keys()


def test_a_changed_recipe_is_refused_with_what_changed(
    finished: Any, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    call = again(finished, finished.folder, "--alpha", "0.5", "--set", "student.hidden=128")
    refused(call, 2, ("objective.alpha: was 0.1, now 0.5", "student.hidden: was unset, now 128", "--fresh"), capsys)


def test_a_first_try_that_failed_does_not_bind_its_recipe(
    finished: Any, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing error in the first call must not make the corrected one "a changed recipe"."""
    out = place.here / "run"
    refused([*finished.call(out=out), "--teacher", str(place.here)], 4, ("config.json",), capsys)
    refused([*finished.call(out=out), "--teacher", "./nowhere/at/all"], 4, ("no such folder",), capsys)


def another_process() -> dict[str, Any]:
    """A process that lives and is not this one."""
    return {"pid": os.getppid(), "host": socket.gethostname(), "token": "x"}


def test_a_run_that_another_process_works_on(finished: Any, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied(place)
    (folder / ".lock").write_text(json.dumps(another_process()))
    before = tree(folder)
    refused(again(finished, folder), 3, (f"process {os.getppid()}", "working on the run", "wait"), capsys)
    refused(["evaluate", str(folder)], 3, ("working on the run",), capsys)
    assert tree(folder) == before  # no stage was forgotten either


def targets(folder: Path) -> Path:
    (found,) = (folder.parent / ".store" / "targets").iterdir()
    return found


def test_a_store_that_another_process_writes(finished: Any, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied(place)
    store = targets(folder)
    (store / "lock").write_text(json.dumps(another_process()))
    for shard in store.glob("*.safetensors"):
        shard.unlink()
    call = again(finished, place.here / "runs" / "new")
    refused(call, 3, ("writing the targets", "wait"), capsys)


def test_a_teacher_that_another_process_trains(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs beside each other want the same teacher: the second must not train in the first one's checkpoints."""
    call = ["distill", "--data", str(place.pictures), "--teacher", "mlp", "--student", "mlp"]
    call += ["--set", "teacher.epochs=1", "--set", "teacher.width=2", "--set", "teacher.precision=fp32"]
    teachers = place.here / ".store" / "teachers"
    from understudy.pipeline import distill
    from understudy.pipeline.progress import Silent
    from understudy.pipeline.recipe import load_recipe

    class Stop(Silent):
        def stage(self, name: str) -> None:
            if name == "label":
                raise KeyboardInterrupt

    recipe = load_recipe(
        options={"data.path": str(place.pictures), "teacher.path": "mlp", "student.family": "mlp"},
        sets=["teacher.epochs=1", "teacher.width=2", "teacher.precision=fp32"],
    )
    with pytest.raises(KeyboardInterrupt):
        distill(recipe, place.here / "a", progress=Stop())
    (folder,) = (path for path in teachers.iterdir() if path.is_dir())
    shutil.rmtree(folder)
    (teachers / f"{folder.name}.lock").write_text(json.dumps(another_process()))
    refused([*call, "--out", str(place.here / "b")], 3, ("training this teacher", "wait"), capsys)
    assert not folder.exists()


def test_weights_that_run_away_are_6(finished: Any, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    call = [*finished.call(out=place.here / "run"), "--set", "train.learning_rate=1e30", "--set", "train.max_steps=1"]
    assert run(call) == 6
    message = said_briefly(capsys.readouterr().err)
    assert "learning rate" in message


def test_targets_of_another_teacher(finished: Any, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """By the manifest, and (where somebody swapped the shards) by asking the teacher again."""
    from understudy.files import content_hash, file_hash, read_tensors, write_tensors

    folder = copied(place)
    manifest, (shard,) = targets(folder) / "manifest.json", targets(folder).glob("*.safetensors")
    whose, held = manifest.read_text(), {name: array.copy() for name, array in read_tensors(shard).items()}
    said = json.loads(whose)
    said["identity"]["teacher"] = content_hash("somebody else")
    manifest.write_text(json.dumps(said))
    refused(again(finished, place.here / "runs" / "b"), 3, ("another teacher", "--store"), capsys)

    manifest.write_text(whose)
    held["logits"] = held["logits"][:, ::-1] + 1
    write_tensors(shard.parent / "x", held)
    (shard.parent / "x").rename(shard.parent / f"00000-{file_hash(shard.parent / 'x')}.safetensors")
    shard.unlink()
    refused(again(finished, place.here / "runs" / "c"), 3, ("another teacher's targets", "--store"), capsys)


@pytest.mark.parametrize("file", ["stages/label.json", "stages/asked.yaml", "student/model.safetensors"])
def test_a_damaged_run_says_what_to_do(
    file: str, finished: Any, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(place)
    (folder / file).write_text("{")
    message = refused(again(finished, folder), 3, (Path(file).name,), capsys)
    assert "delete" in message or "--fresh" in message


FULL = [".lock", "stages", "targets", "checkpoints", "student", "artefact"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="which file is flushed is read from /proc")
@pytest.mark.parametrize("where", FULL)
def test_a_full_disk_is_75_and_leaves_nothing_half_written(
    where: str, finished: Any, place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.fsync
    root = str(place.here / "runs")

    def full(file: int) -> None:
        path = os.readlink(f"/proc/self/fd/{file}")
        if path.startswith(root) and where in path.removeprefix(root):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(file)

    out = place.here / "runs" / "new"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        call = [*finished.call(out=out), "--set", "train.checkpoint_seconds=0"]
        code = run(call)
    err = capsys.readouterr().err
    assert code == 75, err
    message = err[err.rindex("understudy: ") :]
    assert "Traceback" not in err
    assert "full" in message or "space" in message
    left = [str(p) for p in (place.here / "runs").rglob("*") if p.suffix in (".tmp", ".new", ".old")]
    assert left == []
    assert not (out / ".lock").exists()
    assert not (out / "artefact").exists()


def test_a_rename_on_a_full_disk(
    finished: Any, place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*paths: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(paths[0]))

    folder = copied(place)
    before = tree(folder)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        assert run(["report", str(folder)]) == 75
    assert "space" in capsys.readouterr().err
    after = tree(folder)
    assert {name: after[name] for name in before if name != "log.jsonl"} == {
        name: content for name, content in before.items() if name != "log.jsonl"
    }


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read and write everything")
def test_what_may_not_be_read_or_written(finished: Any, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    closed = place.here / "closed"
    closed.mkdir(mode=0o500)
    refused(finished.call(out=closed / "run"), 2, ("closed", "ermission"), capsys)
    (place.here / "d.csv").write_text("text,label\n")
    (place.here / "d.csv").chmod(0)
    refused(finished.call("check", data=place.here / "d.csv"), 3, ("d.csv",), capsys)


def test_duplicates_across_splits_are_counted_and_no_error(
    finished: Any, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(place.data, place.here / "data"))
    rows = (data / "train.csv").read_text().splitlines()
    with (data / "test.csv").open("a") as test:
        test.write("\n".join([*rows[1:8], rows[1]]) + "\n")
    assert run(finished.call("check", out=place.here / "run", data=data)) == 0
    said = capsys.readouterr().out
    assert "8 of 108 test rows are also in train" in said
    assert "1 row of test is a repetition" in said


def test_1e_4_in_yaml_is_a_number(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """YAML 1.1 reads 1e-4 as a string; a recipe takes it for what was meant."""
    from understudy.pipeline.recipe import load_recipe

    path = place.here / "r.yaml"
    path.write_text("data: {path: d}\nstudent: {family: static}\ntrain: {learning_rate: 1e-4}\n")
    assert load_recipe(path).train.learning_rate == 1e-4


PROCESSES = [
    ("check --data {here}/no.csv --teacher {bert} --student static", 3),
    ("distill --data {data} --teacher {bert} --student statik --out {here}/r", 2),
    ("predict {run} {here}/bad", 3),
    ("predict {here}", 3),
]


@pytest.mark.parametrize(("call", "code"), PROCESSES, ids=[call for call, _ in PROCESSES])
def test_the_program_itself(call: str, code: int, place: Place) -> None:
    (place.here / "bad").write_text('{"text": 1}\n')
    command = [sys.executable, "-m", "understudy", *place.words(call)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == code, done.stderr
    said_briefly(done.stderr)
    assert done.stdout == ""
