"""Tiny real models and data that every room's tests share: no network, no mocks, one thread.

The environment is set before torch or numpy is imported, so that workers and child processes inherit it; nothing
heavy is imported here, so that tests of layer 0 start at once.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# what a test asserts is never how busy the machine is
settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")

LABELS = ("billing", "travel", "weather", "music")
KEYWORDS = {
    "billing": ("card", "refund", "charge", "invoice", "payment", "balance"),
    "travel": ("flight", "train", "hotel", "ticket", "passport", "airport"),
    "weather": ("rain", "sunny", "storm", "cloud", "snow", "forecast"),
    "music": ("song", "album", "guitar", "playlist", "concert", "melody"),
}
FILLERS = (
    "please",
    "can",
    "you",
    "tell",
    "me",
    "about",
    "the",
    "my",
    "is",
    "what",
    "now",
    "when",
    "today",
    "i",
    "want",
)


@pytest.fixture(scope="session")
def tiny_texts() -> Callable[..., tuple[list[str], list[int]]]:
    """``tiny_texts(rows=240, seed=0)`` -> (texts, label ids): a keyword per class among filler words, all distinct.

    A linear model can learn it; classes are balanced; ids index ``tiny_labels``. Other seeds give other texts.
    """

    def build(rows: int = 240, *, seed: int = 0) -> tuple[list[str], list[int]]:
        draw = random.Random(seed)
        texts: dict[str, int] = {}
        while len(texts) < rows:
            label = len(texts) % len(LABELS)
            words = draw.choices(FILLERS, k=draw.randint(2, 12))
            for word in draw.sample(KEYWORDS[LABELS[label]], k=draw.randint(1, 2)):
                words.insert(draw.randint(0, len(words)), word)
            texts.setdefault(" ".join(words), label)
        return list(texts), list(texts.values())

    return build


@pytest.fixture(scope="session")
def tiny_labels() -> tuple[str, ...]:
    """The class names behind the ids of ``tiny_texts``."""
    return LABELS


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A real WordPiece ``PreTrainedTokenizerFast`` (about 130 entries) over the words of ``tiny_texts`` and letters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789?!.,'"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    words += [word for group in (*KEYWORDS.values(), FILLERS) for word in group]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # type: ignore[call-arg, unused-ignore]
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def _config(tokenizer: Any, **more: Any) -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,  # at this width the usual 0.02 leaves every row the same for the first hundred steps
        **more,
    )


@pytest.fixture(scope="session")
def tiny_bert(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_tokenizer: Any,
    tiny_texts: Callable[..., tuple[list[str], list[int]]],
) -> Callable[..., Path]:
    """``tiny_bert(labels=..., seed=0, steps=0)`` -> folder: BertForSequenceClassification (2 layers of 32) + tokenizer.

    ``steps`` optimiser steps on ``tiny_texts`` (80 are enough for more than 90 % accuracy, a second); the
    label names are matched by name, so a permuted ``labels`` gives a teacher with permuted columns. Read-only: built
    once per session and arguments, so copy the folder before changing it.
    """
    built: dict[object, Path] = {}

    def build(labels: Sequence[str] = LABELS, *, seed: int = 0, steps: int = 0) -> Path:
        key = (tuple(labels), seed, steps)
        if key not in built:
            import torch
            from transformers import BertForSequenceClassification

            torch.manual_seed(seed)
            names = dict(enumerate(labels))
            model = BertForSequenceClassification(
                _config(tiny_tokenizer, id2label=names, label2id={name: i for i, name in names.items()})
            )
            if steps:
                _fit(model, tiny_tokenizer, tiny_texts, labels=list(labels), steps=steps)
            folder = tmp_path_factory.mktemp("tiny_bert")
            model.save_pretrained(folder)
            tiny_tokenizer.save_pretrained(folder)
            built[key] = folder
        return built[key]

    return build


def _fit(model: Any, tokenizer: Any, tiny_texts: Any, *, labels: list[str], steps: int) -> None:
    import torch

    texts, ids = tiny_texts(240, seed=0)
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    wanted = torch.tensor([labels.index(LABELS[index]) for index in ids])
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        rows = torch.randperm(len(texts), generator=generator)[:48]
        loss = model(**{name: value[rows] for name, value in encoded.items()}, labels=wanted[rows]).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    """A folder with a BertModel (no head) and its tokenizer. Read-only."""
    import torch
    from transformers import BertModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny_encoder")
    BertModel(_config(tiny_tokenizer)).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Finished:
    """A whole run on a few hundred texts, made by the command line. Read-only: copy what is to be changed.

    Attributes:
        folder: the run; its store is ``.store`` beside it.
        data: train (240 rows), validation (80), test (100) and unlabelled (60) as CSV files.
        teacher: folder of the trained ``tiny_bert``.
        dials: the options that it was made with, beside --teacher, --data and --out.
    """

    folder: Path
    data: Path
    teacher: Path
    dials: tuple[str, ...]

    def call(self, verb: str = "distill", *, out: Path | None = None, data: Path | None = None) -> list[str]:
        """The command line that made it, or one like it."""
        named = ["--teacher", str(self.teacher), "--data", str(data or self.data), "--out", str(out or self.folder)]
        return [verb, *named, *self.dials]


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_bert: Callable[..., Path],
    tiny_texts: Callable[..., tuple[list[str], list[int]]],
) -> Finished:
    """A static student of ``tiny_bert``, distilled, exported, evaluated and reported."""
    from understudy.cli.app import run

    root = tmp_path_factory.mktemp("finished")
    (root / "data").mkdir()
    texts, ids = tiny_texts(480, seed=1)
    start = 0
    for name, rows in (("train", 240), ("validation", 80), ("test", 100), ("unlabelled", 60)):
        some = [(text, LABELS[i]) for text, i in zip(texts, ids, strict=True)][start : start + rows]
        lines = ["text", *(text for text, _ in some)] if name == "unlabelled" else None
        lines = lines or ["text,label", *(f"{text},{label}" for text, label in some)]
        (root / "data" / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        start += rows
    dials = ("--student", "static", "--epochs", "3", "--temperature", "2", "--set", "train.learning_rate=1e-2")
    dials += ("--set", "student.buckets=256", "--set", "student.dimensions=32", "--set", "evaluation.latency_rows=20")
    made = Finished(root / "runs" / "text", root / "data", tiny_bert(steps=80), dials)
    assert run(made.call()) == 0
    return made
