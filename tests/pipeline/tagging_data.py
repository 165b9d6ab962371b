"""Tiny sentences whose words have tags: half of a topic's keywords begin an entity, the others may follow one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.conftest import FILLERS, KEYWORDS, LABELS

ROWS = {"train": 320, "validation": 100, "test": 120}


def sentence(draw: random.Random) -> dict[str, Any]:
    """Filler words, and among them one to three entities of one or two words."""
    words: list[str] = []
    tags: list[str] = []
    for _ in range(draw.randint(1, 3)):
        fillers = draw.choices(FILLERS, k=draw.randint(1, 4))
        topic = draw.choice(LABELS)
        entity = [draw.choice(KEYWORDS[topic][:3]), *draw.choices(KEYWORDS[topic][3:], k=draw.choice((0, 0, 1)))]
        words += [*fillers, *entity]
        tags += ["O"] * len(fillers) + [f"{'BI'[i > 0]}-{topic}" for i in range(len(entity))]
    return {"tokens": words, "tags": tags}


def write(folder: Path, *, seed: int = 0, unlabelled: int = 0) -> Path:
    """A data folder of JSON lines."""
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    for split, rows in ROWS.items():
        lines = [json.dumps(sentence(draw)) for _ in range(rows)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if unlabelled:
        bare = [json.dumps({"tokens": sentence(draw)["tokens"]}) for _ in range(unlabelled)]
        (folder / "unlabelled.jsonl").write_text("\n".join(bare) + "\n", encoding="utf-8")
    return folder
