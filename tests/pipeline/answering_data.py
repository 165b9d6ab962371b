"""Tiny texts with one entity among filler words, which is the answer; a text without one has none."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.conftest import FILLERS, KEYWORDS, LABELS

ROWS = {"train": 320, "validation": 100, "test": 120}


def question(draw: random.Random, *, bare: float = 0.0, longest: int = 10) -> dict[str, Any]:
    """One row in the form of SQuAD."""
    topic = draw.choice(LABELS)
    before, behind = (" ".join(draw.choices(FILLERS, k=draw.randint(1, longest))) for _ in range(2))
    said = " ".join([draw.choice(KEYWORDS[topic][:3]), *draw.choices(KEYWORDS[topic][3:], k=draw.choice((0, 0, 1)))])
    asked = " ".join(draw.choices(FILLERS, k=3)) + "?"
    if draw.random() < bare:
        return {
            "question": asked,
            "context": f"{before}, {behind}.",
            "answers": {"text": [], "answer_start": []},
        }
    context = f"{before} {said}, {behind}."
    return {"question": asked, "context": context, "answers": {"text": [said], "answer_start": [len(before) + 1]}}


def write(folder: Path, *, seed: int = 0, unlabelled: int = 0, bare: float = 0.0) -> Path:
    """A data folder of JSON lines."""
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    for split, rows in ROWS.items():
        lines = [json.dumps(question(draw, bare=bare)) for _ in range(rows)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if unlabelled:
        rows = [question(draw, bare=bare) for _ in range(unlabelled)]
        bare_rows = [json.dumps({key: row[key] for key in ("question", "context")}) for row in rows]
        (folder / "unlabelled.jsonl").write_text("\n".join(bare_rows) + "\n", encoding="utf-8")
    return folder
