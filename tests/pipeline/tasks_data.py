"""Tiny rows for every task: made of the words of the tiny models, so that a few hundred of them teach something."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.conftest import FILLERS, KEYWORDS, LABELS

ROWS = {"train": 320, "validation": 100, "test": 120}


def text_of(draw: random.Random, *topics: str) -> str:
    words = draw.choices(FILLERS, k=draw.randint(2, 6))
    for topic in topics:
        for word in draw.sample(KEYWORDS[topic], k=draw.randint(1, 2)):
            words.insert(draw.randint(0, len(words)), word)
    return " ".join(words)


def value(text: str) -> float:
    """Words of billing make a text dear, words of music make it cheap."""
    words = text.split()
    return sum(w in KEYWORDS["billing"] for w in words) - 0.5 * sum(w in KEYWORDS["music"] for w in words)


def pair(draw: random.Random) -> dict[str, Any]:
    """Are both texts together about money? Neither says it alone."""
    topics = ("billing", "travel") if draw.random() < 0.5 else ("music", "weather")
    first, second = draw.sample(topics, k=2)
    row = {"sentence1": text_of(draw, first), "sentence2": text_of(draw, second)}
    return row | {"label": "money" if "billing" in topics else "other"}


def score(draw: random.Random) -> dict[str, Any]:
    text = text_of(draw, *draw.sample(LABELS, k=draw.randint(1, 3)))
    return {"text": text, "score": 20 + 4 * value(text) + draw.gauss(0, 0.3)}


def near(draw: random.Random) -> dict[str, Any]:
    first, second = (text_of(draw, *draw.sample(LABELS, k=2)) for _ in range(2))
    return {"sentence1": first, "sentence2": second, "score": value(first) + value(second) + draw.gauss(0, 0.1)}


def several(draw: random.Random) -> dict[str, Any]:
    """Which topics a text is about: none to three."""
    topics = sorted(draw.sample(LABELS, k=draw.choice((0, 1, 1, 2, 2, 3))))
    return {"text": text_of(draw, *topics), "labels": topics}


KINDS = {"pair": pair, "score": score, "near": near, "several": several}


def write(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """A data folder of JSON lines."""
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    for split, rows in ROWS.items():
        lines = [json.dumps(KINDS[kind](draw)) for _ in range(rows)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
