"""Tiny texts without labels: every topic has words of its own, so that what stands around a hidden one says which."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.conftest import FILLERS, KEYWORDS, LABELS

ROWS = {"train": 300, "validation": 80, "test": 80}


def text(draw: random.Random) -> str:
    """A topic's keywords, all of them in their order, with a filler word between."""
    words = [word for keyword in KEYWORDS[draw.choice(LABELS)] for word in (keyword, draw.choice(FILLERS))]
    start = draw.randint(0, 3)
    return " ".join(words[start : start + draw.randint(6, 12)])


def write(folder: Path, *, seed: int = 0) -> Path:
    """A data folder of JSON lines with one column."""
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    for split, rows in ROWS.items():
        texts: dict[str, None] = {}
        while len(texts) < rows:
            texts.setdefault(text(draw))
        lines = [json.dumps({"text": one}) for one in texts]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
