"""How small and how fast a student gets, and what it keeps: every claim of the README about size and speed.

    python benchmarks/compression.py --data ../shared/data --teacher MINILM --out OUT
    python benchmarks/compression.py --data ../shared/data --teacher MINILM --out OUT --only static-clinc150,int8-sst2
    python benchmarks/compression.py --data ../shared/data --out OUT --table --speed    # time it on a quiet machine
    python benchmarks/compression.py --out OUT --table                      # the tables of what is there

Every line of ``RUNS`` is an ordinary ``understudy distill`` with all its stages, three seeds, into OUT/NAME; teachers
are fine-tuned once, in the store. Lines that start with ``int8`` export a fine-tuned teacher that nobody cut, as
``understudy export`` does, and score it on the test rows. A second call goes on where the first one stopped. Sizes are
of whole artefacts, vocabulary included; ratios are to the teacher's better engine of PyTorch and ONNX Runtime in fp32,
one thread, from the raw row; ``--speed`` takes them again in one process, for a machine that was busy.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from understudy import runtime
from understudy.cli.progress import listening
from understudy.data import Splits
from understudy.errors import UnderstudyError
from understudy.evaluation import throughput
from understudy.files import read_json, write_json
from understudy.pipeline.exporting import export_model
from understudy.pipeline.forms import raw_rows, size, to_graph, write_plain
from understudy.pipeline.recipe import load_recipe
from understudy.pipeline.stages import distill, load_splits
from understudy.pipeline.timing import declared_threads, spread
from understudy.tasks import task_named
from understudy.teachers import Loaded, open_teacher

CALLS = 100_000  # of the runtime, one text at a time
SECONDS = 3.0  # that a throughput is measured for, at least
OUTSIDE = "oos"
UNLABELLED = {"sst2": "movie_reviews", "ag_news": "abc"}  # sources in corpus_en; sst2 reads them sentence by sentence
SENTENCES, SHORTEST, LONGEST = 50_000, 3, 45


@dataclass(frozen=True)
class Line:
    """One run.

    Attributes:
        data: folder under --data.
        options: of the recipe.
        unlabelled: whether texts of corpus_en are there to learn from.
        recipe: the named one that the options change.
    """

    data: str
    options: dict[str, Any] = field(default_factory=dict)
    unlabelled: bool = False
    recipe: str | None = None


VIEWS = {"data.views": 4, "data.moves": ["replace_words"]}  # other words, that the teacher takes to be near ones
LOOKUP = {"objective.temperature": 1.0, "train.epochs": 7, "train.batch_size": 128}
STATIC = {**LOOKUP, "student.family": "static", "train.learning_rate": 3e-3}
SMALL = {**STATIC, "student.dimensions": 64, "train.learning_rate": 4e-3, "export.bits": 4}
TINY = {**LOOKUP, "student.family": "ngram", "train.learning_rate": 1e-2, "export.bits": 4}
RUNS = {
    "static-clinc150": Line("clinc150", {**STATIC, **VIEWS, "student.dimensions": 128}),
    "small-clinc150": Line("clinc150", {**SMALL, **VIEWS}),
    "tiny-clinc150": Line("clinc150", {**TINY, **VIEWS, "student.dimensions": 48, "student.buckets": 3072}),
    "static-ag_news": Line("ag_news", {**STATIC, **VIEWS, "student.dimensions": 128, "student.words": 20_000}),
    "small-ag_news": Line(
        "ag_news", {**SMALL, "student.words": 12_000, "student.buckets": 8192}, unlabelled=True
    ),
    "tiny-ag_news": Line(
        "ag_news", {**TINY, "student.dimensions": 32, "student.buckets": 16_384}, unlabelled=True
    ),
    "static-sst2": Line(
        "sst2",
        {**STATIC, "student.dimensions": 64, "student.words": 16_000,
         "train.epochs": 3, "teacher.epochs": 2},
        unlabelled=True,
    ),
    "gru-sst2": Line(
        "sst2",
        {"student.family": "gru", "student.words": 16_000, "objective.temperature": 1.0, "train.epochs": 6,
         "train.batch_size": 128, "train.learning_rate": 3e-3, "teacher.epochs": 2},
        unlabelled=True,
    ),
    "cnn-cifar10": Line(
        "cifar10",
        {"teacher.path": "cnn", "teacher.width": 32, "teacher.dropout": 0.1, "teacher.jitter": 4, "teacher.epochs": 8,
         "teacher.batch_size": 64, "teacher.precision": "fp32", "student.family": "cnn", "student.width": 16,
         "train.epochs": 6, "train.precision": "fp32"},
        recipe="dist",
    ),
}  # fmt: skip
NAMES = ("teacher", "baseline", "twin", "artefact")
INT8 = ("clinc150", "ag_news", "sst2")


def main() -> None:
    """Runs what is missing, then prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--teacher", help="folder of the encoder that is fine-tuned")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--store", type=Path, help="of teachers and targets; OUT/.store unless given")
    parser.add_argument("--only", help="names of lines, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--speed", action="store_true", help="time what is there once more: on a quiet machine")
    said = parser.parse_args()
    names = said.only.split(",") if said.only else [*RUNS, *(f"int8-{data}" for data in INT8)]
    for name in names if not said.table else ():
        print(name, file=sys.stderr, flush=True)
        if name.startswith("int8-"):
            _int8(said, name.removeprefix("int8-"))
        else:
            _run(said, name)
    for name in RUNS if said.speed else ():
        if (said.out / name / "run.json").is_file() and RUNS[name].data in INT8:
            _speed(said, name)
    print(as_markdown(said.out))


def _run(said: argparse.Namespace, name: str) -> None:
    """A whole run."""
    line, out = RUNS[name], said.out / name
    folder = _with_texts(said, line.data) if line.unlabelled else said.data / line.data
    options = {"teacher.path": said.teacher, "data.path": str(folder), "store": str(said.store or said.out / ".store")}
    asked = load_recipe(line.recipe, options={**options, "seeds": said.seeds, **line.options})
    try:
        with listening() as progress:
            distill(asked, out, progress=progress)
    except UnderstudyError as error:
        raise SystemExit(f"{name}: {error}") from None


def _with_texts(said: argparse.Namespace, data: str) -> Path:
    """A data folder with texts of corpus_en beside its labelled rows."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    folder = said.out / "data" / data
    if (folder / "unlabelled.parquet").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "validation", "test"):
        (folder / f"{part}.parquet").write_bytes((said.data / data / f"{part}.parquet").read_bytes())
    rows = parquet.read_table(said.data / "corpus_en" / "train.parquet").to_pylist()
    texts = [row["text"] for row in rows if row["source"] == UNLABELLED[data]]
    if data == "sst2":
        texts = _sentences(texts)
    parquet.write_table(pa.table({"text": texts}), folder / "unlabelled.parquet")
    return folder


def _sentences(texts: list[str]) -> list[str]:
    """Sentences of some words each, in a fixed order that is not the reviews'."""
    found = [sentence.strip() for text in texts for sentence in re.split(r"(?<=[.!?])\s+", text)]
    some = [sentence for sentence in found if SHORTEST <= len(sentence.split()) <= LONGEST]
    return [some[i] for i in np.random.default_rng(0).permutation(len(some))[:SENTENCES]]


def _speed(said: argparse.Namespace, name: str) -> None:
    """Rows per second of an artefact, and of its teacher on both engines, in this process; and one text at a time.

    The teacher's fp32 graph is the one that ``int8-DATA`` wrote. Rows of the test split, sorted by length.
    """
    line, out = RUNS[name], said.out / name
    splits, loaded = _rows_and_teacher(said, line.data)
    texts = list(splits.test.inputs["text"])
    some = sorted(spread(texts, 4096), key=len)
    few = spread(some, 512)
    with declared_threads(1):
        graph, artefact = (runtime.load(place, threads=1) for place in (said.out / f"int8-{line.data}" / "fp32", out))
        found = {
            "onnxruntime": _best(graph.logits, few, batches=(32,)),
            "torch": _best(lambda some: loaded.scores({"text": some}), few, batches=(32,)),
            "artefact": _best(lambda some: artefact.logits(some, batch=len(some)), some, batches=(32, 256, 4096)),
        }
        write_json(out / "speed.json", found | calls(artefact.label, texts))


def _best(predict: Any, texts: list[str], *, batches: tuple[int, ...]) -> float:
    return max(throughput(predict, texts, batch=size, threads=1, seconds=SECONDS)["value"] for size in batches)


def calls(label: Any, texts: list[str]) -> dict[str, float]:
    """Microseconds from a Python string to its label, one text a call, over ``CALLS`` calls."""
    for text in texts[:2000]:
        label(text)
    taken = np.empty(CALLS)
    for call in range(CALLS):
        text = texts[call % len(texts)]
        began = time.perf_counter_ns()
        label(text)
        taken[call] = time.perf_counter_ns() - began
    return {f"p{p}": float(np.percentile(taken, p)) / 1e3 for p in (50, 99)}


def _int8(said: argparse.Namespace, data: str) -> None:
    """The teacher that the runs of one data set share, exported as it is: accuracy on test, and speed."""
    out = said.out / f"int8-{data}"
    with listening() as progress:
        facts = export_model(_teacher_of(said, data), said.data / data, out / "export", progress=progress)
    splits, loaded = _rows_and_teacher(said, data)
    rows = raw_rows(splits.test)
    graph = out / "fp32.onnx"
    to_graph(loaded.model, loaded.encoder, splits.validation, graph)
    write_plain(out / "fp32", task_named("text-classification"), splits, loaded, graph)
    graph.unlink()
    labels = splits.test.labels
    keep = np.array([splits.label_names[label] != OUTSIDE for label in labels])
    right = {"fp32": loaded.scores(splits.test.inputs).argmax(1) == labels}
    small = out / "export" / facts["folder"]
    right["int8"] = np.array(runtime.load(small).labels_of(rows)) == np.array(splits.label_names)[labels]
    few = sorted((row["text"] for row in spread(rows, 512)), key=len)
    with declared_threads(1):
        speeds = {"torch": _best(lambda some: loaded.scores({"text": some}), few, batches=(32,))}
        for name, place in (("fp32", out / "fp32"), ("int8", small)):
            speeds[name] = _best(runtime.load(place, threads=1).logits, few, batches=(32,))
    found = {name: int(one[keep].sum()) for name, one in right.items()}
    found |= {"rows": int(keep.sum()), "bytes": size(small), "fp32_bytes": size(out / "fp32")}
    write_json(out / "test.json", {**found, "rung": facts["rung"], "rows_per_s": speeds})


def _rows_and_teacher(said: argparse.Namespace, data: str) -> tuple[Splits, Loaded]:
    """A data set, and the teacher that its runs share, whose columns are in the data's order of labels."""
    _, splits = load_splits(load_recipe(options={"data.path": str(said.data / data), "student.family": "cut"}))
    teacher = open_teacher(_teacher_of(said, data), task="text-classification", label_names=splits.label_names)
    return splits, teacher


def _teacher_of(said: argparse.Namespace, data: str) -> Path:
    """Folder of the fine-tuned teacher that a finished run on these data used."""
    for name, line in RUNS.items():
        found = said.out / name / "stages" / "teach.json"
        if line.data == data and found.is_file() and (folder := read_json(found)["facts"].get("folder")):
            return Path(said.store or said.out / ".store") / folder / "model"
    raise SystemExit(f"int8-{data}: no run on {data} is there whose teacher could be taken; run one of its lines first")


def rows_of(out: Path) -> list[dict[str, Any]]:
    """One row a finished run, from its run.json alone."""
    return [_row(out / name) for name in RUNS if (out / name / "run.json").is_file()]


def _row(folder: Path) -> dict[str, Any]:
    facts = read_json(folder / "run.json")
    models, against = facts["models"], facts["comparison"]
    scope = against["in_scope"]
    if scope:
        accuracy = {name: scope["models"][name]["value"] for name in NAMES}
    else:
        accuracy = {name: models[name]["metrics"][against["metric"]]["value"] for name in NAMES}
    spent = {one["name"]: one["seconds"] for one in facts["stages"]}
    seeds = facts["recipe"]["seeds"]
    each = facts["cost"]["train_seconds"] / seeds + sum(spent.get(name, 0.0) for name in ("views", "tune", "export"))
    speed = read_json(folder / "speed.json") if (folder / "speed.json").is_file() else None
    return {
        "run": folder.name,
        "seeds": seeds,
        "accuracy": accuracy,
        "gain": (scope or against)["difference"],
        "retention": accuracy["artefact"] / accuracy["teacher"],
        "bytes": models["artefact"]["bytes"],
        "smaller": against["compression"],
        "faster": speed["artefact"] / max(speed["torch"], speed["onnxruntime"]) if speed else against["speedup"],
        "seconds": facts["cost"]["label_seconds"] + each,
        "speed": speed,
    }


def as_markdown(out: Path) -> str:
    """The tables as they go into docs/students.md."""
    lines = [
        "| run | seeds | teacher | baseline | twin | artefact | kept | student against twin (95 %) | kB | smaller "
        "| faster | p50 / p99 | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows_of(out):
        value, low, high = (100 * row["gain"][end] for end in ("value", "low", "high"))
        cells = [f"`{row['run']}`", str(row["seeds"]), *(f"{100 * row['accuracy'][name]:.2f}" for name in NAMES)]
        cells += [f"{100 * row['retention']:.1f} %", f"{value:+.2f} [{low:+.2f} to {high:+.2f}]"]
        cells += [f"{row['bytes'] / 1e3:,.0f}", f"{row['smaller']:.1f}x", f"{row['faster']:.1f}x"]
        cells += [f"{row['speed']['p50']:.1f} / {row['speed']['p99']:.1f} µs" if row["speed"] else ""]
        lines.append("| " + " | ".join([*cells, f"{row['seconds']:.0f}"]) + " |")
    found = {data: read_json(out / f"int8-{data}" / "test.json") for data in INT8 if _there(out, data)}
    if found:
        lines += [
            "",
            "| INT8 of the teacher | test rows | fp32 | INT8 | points lost | MB | faster than fp32 |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        pooled = {name: sum(one[name] for one in found.values()) for name in ("rows", "fp32", "int8")}
        for name, one in [*found.items(), ("pooled", pooled)]:
            fp32, int8 = (100 * one[key] / one["rows"] for key in ("fp32", "int8"))
            cells = [name, f"{one['rows']:,}", f"{fp32:.2f}", f"{int8:.2f}", f"{fp32 - int8:+.2f}"]
            if "bytes" in one:
                speed = one["rows_per_s"]
                ratio = speed["int8"] / max(speed["fp32"], speed["torch"])
                cells += [f"{one['fp32_bytes'] / 1e6:.1f} to {one['bytes'] / 1e6:.1f}", f"{ratio:.2f}x"]
            else:
                cells += ["", ""]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _there(out: Path, data: str) -> bool:
    return (out / f"int8-{data}" / "test.json").is_file()


if __name__ == "__main__":
    main()
