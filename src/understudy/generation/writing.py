"""The table, what was taken out of it, the facts, and the card: each file whole or not there."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.endpoints.asked import Answer, Job
from understudy.errors import DataError
from understudy.files import write_bytes, write_json, write_text
from understudy.generation.card import card
from understudy.generation.prompts import Prompts

OWN = ("prompt", "completion", "model", "finish_reason", "tokens_in", "tokens_out", "sample")


@dataclass(frozen=True, eq=False)
class Made:
    """Everything that rows are made of: ``there`` are places in ``jobs`` with an answer, ``reasons`` one for each."""

    asked: Prompts
    jobs: Sequence[Job]
    answers: Mapping[str, Answer]
    there: Sequence[int]
    reasons: Sequence[str | None]
    samples: int

    def row(self, place: int) -> dict[str, Any]:
        """One row: our columns, then those of the input; one of the same name is ``given_NAME``."""
        which = place // self.samples
        answer = self.answers[self.jobs[place].key]
        own = (
            self.asked.prompts[which], answer.text, answer.model, answer.finish_reason, answer.tokens_in,
            answer.tokens_out, self.jobs[place].sample,
        )  # fmt: skip
        row: dict[str, Any] = dict(zip(OWN, own, strict=True))
        for name, values in self.asked.kept.items():
            if name == "prompt" and values[which] == row["prompt"]:
                continue
            row[f"given_{name}" if name in OWN else name] = values[which]
        return row


def write(target: Path, made: Made, facts: Mapping[str, Any]) -> None:
    """The table last: where it is there, its card is there too.

    Raises:
        DataError: columns of the input that Parquet has no type for.
    """
    kept = [made.row(place) for place, reason in zip(made.there, made.reasons, strict=True) if reason is None]
    taken = [
        {"filter": reason, **made.row(place)}
        for place, reason in zip(made.there, made.reasons, strict=True)
        if reason is not None
    ]
    body = _lines(kept) if target.suffix == ".jsonl" else _parquet(kept)
    write_bytes(target.with_suffix(".rejected.jsonl"), _lines(taken))
    write_json(target.with_suffix(".card.json"), facts)
    write_text(target.with_suffix(".card.md"), card(target.name, facts))
    write_bytes(target, body)


def _lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    return text.encode("utf-8", "backslashreplace")


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    names = list(dict.fromkeys(name for row in rows for name in row)) or list(OWN)
    file = io.BytesIO()
    try:
        table = pyarrow.table({name: [row.get(name) for row in rows] for name in names})
        pyarrow.parquet.write_table(table, file)
    except (pyarrow.ArrowException, UnicodeError) as error:
        raise DataError(f"the rows do not fit into Parquet ({error}): write .jsonl") from error
    return file.getvalue()
