"""Every task on real data: what a student keeps of its teacher, beside its twin and the best plain model.

    python benchmarks/tasks.py --data ../shared/data --teacher MINILM --out OUT
    python benchmarks/tasks.py --data ../shared/data --teacher MINILM --out OUT --only mrpc-cut,stsb-cut --seeds 1
    python benchmarks/tasks.py --out OUT --table                            # the table of what is there

Every line of ``RUNS`` is an ordinary ``understudy distill`` with all its stages into OUT/NAME; teachers are fine-tuned
once, in the store. A second call goes on where the first one stopped. The table has the primary metric of each task
with its 95 % interval on the test rows of the data set, from raw row to answer on one thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.cli.progress import listening
from understudy.errors import UnderstudyError
from understudy.files import read_json
from understudy.pipeline.recipe import load_recipe
from understudy.pipeline.stages import distill

NAMES = ("teacher", "baseline", "twin", "student", "artefact")
HALF = {"student.family": "cut", "student.layers": 3}
LOOKUP = {"student.family": "static", "train.learning_rate": 3e-3, "objective.temperature": 1.0, "train.epochs": 10}
SLOTS = {"data.label": "slot_tags", "teacher.epochs": 3}
PASSES = {"teacher.epochs": 6}  # 39 types, some of them rare
VIEWS = {"data.views": 2, "data.moves": ["replace_words"]}
STATES = {
    "objective.terms": [
        {"shorthand": {}},
        {"hidden_states": {"layers": "uniform", "distance": "cosine", "weight": 0.3}},
    ],
    "objective.balance": "gradients",
}  # as --recipe distilbert, less its temperature: scores are not softened
TAUGHT = {**STATES, "objective.alpha": 0.0, "train.learning_rate": 2e-4}  # by the teacher alone: no labels
TAGGER = {
    **{"student.family": "gru", "student.width": 192, "train.epochs": 6},
    **VIEWS,
}
READER = {
    **{"teacher.epochs": 1, "teacher.batch_size": 16, "teacher.precision": "bf16", "train.precision": "bf16"},
    **{"train.epochs": 5, "train.learning_rate": 2e-4, "objective.temperature": 2.0, "evaluation.latency_rows": 40},
}
QUESTIONS = {"train": 4_000, "validation": 500, "test": 1_500}  # a text of 200 words costs ten short ones
TABLES = {
    "breast_cancer": ("label", "tabular-classification"),
    "digits": ("label", "tabular-classification"),
    "diabetes": ("score", "tabular-regression"),
}  # of scikit-learn
TREES = {"teacher.path": "boosting", "student.family": "mlp"}
SHORT = 40  # words of a text of corpus_en that is about as long as a sentence


@dataclass(frozen=True)
class Line:
    """One run.

    Attributes:
        data: folder under --data.
        options: of the recipe.
        recipe: a named one, or None for labels and softened answers.
        prepared: (folder that is there, new folder) -> None, where the columns are not yet what the task reads.
    """

    data: str
    options: dict[str, Any] = field(default_factory=dict)
    prepared: Callable[[Path, Path], None] | None = None
    recipe: str | None = None


def slot_types(source: Path, folder: Path) -> None:
    """Snips with the types of slots that occur in a row, as its labels."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    for split in ("train", "validation", "test"):
        table = parquet.read_table(source / f"{split}.parquet")
        names = _names(table, "slot_tags")
        types = [
            sorted({names[tag].partition("-")[2] for tag in tags if names[tag] != "O"})
            for tags in table.column("slot_tags").to_pylist()
        ]
        parquet.write_table(pa.table({"text": table.column("text"), "labels": types}), folder / f"{split}.parquet")


def few_questions(source: Path, folder: Path) -> None:
    """Some questions of each split, drawn once and kept in their order."""
    import numpy as np
    import pyarrow.parquet as parquet

    for split, most in QUESTIONS.items():
        table = parquet.read_table(source / f"{split}.parquet")
        rows = np.sort(np.random.default_rng(0).permutation(len(table))[:most])
        parquet.write_table(table.take(rows), folder / f"{split}.parquet")


def with_short_texts(source: Path, folder: Path) -> None:
    """Pairs to measure on as they are; to learn from, their sentences and the short texts of corpus_en beside them."""
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as parquet

    pairs = parquet.read_table(source / "train.parquet")
    texts = [text for name in ("sentence1", "sentence2") for text in pairs.column(name).to_pylist()]
    more = parquet.read_table(source.parent / "corpus_en" / "train.parquet").column("text").to_pylist()
    texts += [text for text in more if len(text.split()) <= SHORT]
    parquet.write_table(pa.table({"text": list(dict.fromkeys(texts))}), folder / "train.parquet")
    for split in ("validation", "test"):
        shutil.copy(source / f"{split}.parquet", folder / f"{split}.parquet")


def with_other_pairs(source: Path, folder: Path) -> None:
    """The data as it is, and the pairs of stsb that share no text with its validation or test rows, without labels.

    Both have sentences of the Microsoft paraphrase corpus, so texts are compared by their letters and digits alone.
    """
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as parquet

    names = ("sentence1", "sentence2")

    def bare(text: str) -> str:
        return "".join(letter for letter in text.lower() if letter.isalnum())

    held: set[str] = set()
    for split in ("train", "validation", "test"):
        shutil.copy(source / f"{split}.parquet", folder / f"{split}.parquet")
        table = parquet.read_table(source / f"{split}.parquet")
        held.update(bare(text) for name in names for text in table.column(name).to_pylist() if split != "train")
    other = parquet.read_table(source.parent / "stsb" / "train.parquet").select(list(names))
    pairs = list(dict.fromkeys(zip(*(other.column(name).to_pylist() for name in names), strict=True)))
    free = [pair for pair in pairs if not any(bare(text) in held for text in pair)]
    columns = {name: list(texts) for name, texts in zip(names, zip(*free, strict=True), strict=True)}
    parquet.write_table(pa.table(columns), folder / "unlabelled.parquet")


def bundled(name: str) -> Callable[[Path, Path], None]:
    """What writes a table that comes with scikit-learn: 60 % of its rows to learn from, 20 % to choose by."""

    def write(source: Path, folder: Path) -> None:
        import numpy as np
        from sklearn import datasets

        table = getattr(datasets, f"load_{name}")(as_frame=True)
        column = TABLES[name][0]
        rows = table.data.assign(**{column: table.target})
        if column == "label":
            names = [str(one) for one in table.target_names]
            rows["label"] = [names[place] for place in table.target]
        order = np.random.default_rng(0).permutation(len(rows))
        ends = (0, int(0.6 * len(rows)), int(0.8 * len(rows)), len(rows))
        for split, begin, end in zip(("train", "validation", "test"), ends[:-1], ends[1:], strict=True):
            rows.iloc[order[begin:end]].to_parquet(folder / f"{split}.parquet", index=False)

    write.__name__ = name
    return write


def _names(table: Any, column: str) -> list[str]:
    """Names of a ClassLabel column, or of a list of them."""
    import json

    feature = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"][column]
    return list(feature.get("feature", feature)["names"])


RUNS = {
    "mrpc-cut": Line("mrpc", HALF),
    "mrpc-views": Line("mrpc", {**HALF, **VIEWS, "train.epochs": 3, "train.learning_rate": 2e-4}, recipe="distilbert"),
    "mrpc-more": Line("mrpc", HALF, with_other_pairs),
    "mrpc-more-states": Line("mrpc", {**HALF, **STATES, "train.learning_rate": 2e-4}, with_other_pairs),
    "mrpc-taught": Line("mrpc", {**HALF, **TAUGHT, **VIEWS, "train.epochs": 5}, with_other_pairs),
    "mrpc-odd-layers": Line("mrpc", {**HALF, **TAUGHT, "student.layers": [1, 3, 5]}, with_other_pairs),
    "stsb-cut": Line("stsb", HALF),
    "stsb-views": Line("stsb", {**HALF, **VIEWS, **STATES, "train.epochs": 3, "train.learning_rate": 2e-4}),
    "snips-types-static": Line("snips", {**LOOKUP, **PASSES}, slot_types),
    "squadshifts-cut": Line("squadshifts", {**HALF, **READER}, few_questions, recipe="distilbert"),
    "snips-types-cut": Line("snips", {**HALF, **PASSES}, slot_types),
    "snips-slots-gru": Line("snips", {**SLOTS, **TAGGER}),
    "snips-slots-conv": Line("snips", {**SLOTS, **TAGGER, "student.family": "conv"}),
    "wnut17-gru": Line("wnut17", TAGGER),
    "wnut17-cut": Line("wnut17", HALF),
    "stsb-vectors": Line("stsb", {"task": "sentence-embedding", "student.family": "static"}),
    **{f"table-{name}": Line("bundled", {**TREES, "task": task}, bundled(name)) for name, (_, task) in TABLES.items()},
    "stsb-vectors-more": Line("stsb", {"task": "sentence-embedding", "student.family": "static"}, with_short_texts),
}


def main() -> None:
    """Runs what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--teacher", help="folder of the encoder that is fine-tuned")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--store", type=Path, help="of teachers and targets; OUT/.store unless given")
    parser.add_argument("--only", help="names of lines, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="run nothing")
    said = parser.parse_args()
    for name in () if said.table else said.only.split(",") if said.only else RUNS:
        print(name, file=sys.stderr, flush=True)
        _run(said, name)
    print(as_markdown(said.out))


def _run(said: argparse.Namespace, name: str) -> None:
    line = RUNS[name]
    folder = said.data / line.data
    if line.prepared is not None:
        folder = said.out / "data" / f"{line.data}-{line.prepared.__name__}"
        if not folder.is_dir():
            folder.mkdir(parents=True)
            line.prepared(said.data / line.data, folder)
    options = {"teacher.path": said.teacher, "data.path": str(folder), "store": str(said.store or said.out / ".store")}
    asked = load_recipe(line.recipe, options={**options, "seeds": said.seeds, **line.options})
    try:
        with listening() as progress:
            distill(asked, said.out / name, progress=progress)
    except UnderstudyError as error:
        raise SystemExit(f"{name}: {error}") from None


def as_markdown(out: Path) -> str:
    """One line for every run that is there."""
    head = ["run", "task", "metric", "test rows", "seeds", *NAMES, "kept", "student against twin", "smaller", "faster"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * 3}{'---:|' * (len(head) - 3)}"]
    for name in RUNS:
        if (out / name / "run.json").is_file():
            lines.append(f"| {' | '.join(_cells(name, read_json(out / name / 'run.json')))} |")
    return "\n".join(lines)


def _cells(name: str, run: dict[str, Any]) -> list[str]:
    comparison, models = run["comparison"], run["models"]
    metric, gain = comparison["metric"], comparison["difference"]
    scores = [models[one]["metrics"][metric] for one in NAMES]
    return [
        f"`{name}`",
        run["task"],
        metric.replace("_", " "),
        f"{comparison['rows']:,}",
        str(comparison["seeds"]),
        *(f"{100 * s['value']:.1f} [{100 * s['low']:.1f}, {100 * s['high']:.1f}]" for s in scores),
        f"{100 * comparison['retention']:.1f} %",
        f"{100 * gain['value']:+.2f} [{100 * gain['low']:+.2f}, {100 * gain['high']:+.2f}]",
        f"{comparison['compression']:.1f}x",
        f"{comparison['speedup']:.1f}x",
    ]


if __name__ == "__main__":
    main()
