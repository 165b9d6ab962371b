"""What the teacher's layers are worth as a start: a cut student beside the same student with random weights.

Both have the same layers, the same objective (alpha 0.1, temperature 4, the teacher's stored logits), the same rows,
steps, batches and learning rate. One starts from every other layer of the teacher with its embeddings and head, as
DistilBERT did; the other from random numbers. Measured are the training seconds until validation accuracy first reaches
a share of the teacher's (scored every few steps, scoring itself not counted), and accuracy at the end of the budget.

    python examples/initialisation.py --data DATA --teacher FOLDER

DATA is what `understudy distill --data` takes, for text. FOLDER is a fine-tuned teacher, such as the one that a run has
left in its store (`STORE/teachers/FINGERPRINT/model`). With a 6-layer, 384-wide teacher and 15,000 short texts a seed
takes two trainings of a few minutes each on one core. A quick try, whose numbers mean nothing:

    python examples/initialisation.py --data DATA --teacher FOLDER --seeds 1 --rows 2000 --epochs 1

Source: Sanh et al. 2019 (DistilBERT), arXiv 1910.01108, section 3.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy import objectives as match
from understudy import students
from understudy.cli.progress import listening
from understudy.data import Examples, load
from understudy.data.feed import Feed
from understudy.errors import UsageError
from understudy.files import write_json
from understudy.pipeline.progress import Progress
from understudy.pipeline.watching import watch
from understudy.targets import Store
from understudy.teachers import Stored, open_teacher, score_rows, scorer
from understudy.training import Settings, Step, probe, train

STARTS = {"teacher's layers": True, "random": False}
LOOKS = 24  # scores of a training, evenly spread over its steps
SCORED = 1000  # validation rows, at most


class Clock:
    """A watcher that scores the student now and then, and counts the seconds between the scores."""

    def __init__(self, student: students.Student, encoder: Any, rows: Examples, tell: Any) -> None:
        self.student, self.encoder, self.rows, self.tell = student, encoder, rows, tell
        self.curve: list[tuple[int, float, float]] = []  # step, training seconds, accuracy
        self.seconds, self.since = 0.0, time.perf_counter()

    def __call__(self, step: Step) -> None:
        if step.step % max(1, step.steps // LOOKS) == 0 or step.step == step.steps:
            self.seconds += time.perf_counter() - self.since
            self.curve.append((step.step, self.seconds, accuracy(self.student, self.encoder, self.rows)))
            self.since = time.perf_counter()
        self.tell(step)

    def first(self, wanted: float) -> tuple[int, float] | None:
        """Step and seconds at which the score was first as good; None where it never was."""
        return next(((step, seconds) for step, seconds, score in self.curve if score >= wanted), None)


def accuracy(model: Any, encoder: Any, rows: Examples) -> float:
    """Share of rows whose best logit is the label."""
    return float((score_rows(model, encoder, rows.inputs).argmax(1) == rows.labels).mean())


def some(rows: Examples, most: int | None) -> Examples:
    """So many of the rows, always the same ones."""
    return rows if most is None else rows.take(np.random.default_rng(0).permutation(len(rows))[:most])


def experiment(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Both starts, for every seed."""
    torch.set_num_threads(options.threads)
    task, splits = load(options.data, task="text-classification")
    teacher = open_teacher(options.teacher, task=task, label_names=splits.label_names)
    if teacher.label_order is not None:
        raise UsageError(f"a student cut from {options.teacher} keeps its head, whose labels are in another order")
    learnt, validation = some(splits.train, options.rows), some(splits.validation, SCORED)
    feed = Feed(learnt, {"student": teacher.encoder})
    best = accuracy(teacher.model, teacher.encoder, validation)
    progress.say(f"the teacher reaches {best:.4f} on validation")
    trial = students.Student(students.cut(teacher.model, options.layers))
    precision, sentence = probe(trial, feed, batch_size=32)
    progress.say(sentence)

    found = []
    with tempfile.TemporaryDirectory() as folder:
        progress.stage("label")
        store = Store(folder, identity={"teacher": teacher.fingerprint})
        store.write(learnt.keys, scorer(teacher.model, teacher.encoder, learnt.inputs))
        for seed in range(options.seeds):
            for start, initialise in STARTS.items():
                torch.manual_seed(seed)
                student = students.Student(students.cut(teacher.model, options.layers, initialise=initialise))
                progress.stage(f"{start}, seed {seed}")
                clock = Clock(student, teacher.encoder, validation, watch(progress, start))
                settings = Settings(
                    epochs=options.epochs, learning_rate=options.learning_rate, precision=precision, seed=seed
                )
                objective = match.shorthand(0.1, 4.0)
                train(student, feed, objective=objective, teacher=Stored(store), settings=settings, watch=clock)
                found.append({"start": start, "seed": seed, **_measured(clock, best * options.share, splits.test)})
                progress.say(f"{found[-1]}")
    return {"teacher": best, "share": options.share, "precision": sentence, "learnt": len(learnt), "trainings": found}


def _measured(clock: Clock, wanted: float, test: Examples) -> dict[str, Any]:
    reached = clock.first(wanted)
    return {
        "steps": reached and reached[0],
        "seconds": reached and round(reached[1], 1),
        "all_steps": clock.curve[-1][0],
        "all_seconds": round(clock.curve[-1][1], 1),
        "validation": clock.curve[-1][2],
        "test": accuracy(clock.student, clock.encoder, test),
    }


def table(facts: dict[str, Any]) -> str:
    """One line per training, as Markdown."""
    wanted = facts["share"] * facts["teacher"]
    lines = [
        f"| start | seed | to {100 * wanted:.1f} % on validation | budget | validation | test |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in sorted(facts["trainings"], key=lambda one: list(STARTS).index(one["start"])):
        reached = "not reached" if one["steps"] is None else f"{one['seconds']:.0f} s ({one['steps']} steps)"
        budget = f"{one['all_seconds']:.0f} s ({one['all_steps']} steps)"
        scores = " | ".join(f"{100 * one[name]:.1f} %" for name in ("validation", "test"))
        lines.append(f"| {one['start']} | {one['seed']} | {reached} | {budget} | {scores} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="D", help="folder with the texts")
    parser.add_argument("--teacher", required=True, metavar="FOLDER", help="a fine-tuned transformers model")
    parser.add_argument("--layers", type=int, default=3, metavar="N", help="layers that the student keeps")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--epochs", type=int, default=4, metavar="N")
    parser.add_argument("--learning-rate", type=float, default=1e-4, metavar="NUMBER")
    parser.add_argument("--share", type=float, default=0.95, metavar="NUMBER", help="of the teacher's accuracy")
    parser.add_argument("--rows", type=int, metavar="N", help="learn from so many rows only")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N")
    parser.add_argument("--json", metavar="OUT", help="write all facts here")
    options = parser.parse_args(arguments)
    with listening() as progress:
        facts = experiment(options, progress)
    print(table(facts))
    if options.json:
        write_json(Path(options.json), facts)


if __name__ == "__main__":
    main()
