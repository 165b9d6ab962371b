"""An OpenAI-compatible endpoint as a teacher of labels: probed on three rows first, then asked once for each row.

What it can say is found out, not assumed, and stands in the teacher's notes:

``full``: log-probabilities of the first token list every label's code. ``top``: they list some; the mass seen on codes
is stored with each row. ``votes``: no log-probabilities, so one label a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy.endpoints import Limits
from understudy.endpoints.client import base_url
from understudy.teachers.function import function
from understudy.teachers.labeller import Labeller
from understudy.teachers.loaded import Loaded
from understudy.teachers.question import KEY, Question


def endpoint(
    url: str,
    *,
    model: str,
    labels: Sequence[str],
    probe: Sequence[str],
    store: Path | str,
    field: str = "text",
    instruction: str | None = None,
    quality: str = "auto",
    limits: Limits | None = None,
    key_env: str = KEY,
) -> Loaded:
    """An endpoint that sorts texts into labels, as a teacher for ``distill_models``.

    Args:
        url: base URL, such as ``https://HOST/v1``.
        model: the endpoint's name of the model.
        labels: the data's labels; each gets a letter, and the model answers with one.
        probe: three texts or more; the first three are asked about at once.
        store: folder of the answers that are paid for.
        field: the column of the text.
        instruction: what stands before the list of labels; None: a plain sentence.
        quality: ``full``, ``top`` or ``votes``; ``auto`` takes the best that the probe finds.
        limits: on money, requests and concurrency.
        key_env: the environment variable that holds the key; ``none``: no key.

    Raises:
        UsageError: fewer than two labels or three texts, or no such quality.
        TeacherError: the endpoint cannot be used, or gives less than ``quality`` asks for.
    """
    question = Question(url, model, tuple(labels), (field,), instruction, limits or Limits(), key_env)
    one = Labeller(question, Path(store))
    one.probe([{field: text} for text in probe], quality)
    return labelling(one)


def labelling(one: Labeller) -> Loaded:
    """A labeller that was probed, as a teacher; the mass that it saw is stored with each row."""
    question = one.question
    loaded = function(
        one, returns="probabilities", fields=question.fields, labels=question.labels, name=_name(question),
        fingerprint=one.identity, batch_size=1024,
    )  # fmt: skip
    return replace(loaded, notes=(*loaded.notes, *one.notes), speed=one.speed, account=one.account, beside=one.seen)


def unasked(question: Question) -> Loaded:
    """An endpoint in whose place equal shares stand: nothing is sent. What it would say is not known."""

    def equal(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        return np.full((len(rows), len(question.labels)), 1 / len(question.labels))

    return function(
        equal, returns="probabilities", fields=question.fields, labels=question.labels, name=_name(question),
        fingerprint="unasked",
    )  # fmt: skip


def _name(question: Question) -> str:
    return f"{question.model} at {base_url(question.url)}"
