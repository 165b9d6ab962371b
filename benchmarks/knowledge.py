"""Every named recipe on the same task, rows, epochs and seeds, beside the twin: which knowledge is worth having?

    python benchmarks/knowledge.py clinc150 --data ../shared/data/clinc150 --teacher FOLDER --out OUT
    python benchmarks/knowledge.py cifar10 --data ../shared/data/cifar10 --out OUT
    python benchmarks/knowledge.py clinc150 --data ... --out OUT --only dkd,dist      # some of them, and the twin
    python benchmarks/knowledge.py clinc150 --out OUT --table                          # the table of what is there

A teacher that saw all training rows teaches a small student that sees few of them, and some texts or images without
their labels (``SETTINGS``); the twin, which cannot use those, makes as many steps over the labelled rows as the
student's last training does. A recipe in stages has a second twin, with the steps of all of them. Every student is
trained by ``pipeline.School``, the very code of ``understudy distill``, without export and without timing. A second
call goes on where the first one stopped: every training is a stage of a run's folder.

The difference is student minus twin in accuracy on the same test rows, a paired bootstrap over rows and seeds;
p-values are Holm's over the recipes of a task. On clinc150 the rows of the label ``oos`` take part in training and not
in the score.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from understudy.data import Examples, Splits
from understudy.files import read_tensors, write_tensors
from understudy.pipeline.apprentice import apprentice
from understudy.pipeline.journal import Journal
from understudy.pipeline.label import label
from understudy.pipeline.learn import load_module
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.opening import opened, store_of
from understudy.pipeline.recipe import NAMED, Recipe, load_recipe
from understudy.pipeline.school import School, dials, place, seeds
from understudy.pipeline.stages import load_splits, settled
from understudy.pipeline.teach import teach
from understudy.statistics import difference, holm
from understudy.tasks import Task
from understudy.teachers import Loaded, score_rows

OUTSIDE = "oos"
DRAWS = 20_000
TWIN = "twin"
FOUND, OWN = "test.safetensors", "twin.safetensors"  # what student and, in stages, its own twin said of the test rows
NO_OBJECTIVE = ("careful", "demo", "quick")  # named recipes that say nothing of what must match


@dataclass(frozen=True)
class Setting:
    """One task: options of every recipe on it, labelled rows of a class, rows without one, and what cannot be done."""

    options: dict[str, Any]
    each: int
    unlabelled: int
    cannot: tuple[str, ...] = ()


SETTINGS = {
    "clinc150": Setting(
        {"student.family": "cut", "student.layers": 2, "train.epochs": 3, "train.batch_size": 64,
         "train.learning_rate": 3e-4, "train.precision": "bf16"},
        each=20,
        unlabelled=5_000,
        cannot=("ensemble",),  # three fine-tuned teachers are an hour and a half here
    ),
    "cifar10": Setting(
        {"teacher.path": "cnn", "teacher.width": 32, "teacher.dropout": 0.1, "teacher.jitter": 4, "teacher.epochs": 8,
         "teacher.batch_size": 64, "teacher.precision": "fp32", "student.family": "cnn", "student.width": 8,
         "train.epochs": 5, "train.batch_size": 64, "train.precision": "fp32"},
        each=500,
        unlabelled=10_000,
        cannot=("pkd", "tinybert", "minilm", "ensemble"),  # they read transformers; three teachers take too long
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """One recipe on one task: its rows, its teacher and its folder."""

    material: Material
    teacher: Loaded
    kind: Apprentice


def main() -> None:
    """Trains what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=sorted(SETTINGS))
    parser.add_argument("--data", help="folder of the data")
    parser.add_argument("--teacher", help="a fine-tuned teacher's folder; the setting's own otherwise")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="names of recipes, separated by commas")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--unlabelled", type=int, help="rows without a label, where not the setting's")
    parser.add_argument("--epochs", type=int, help="passes, where not the setting's")
    parser.add_argument("--table", action="store_true", help="train nothing")
    said = parser.parse_args()
    setting, folder = _setting(said), said.out / said.task
    if not said.table:
        import torch

        torch.set_num_threads(said.threads)
        for name in [TWIN, *_recipes(said.only, setting)]:
            if not (folder / name / FOUND).is_file():
                _train(said, setting, folder / name, name)
            if name != TWIN and _in_stages(name, setting) and not (folder / name / OWN).is_file():
                _train(said, setting, folder / name, name, role=TWIN)
    print(json.dumps(table(folder), indent=1) if said.table and not sys.stdout.isatty() else as_markdown(table(folder)))


def _recipes(only: str | None, setting: Setting) -> list[str]:
    every = [name for name in NAMED if name not in (*NO_OBJECTIVE, *setting.cannot)]
    return every if only is None else [name for name in only.split(",") if name != TWIN]


def _setting(said: argparse.Namespace) -> Setting:
    setting = SETTINGS[said.task]
    options = setting.options | ({} if said.epochs is None else {"train.epochs": said.epochs})
    return replace(setting, options=options, unlabelled=said.unlabelled or setting.unlabelled)


def _in_stages(name: str, setting: Setting) -> bool:
    """Whether the student goes through a training before its last one, so that a twin of its budget trains longer."""
    return load_recipe(name, options=setting.options | {"data.path": "none"}).student.start is not None


def _train(
    said: argparse.Namespace, setting: Setting, folder: Path, name: str, *, role: Literal["student", "twin"] = "student"
) -> None:
    """All seeds of one recipe, or of the twin with its budget, and what they say of the test rows."""
    options = setting.options | {"data.path": said.data, "seeds": said.seeds, "store": str(said.out / ".store")}
    options |= {} if said.teacher is None else {"teacher.path": said.teacher}
    asked = load_recipe(None if name == TWIN else name, options=options)
    task_name, splits = load_splits(asked)
    task, recipe = settled(asked, task_name, splits)
    with opened(asked, folder, fresh=False, progress=_Lines(name)) as journal:
        here = _place(recipe, task, splits, setting, journal)
        role = "twin" if name == TWIN else role
        if role == "student" and recipe.teacher.targets == "stored":
            label(here.material, here.teacher)
        source = [here.teacher.fingerprint, here.material.splits.train.fingerprint, *dials(recipe)]
        learnt = School(here.material, here.teacher, here.kind, source).train_all([role])
        test = splits.test
        said_of = {
            str(seed): score_rows(
                load_module(place(here.material, role, seed), here.kind), here.kind.encoder, test.inputs
            )
            for seed in seeds(recipe)
        }
        facts = {str(seed): learnt[f"{role}.{seed}"] for seed in seeds(recipe)}
        if name == TWIN or role == "student":
            (folder / "facts.json").write_text(json.dumps(facts))
        teacher = score_rows(here.teacher.model, here.teacher.encoder, test.inputs, order=here.teacher.label_order)
        found = {seed: logits.argmax(1).astype(np.int64) for seed, logits in said_of.items()}
        outside = splits.label_names.index(OUTSIDE) if OUTSIDE in splits.label_names else -1
        inside = (test.labels != outside).astype(np.int64)
        more = {"teacher": teacher.argmax(1).astype(np.int64), "labels": test.labels.copy(), "inside": inside}
        write_tensors(folder / (FOUND if name == TWIN or role == "student" else OWN), found | more)


def _place(recipe: Recipe, task: Task, splits: Splits, setting: Setting, journal: Journal) -> Place:
    """The teacher of all rows, and the few rows that its students see."""
    store = store_of(recipe, journal.folder)
    whole = Material(recipe, task, splits, journal.folder, store, journal)
    teacher, _ = teach(whole)
    labelled, others = _few(splits, setting)
    few = Splits(labelled, splits.validation, splits.test, others, splits.label_names)
    material = Material(recipe, task, few, journal.folder, store, journal)
    return Place(material, teacher, apprentice(material, teacher))


def _few(splits: Splits, setting: Setting) -> tuple[Examples, Examples]:
    """The first rows of every class by content key, and others without their labels: the same for every recipe."""
    order = np.argsort(np.array(splits.train.keys), kind="stable")
    classes = range(len(splits.label_names))
    taken = np.concatenate([order[splits.train.labels[order] == label][: setting.each] for label in classes])
    rest = order[~np.isin(order, taken)][: setting.unlabelled]
    others = splits.train.take(np.sort(rest))
    return splits.train.take(np.sort(taken)), Examples.of(others.inputs)


def table(folder: Path) -> list[dict[str, Any]]:
    """One row a recipe: accuracy, difference from the twin with its interval, Holm's p, share of the gap closed."""
    twin = read_tensors(folder / TWIN / FOUND)
    keep = twin["inside"].astype(bool)
    labels, seeds_ = twin["labels"][keep], sorted(name for name in twin if name.isdigit())
    own = np.stack([twin[seed][keep] for seed in seeds_])
    teacher = float((twin["teacher"][keep] == labels).mean())
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"*/{FOUND}")):
        if path.parent.name == TWIN:
            continue
        tensors = read_tensors(path)
        theirs = np.stack([tensors[seed][keep] for seed in seeds_])
        found = difference("accuracy", labels, theirs, own, draws=DRAWS)
        facts = json.loads((path.parent / "facts.json").read_text())
        longer = _longer(path.parent / OWN, keep, labels, theirs)
        rows.append(
            {
                "recipe": path.parent.name, "accuracy": float((theirs == labels).mean()), "difference": found.value,
                "low": found.low, "high": found.high, "p": _p(found),
                "seconds": min(facts[seed]["seconds"] for seed in seeds_),
                "gap_closed": found.value / (teacher - float((own == labels).mean())),
            }
            | longer
        )  # fmt: skip
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["holm"] = float(p)
    rows.sort(key=lambda row: -row["difference"])
    alone = json.loads((folder / TWIN / "facts.json").read_text())
    seconds = min(alone[seed]["seconds"] for seed in seeds_)
    first = {"recipe": TWIN, "accuracy": float((own == labels).mean()), "seconds": seconds}
    return [{"recipe": "teacher", "accuracy": teacher}, first, *rows]


def _longer(path: Path, keep: np.ndarray, labels: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """A recipe in stages beside the twin that made as many steps as all of its stages together."""
    if not path.is_file():
        return {}
    tensors = read_tensors(path)
    twin = np.stack([tensors[seed][keep] for seed in sorted(name for name in tensors if name.isdigit())])
    found = difference("accuracy", labels, theirs, twin, draws=DRAWS)
    return {
        "own_twin": float((twin == labels).mean()),
        "own": found.value,
        "own_low": found.low,
        "own_high": found.high,
    }


def _p(found: Any) -> float:
    """Two-sided, from the width of the bootstrap's interval taken as a normal one: 20,000 draws end at 1e-4."""
    from scipy.special import ndtr

    error = (found.high - found.low) / (2 * 1.959964)
    return float(2 * ndtr(-abs(found.value) / error)) if error else 1.0


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """The table as it goes into docs/objectives.md."""
    lines = [
        "| recipe | accuracy | against the twin (95 %) | p (Holm) | gap closed | seconds |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [row["recipe"], f"{100 * row['accuracy']:.2f} %"]
        if "difference" in row:
            ends = f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}"
            cells += [
                f"{100 * row['difference']:+.2f} [{ends}]",
                f"{row['holm']:.2g}",
                f"{100 * row['gap_closed']:.0f} %",
            ]
        else:
            cells += ["", "", ""]
        cells.append(f"{row['seconds']:.0f}" if "seconds" in row else "")
        lines.append("| " + " | ".join(cells) + " |")
    for row in rows:
        if "own" in row:
            ends = f"{100 * row['own_low']:+.2f} to {100 * row['own_high']:+.2f}"
            alone = f"a twin with the steps of all its stages: {100 * row['own_twin']:.2f} %"
            lines.append(f"\n{row['recipe']}, against {alone}: {100 * row['own']:+.2f} [{ends}]")
    return "\n".join(lines)


class _Lines:
    """Progress as plain lines on stderr."""

    def __init__(self, name: str) -> None:
        self.name = name

    def stage(self, name: str) -> None:
        print(f"{self.name}: {name}", file=sys.stderr, flush=True)

    def say(self, sentence: str) -> None:
        print(f"{self.name}: {sentence}", file=sys.stderr, flush=True)

    def advance(self, done: int, total: int, **facts: float | str) -> None:
        pass


if __name__ == "__main__":
    main()
