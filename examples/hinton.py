"""Hinton's experiment of 2015: a small network learns from a large one what it was never shown.

The teacher (two layers of 1200 units, dropout) sees every digit moved by up to two pixels. The student (two layers of
800 units, no regularisation) sees digits that never move. It is trained once on the labels alone and once, from the
same start, on the teacher's softened outputs as well: what it then knows about moved digits, the soft targets told it.

    python examples/hinton.py --data MNIST

MNIST is what `understudy distill --data` takes: a folder with train, validation and test files that have a column of
images and one of labels. Three seeds take about twenty minutes on one core with AVX512-BF16. A quick try takes seconds,
and its numbers mean nothing:

    python examples/hinton.py --data MNIST --seeds 1 --rows 2000 --epochs-teacher 1 --epochs-student 1

As in the paper, everything but the test rows is learnt from (60,000 rows), and the weights of the last epoch count, so
nothing is chosen on test rows. To try other settings, `--tune` learns from the training rows and counts errors on
validation.

Source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 3. Departures: AdamW and a cosine schedule where they had
momentum, and no constraint on the teacher's weights.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from understudy import objectives as match
from understudy import students
from understudy.cli.progress import listening
from understudy.data import Examples, load
from understudy.data.feed import Feed
from understudy.data.views import shift
from understudy.files import write_json
from understudy.objectives import Term
from understudy.pipeline.progress import Progress
from understudy.pipeline.watching import watch
from understudy.targets import Store
from understudy.tasks.image_classification import pixel_encoder, pixel_statistics
from understudy.teachers import Stored, score_rows, scorer
from understudy.training import Settings, probe, train

BATCH = 128
JITTER = 2  # pixels
DROPOUT = 0.5
ALPHA = 0.1  # of the labels beside the soft targets: "considerably lower", says the paper
PAPER = {"teacher": 67, "alone": 146, "distilled": 74}


def experiment(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Three networks per seed, and their errors."""
    torch.set_num_threads(options.threads)
    _, splits = load(options.data, task="image-classification")
    learnt, judged = splits.train, splits.validation
    if not options.tune:
        learnt, judged = Examples.join([learnt, judged]), splits.test
    if options.rows:
        learnt = learnt.take(np.random.default_rng(0).permutation(len(learnt))[: options.rows])

    encoder = pixel_encoder(learnt.inputs["image"])
    still = Feed(learnt, {"student": encoder})  # decodes the pixels, once for everybody
    mean, std = pixel_statistics(still.features["student"])
    network = partial(students.Mlp, encoder.size, encoder.channels, len(splits.label_names), mean=mean, std=std)
    precision, sentence = probe(students.Student(network(width=1200)), still, batch_size=BATCH)
    progress.say(sentence)
    fit = partial(_fitted, precision=precision, progress=progress)

    found = []
    for seed in range(options.seeds):
        began = time.perf_counter()
        torch.manual_seed(seed)
        moved = copy.copy(still)  # the same pixels, seen through a view
        moved.view = partial(shift, most=JITTER, seed=seed)
        labels = [match.hard_labels()]
        large, small = network(width=1200, dropout=DROPOUT), network(width=800)
        teacher = fit("teacher", large, moved, labels, epochs=options.epochs_teacher, seed=seed)
        alone = fit("alone", copy.deepcopy(small), still, labels, epochs=options.epochs_student, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            store = Store(folder, identity={"teacher": f"seed {seed}"})
            store.write(learnt.keys, scorer(teacher, encoder, learnt.inputs))  # of digits that do not move
            distilled = fit(
                "distilled", small, still, match.shorthand(ALPHA, options.temperature),
                epochs=options.epochs_student, seed=seed, source=Stored(store),
            )  # fmt: skip
        errors = {
            who: int((score_rows(model, encoder, judged.inputs).argmax(1) != judged.labels).sum())
            for who, model in (("teacher", teacher), ("alone", alone), ("distilled", distilled))
        }
        found.append({"seed": seed, **errors, "seconds": round(time.perf_counter() - began)})
        progress.say(f"errors: {errors}")
    return {
        "learnt": len(learnt), "judged": len(judged), "temperature": options.temperature,
        "epochs": [options.epochs_teacher, options.epochs_student], "precision": sentence, "threads": options.threads,
        "seeds": found, "mean": {who: float(np.mean([one[who] for one in found])) for who in PAPER},
    }  # fmt: skip


def _fitted(
    who: str, model: nn.Module, feed: Feed, terms: Sequence[Term], *, epochs: int, seed: int, precision: str,
    progress: Progress, source: Stored | None = None,
) -> nn.Module:  # fmt: skip
    progress.stage(f"{who}, seed {seed}")
    settings = Settings(
        epochs=epochs, batch_size=BATCH, learning_rate=1e-3, schedule="cosine", weight_decay=0.0,
        precision=precision, seed=seed,
    )  # fmt: skip
    train(students.Student(model), feed, objective=terms, teacher=source, settings=settings, watch=watch(progress, who))
    return model


def table(facts: dict[str, Any]) -> str:
    """Errors as Markdown, his beside ours."""
    rows = [(f"seed {one['seed']}", one) for one in facts["seeds"]]
    rows += [(f"mean of {len(rows)}", facts["mean"]), ("Hinton 2015", PAPER)]
    lines = [f"| errors of {facts['judged']:,} | teacher | alone | distilled |", "|---|---:|---:|---:|"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(f'{row[who]:g}' for who in PAPER)} |" for name, row in rows)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="D", help="folder with the images")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--temperature", type=float, default=20.0, metavar="NUMBER", help="20, as in the paper")
    parser.add_argument("--epochs-teacher", type=int, default=25, metavar="N")
    parser.add_argument("--epochs-student", type=int, default=16, metavar="N")
    parser.add_argument("--rows", type=int, metavar="N", help="learn from so many rows only")
    parser.add_argument("--tune", action="store_true", help="count errors on validation, and do not learn from it")
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
