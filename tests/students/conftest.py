"""Tiny real students and teachers, one builder per public family, each with a function that makes a batch for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "num_labels": 3,
}
IMAGE = {"image_size": 16, "patch_size": 8, "num_channels": 3, "num_labels": 3}


class Case(NamedTuple):
    """A family: ``build()`` gives a module, ``rows(n)`` the inputs of n rows, as a list with one mapping per row."""

    build: Callable[[], Any]
    kind: str


def transformer(name: str, **more: Any) -> Any:
    """A model with six layers (or stages) and random weights, in eval mode. Seeded by the caller."""
    import transformers as hf

    distil = {"dim": 16, "n_layers": 6, "n_heads": 2, "hidden_dim": 32, "vocab_size": 60, "num_labels": 3}
    vision = {
        **IMAGE,
        **{k: v for k, v in TEXT.items() if k.endswith(("layers", "size", "heads")) and k != "vocab_size"},
    }
    made: dict[str, Callable[[], Any]] = {
        "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**{**TEXT, **more})),
        "roberta": lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(**{**TEXT, **more})),
        "distilbert": lambda: hf.DistilBertForSequenceClassification(hf.DistilBertConfig(**{**distil, **more})),
        "electra": lambda: hf.ElectraForSequenceClassification(hf.ElectraConfig(embedding_size=8, **{**TEXT, **more})),
        "mpnet": lambda: hf.MPNetForSequenceClassification(hf.MPNetConfig(**{**TEXT, **more})),
        "masked": lambda: hf.BertForMaskedLM(hf.BertConfig(**{**TEXT, **more})),
        "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**{**vision, **more})),
        "albert": lambda: hf.AlbertForSequenceClassification(hf.AlbertConfig(embedding_size=8, **{**TEXT, **more})),
        "resnet": lambda: hf.ResNetForImageClassification(
            hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
        ),
        "mobilenet": lambda: hf.MobileNetV2ForImageClassification(
            hf.MobileNetV2Config(depth_multiplier=0.25, image_size=32, num_labels=3)
        ),
        "t5": lambda: hf.T5ForSequenceClassification(
            hf.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=3, num_heads=2, vocab_size=60)
        ),
        "swin": lambda: hf.SwinForImageClassification(
            hf.SwinConfig(embed_dim=8, depths=[1, 1, 3], num_heads=[1, 1, 1], image_size=32, window_size=2)
        ),
    }
    return made[name]().eval()


@pytest.fixture(scope="session")
def hugging() -> Callable[..., Any]:
    """``hugging("bert", **config)`` -> a real transformers model with random weights, in eval mode."""
    return transformer


def _tokens(rows: int, seed: int) -> dict[str, Any]:
    import torch

    draw = torch.Generator().manual_seed(seed)
    mask = torch.arange(9) < torch.randint(3, 10, (rows, 1), generator=draw)
    ids = torch.randint(5, 60, (rows, 9), generator=draw)
    return {"input_ids": torch.where(mask, ids, 1), "attention_mask": mask.long()}


def _bags(rows: int, seed: int) -> dict[str, Any]:
    import torch

    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 12, (rows,), generator=draw)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return {"ids": torch.randint(0, 50, (int(offsets[-1]),), generator=draw), "offsets": offsets}


def _two_tokens(rows: int, seed: int) -> dict[str, Any]:
    return {name: value.unflatten(0, (rows, 2)) for name, value in _tokens(2 * rows, seed).items()}


def _two_bags(rows: int, seed: int) -> dict[str, Any]:
    return _bags(2 * rows, seed)


def _pixels(rows: int, seed: int, side: int = 8, channels: int = 1) -> dict[str, Any]:
    import torch

    draw = torch.Generator().manual_seed(seed)
    return {"pixels": torch.randint(0, 256, (rows, channels, side, side), generator=draw, dtype=torch.uint8)}


def _take(inputs: dict[str, Any], rows: list[int], kind: str) -> dict[str, Any]:
    import torch

    if kind == "two bags":
        rows = [text for row in rows for text in (2 * row, 2 * row + 1)]
    if "offsets" not in inputs:
        return {name: value[rows] for name, value in inputs.items()}
    ids, offsets = inputs["ids"], inputs["offsets"]
    bags = [ids[offsets[i] : offsets[i + 1]] for i in rows]
    lengths = torch.tensor([0, *map(len, bags)])
    return {"ids": torch.cat(bags), "offsets": lengths.cumsum(0)}


@pytest.fixture(scope="session")
def batch() -> Callable[..., dict[str, Any]]:
    """``batch("tokens" | "bags" | "pixels" | "colour", rows, seed)`` -> the inputs of a model of that kind.

    Of pairs ``"two tokens"`` and ``"two bags"``.
    """

    def make(kind: str, rows: int = 4, seed: int = 0) -> dict[str, Any]:
        if kind == "colour":
            return _pixels(rows, seed, side=16, channels=3)
        kinds = {"tokens": _tokens, "bags": _bags, "two tokens": _two_tokens, "two bags": _two_bags, "pixels": _pixels}
        return kinds[kind](rows, seed)

    return make


@pytest.fixture(scope="session")
def take() -> Callable[[dict[str, Any], list[int], str], dict[str, Any]]:
    """``take(inputs, rows, kind)`` -> the inputs of those rows, in that order."""
    return _take


def _families() -> dict[str, Case]:
    from understudy import students

    def cut(name: str) -> Case:
        return Case(lambda: students.cut(transformer(name)), "tokens")

    half = [0.5, 0.5, 0.5]
    return {
        "ngram": Case(lambda: students.Ngram(50, 8, 3), "bags"),
        "static": Case(lambda: students.Static(50, 8, 3, hidden=6), "bags"),
        "conv": Case(lambda: students.Conv(60, 3, dimensions=8, width=6, hidden=5), "tokens"),
        "gru": Case(lambda: students.Gru(60, 3, dimensions=8, width=6, hidden=5), "tokens"),
        "transformer": Case(
            lambda: students.Transformer(60, 3, dimensions=8, width=12, layers=1, positions=9, hidden=5), "tokens"
        ),
        "ngram of pairs": Case(lambda: students.Ngram(50, 8, 3, texts=2), "two bags"),
        "static of pairs": Case(lambda: students.Static(50, 8, 3, hidden=6, texts=2), "two bags"),
        "conv of pairs": Case(lambda: students.Conv(60, 3, dimensions=8, width=6, hidden=5, texts=2), "two tokens"),
        "gru of pairs": Case(lambda: students.Gru(60, 3, dimensions=8, width=6, hidden=5, texts=2), "two tokens"),
        "transformer of pairs": Case(
            lambda: students.Transformer(60, 3, dimensions=8, width=12, layers=1, positions=9, hidden=5, texts=2),
            "two tokens",
        ),
        "mlp": Case(lambda: students.Mlp((8, 8), 1, 3, width=12, layers=2, dropout=0.1), "pixels"),
        "linear": Case(lambda: students.Mlp((8, 8), 1, 3, layers=0, mean=[0.2], std=[0.3]), "pixels"),
        "cnn": Case(lambda: students.Cnn((8, 8), 1, 3, width=4, dropout=0.1), "pixels"),
        "depthwise cnn": Case(lambda: students.Cnn((8, 8), 1, 3, width=4, depthwise=True), "pixels"),
        "normalised": Case(lambda: students.Normalised(transformer("vit"), half, half, (16, 16)), "colour"),
        "convolutional teacher": Case(
            lambda: students.Normalised(transformer("resnet"), half, half, (16, 16)), "colour"
        ),
        "cut bert": cut("bert"),
        "cut roberta": cut("roberta"),
        "cut distilbert": cut("distilbert"),
    }


FAMILIES = (
    "ngram",
    "static",
    "conv",
    "gru",
    "transformer",
    "ngram of pairs",
    "static of pairs",
    "conv of pairs",
    "gru of pairs",
    "transformer of pairs",
    "mlp",
    "linear",
    "cnn",
    "depthwise cnn",
    "normalised",
    "convolutional teacher",
    "cut bert",
    "cut roberta",
    "cut distilbert",
)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Case:
    """Every public family in turn."""
    cases = _families()
    assert tuple(cases) == FAMILIES
    return cases[request.param]
