"""Distil the encoder first and fine-tune it then, or distil the fine-tuned teacher: what does the same budget buy?

One general teacher, one shape of student (3 of its 6 layers), five ways to a small model of a task:

    specific         the teacher is fine-tuned on the task, and teaches a student that is cut from it
    agnostic         a student that is cut from the general teacher learns from it on a corpus (masked-language-model,
                     the recipe of DistilBERT), and is then fine-tuned on the task without any teacher
    both             the same student, taught by the fine-tuned teacher on the task
    neither          a student that is cut from the general teacher, and fine-tuned on the task alone
    tuned layers     as "specific", cut from the fine-tuned teacher, but trained on the labels alone

    python examples/agnostic_or_specific.py --teacher ENCODER --data ROOT --corpus CORPUS --out RUNS

ENCODER is a folder of a general encoder, ROOT has a data folder for each task (sst2 and mrpc, each as `understudy
distill --data` takes it), CORPUS one of texts. "agnostic" is the twin of "both", and "tuned layers" the twin of
"specific"; all are measured on the same test rows.

The budget is optimiser steps of 32 rows. A student on the agnostic road makes those of the corpus and those of
fine-tuning; one that learns from the task alone makes as many, all of them there. Steps are not seconds: those on the
corpus ask the teacher live, and say a whole vocabulary; the table has both. What is shared by all seeds stands apart:
a head for the corpus, a fine-tuned teacher for each task.

Every run is a folder under RUNS and resumes or is reused, so the same command adds seeds; a JSON file there has all
numbers. Tasks may run side by side (`--tasks sst2` here, `--tasks mrpc` there) once the corpus has its students
(`--tasks` without a name). Rows are a sample, and said. A quick try, whose numbers mean nothing:

    ... --seeds 1 --corpus-rows 400 --rows 400 --epochs 1

Source: Sanh et al. 2019 (DistilBERT), arXiv 1910.01108; Turc et al. 2019, arXiv 1908.08962, on the order of both.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import understudy as us
from understudy.data import Examples, Splits, load
from understudy.data.feed import Feed
from understudy.files import read_json, write_json, write_text
from understudy.objectives import hard_labels
from understudy.students import Student, cut
from understudy.tasks import LAYOUTS
from understudy.tasks.text_classification import subword_encoder
from understudy.teachers import open_teacher, score_rows
from understudy.training import Settings, probe, train

TASK = "masked-language-model"
BATCH, TESTED = 32, 2000
ROADS = {
    "specific": ("specific", "student"), "agnostic": ("both", "twin"), "both": ("both", "student"),
    "tuned layers": ("specific", "twin"),
}  # fmt: skip
"""Road -> run, and model of that run; "neither" is trained here."""
NEITHER = "neither"
PAIRS = (("agnostic", "specific"), ("both", "specific"), ("agnostic", "neither"), ("specific", "neither"))


def sampled(source: str, out: Path, *, rows: int, task: str | None = None) -> tuple[Path, int]:
    """At most so many training rows of a data folder, and of the others, as files of their own; and how many."""
    _, splits = load(source, task=task, layouts=LAYOUTS)
    most = {"train": rows, "validation": max(100, rows // 10), "test": TESTED}
    count = 0
    for name, limit in most.items():
        part: Examples = getattr(splits, name)
        some = part.take(np.sort(np.random.default_rng(0).permutation(len(part))[:limit]))
        count = len(some) if name == "train" else count
        write_text(out / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in _rows(some, splits)))
    return out, count


def _rows(part: Examples, splits: Splits) -> list[dict[str, Any]]:
    names, columns = list(part.inputs), zip(*part.inputs.values(), strict=True)
    found = [dict(zip(names, values, strict=True)) for values in columns]
    if splits.label_names:
        return [{**row, "label": splits.label_names[k]} for row, k in zip(found, part.labels.tolist(), strict=True)]
    return found


def steps_of(rows: int, epochs: int) -> int:
    """Optimiser steps."""
    return epochs * -(-rows // BATCH)


def experiment(options: argparse.Namespace) -> dict[str, Any]:
    """Every run that is not there yet, and what all of them say."""
    out = Path(options.out)
    common: dict[str, Any] = {
        "teacher": options.teacher, "student": "cut", "student__layers": options.layers, "store": str(out / "store"),
        "train__batch_size": BATCH, "evaluation__latency_rows": 50,
    }  # fmt: skip
    corpus, texts = sampled(options.corpus, out / "data" / "corpus", rows=options.corpus_rows, task=TASK)
    before = steps_of(texts, options.corpus_epochs)
    general, specific = {}, []
    for seed in range(options.seeds):
        general[seed] = us.distill(
            data=corpus, out=out / f"corpus-{seed}", recipe="distilbert", task=TASK, seed=seed,
            data__limit=options.limit, teacher__epochs=options.corpus_epochs, train__epochs=options.corpus_epochs,
            train__learning_rate=options.corpus_rate, **common,
        )  # fmt: skip
    for task in options.tasks:
        data, rows = sampled(str(Path(options.data) / task), out / "data" / task, rows=options.rows)
        own = steps_of(rows, options.epochs)
        for seed in range(options.seeds):
            dials = {**common, "data": data, "seed": seed, "teacher__epochs": options.epochs}
            both = us.distill(
                out=out / f"{task}-both-{seed}", student__folder=str(general[seed].folder / "student"),
                train__epochs=options.epochs, **{**dials, "student__layers": None},
            )  # fmt: skip
            alone = us.distill(
                out=out / f"{task}-specific-{seed}", train__epochs=-(-(before + own) * BATCH // rows),
                train__max_steps=before + own, **dials,
            )  # fmt: skip
            bare = neither(options, data, out / f"{task}-neither-{seed}", seed=seed, steps=before + own)
            runs = {"both": both.facts, "specific": alone.facts}
            steps = {"corpus": before, "task": own}
            specific.append({"task": task, "seed": seed, "rows": rows, "steps": steps, **_said(runs, bare)})
    return {
        "corpus": {"texts": texts, "steps": before, "seeds": [_corpus(general[seed].facts) for seed in general]},
        "layers": options.layers, "epochs": options.epochs, "runs": specific,
    }  # fmt: skip


def neither(options: argparse.Namespace, data: Path, out: Path, *, seed: int, steps: int) -> dict[str, Any]:
    """A cut of the general teacher that is fine-tuned on a task and hears no teacher: accuracy on test, and seconds."""
    if (out / "facts.json").is_file():
        found: dict[str, Any] = read_json(out / "facts.json")
        return found
    task, splits = load(data, layouts=LAYOUTS)
    general = open_teacher(
        options.teacher, task=task, label_names=splits.label_names, head="new", seed=seed, fields=splits.fields
    )
    theirs: Any = general.encoder
    encoder = subword_encoder(
        general.tokenizer, splits.train.inputs, positions=general.positions, token_types=theirs.token_types
    )
    student = Student(cut(general.model, options.layers))
    feed = Feed(splits.train, {"student": encoder})

    def accuracy(model: Any, rows: Examples) -> float:
        inner = getattr(model, "module", model)
        return float((score_rows(inner, encoder, rows.inputs).argmax(1) == rows.labels).mean())

    settings = Settings(
        epochs=-(-steps * BATCH // len(feed)), max_steps=steps, batch_size=BATCH, learning_rate=1e-4, seed=seed,
        precision=probe(student, feed, batch_size=BATCH)[0],
    )  # fmt: skip
    done = train(
        student, feed, objective=[hard_labels()], settings=settings, folder=out / "checkpoints",
        validate=lambda model: accuracy(model, splits.validation),
    )  # fmt: skip
    facts = {"accuracy": accuracy(student, splits.test), "seconds": done.seconds, "steps": done.steps}
    write_json(out / "facts.json", facts)
    shutil.rmtree(out / "checkpoints")
    return facts


def _corpus(facts: Mapping[str, Any]) -> dict[str, Any]:
    losses = {name: one["metrics"]["masked_loss"]["value"] for name, one in facts["models"].items()}
    seconds = {name: facts["cost"][f"{name}_seconds"] for name in ("teach", "train")}
    return {"masked_loss": losses, "seconds": seconds, "distillation": facts["verdict"]["distillation"]}


def _said(runs: Mapping[str, Mapping[str, Any]], bare: Mapping[str, Any]) -> dict[str, Any]:
    metric = "accuracy"
    reached = {road: runs[run]["models"][model]["metrics"][metric]["value"] for road, (run, model) in ROADS.items()}
    seconds = {
        road: runs[run]["cost"]["twin_seconds" if model == "twin" else "train_seconds"]
        for road, (run, model) in ROADS.items()
    }
    teacher = runs["both"]["models"]["teacher"]["metrics"][metric]["value"]
    return {
        "metric": metric, "teacher": teacher,
        "reached": reached | {NEITHER: bare[metric]}, "seconds": seconds | {NEITHER: bare["seconds"]},
        "teach_seconds": max(one["cost"]["teach_seconds"] for one in runs.values()),
        "test_rows": runs["both"]["data"]["test"]["rows"],
    }  # fmt: skip


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval by Student's t; NaN of one value.

    >>> interval([1.0, 1.0])
    (1.0, 0.0)
    """
    from scipy.stats import t

    many = len(values)
    spread = float(np.std(values, ddof=1) / np.sqrt(many)) if many > 1 else float("nan")
    return float(np.mean(values)), float(t.ppf(0.975, max(many - 1, 1)) * spread)


def table(facts: Mapping[str, Any]) -> str:
    """Markdown: of each task every road, with its steps and seconds, and paired differences over the seeds."""
    corpus = facts["corpus"]
    losses = {name: float(np.mean([one["masked_loss"][name] for one in corpus["seeds"]])) for name in ROLES}
    first = float(np.mean([one["seconds"]["train"] for one in corpus["seeds"]]))
    lines = [
        f"corpus: {corpus['texts']:,} texts, {corpus['steps']:,} steps, {first:,.0f} s a student; masked loss "
        + ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()),
        "",
    ]
    for task in dict.fromkeys(one["task"] for one in facts["runs"]):
        runs = [one for one in facts["runs"] if one["task"] == task]
        steps, metric = runs[0]["steps"], runs[0]["metric"]
        lines += [f"| {task}, {metric}, {len(runs)} seeds | mean | 95 % | steps: corpus + task | seconds |",
                  "|---|---:|---:|---:|---:|"]  # fmt: skip
        lines.append(f"| teacher, fine-tuned | {100 * runs[0]['teacher']:.1f} | | | {runs[0]['teach_seconds']:,.0f} |")
        for road in (*ROADS, NEITHER):
            mean, half = interval([one["reached"][road] for one in runs])
            general = road in ("agnostic", "both")
            made = f"{steps['corpus']:,} + {steps['task']:,}" if general else f"0 + {sum(steps.values()):,}"
            spent = float(np.mean([one["seconds"][road] for one in runs])) + first * general
            lines.append(f"| {road} | {100 * mean:.1f} | ± {100 * half:.1f} | {made} | {spent:,.0f} |")
        for ours, theirs in PAIRS:
            mean, half = interval([one["reached"][ours] - one["reached"][theirs] for one in runs])
            lines.append(f"| {ours} - {theirs} | {100 * mean:+.1f} | ± {100 * half:.1f} | | |")
        lines.append("")
    return "\n".join(lines).rstrip()


ROLES = ("teacher", "student", "twin", "baseline")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, metavar="ENCODER", help="folder of a general encoder")
    parser.add_argument("--data", required=True, metavar="ROOT", help="folder with a data folder for each task")
    parser.add_argument("--corpus", required=True, metavar="D", help="folder with texts")
    parser.add_argument("--out", required=True, metavar="RUNS", help="where runs are kept")
    parser.add_argument("--tasks", nargs="*", default=["sst2", "mrpc"], metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--layers", type=int, default=3, metavar="N", help="of the student")
    parser.add_argument("--corpus-rows", type=int, default=4000, metavar="N")
    parser.add_argument("--corpus-epochs", type=int, default=2, metavar="N", help="for the head, and for each student")
    parser.add_argument("--corpus-rate", type=float, default=5e-4, metavar="NUMBER", help="peak learning rate there")
    parser.add_argument("--limit", type=int, default=64, metavar="N", help="sub-words of a text of the corpus")
    parser.add_argument("--rows", type=int, default=2000, metavar="N", help="training rows of a task")
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="on a task, after the corpus")
    options = parser.parse_args(arguments)
    facts = experiment(options)
    name = Path(options.out) / f"agnostic_or_specific{'-'.join(['', *options.tasks])}.json"
    write_json(name, facts)
    print(table(read_json(name)))


if __name__ == "__main__":
    main()
