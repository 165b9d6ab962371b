"""What an endpoint is asked about a row, and what asking about many would take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.endpoints import Budget, Cache, Job, Limits, Sampling, job
from understudy.endpoints.client import base_url
from understudy.errors import UsageError
from understudy.teachers.codes import codes

QUALITIES = ("full", "top", "votes")
PROBED = 3
TOPS = (20, 5)  # likeliest tokens: the most that OpenAI gives, and what several others do
ANSWERS = "answers.sqlite"
KEY = "OPENAI_API_KEY"
_VOTE_TOKENS = 8


@dataclass(frozen=True)
class Question:
    """What is asked, and of whom.

    Attributes:
        url: base URL, such as ``https://HOST/v1``.
        model: the endpoint's name of the model.
        labels: the data's labels; each gets a letter, and the model answers with one.
        fields: the columns of the text; of several each is named before its text.
        instruction: what stands before the list of labels; None: a plain sentence.
        limits: on money, requests and concurrency.
        key_env: the environment variable that holds the key; ``none``: no key.
    """

    url: str
    model: str
    labels: tuple[str, ...]
    fields: tuple[str, ...] = ("text",)
    instruction: str | None = None
    limits: Limits = field(default_factory=Limits)
    key_env: str = KEY

    def __post_init__(self) -> None:
        if len(set(self.labels)) < 2 or len(self.labels) != len(set(self.labels)):
            raise UsageError(f"wanted two different labels at least, got {', '.join(self.labels) or 'none'}")

    @property
    def identity(self) -> str:
        """Who is asked."""
        return f"{base_url(self.url)}\n{self.model}"

    @property
    def codes(self) -> tuple[str, ...]:
        """What the model answers with."""
        return codes(len(self.labels))

    @property
    def asking(self) -> str:
        """The system message."""
        listed = "\n".join(f"{code}: {label}" for code, label in zip(self.codes, self.labels, strict=True))
        usual = "Which label fits the text?" if len(self.fields) == 1 else "Which label fits these texts together?"
        return f"{self.instruction or usual}\n{listed}\nAnswer with the code alone."

    def text(self, row: Mapping[str, Any]) -> str:
        """A row as the model reads it."""
        if len(self.fields) == 1:
            return str(row[self.fields[0]])
        return "\n".join(f"{name}: {row[name]}" for name in self.fields)

    def job(self, text: str, how: Sampling) -> Job:
        """The request about one text."""
        chat = [{"role": "system", "content": self.asking}, {"role": "user", "content": text}]
        return job(self.identity, chat, how, 0)

    def jobs(self, texts: Iterable[str], how: Sampling) -> dict[str, Job]:
        """The requests about different texts, by key."""
        return {one.key: one for one in (self.job(text, how) for text in texts)}


def sampling(top: int) -> Sampling:
    """One token with so many of the likeliest, or a few where labels are to be named."""
    return Sampling(temperature=0, max_tokens=1 if top else _VOTE_TOKENS, top=top)


def estimate(question: Question, store: Path, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What asking about rows would take; nothing is sent.

    Returns:
        ``texts`` (different ones), ``answered`` (of them, already), ``requests`` (at most; the probe's among them,
        tries after errors not), ``worst_cost`` (of those requests, None without prices).
    """
    texts = list(dict.fromkeys(question.text(row) for row in rows))
    there = 0
    if (store / ANSWERS).is_file():
        with closing(Cache(store / ANSWERS)) as cache:
            there = max(len(cache.get(question.jobs(texts, sampling(top)))) for top in (*TOPS, 0))
    budget = Budget(question.limits, _VOTE_TOKENS)
    probes = PROBED * (len(TOPS) + 1)  # each way of asking, on three rows
    costs = sorted((budget.worst(one) for one in question.jobs(texts, sampling(0)).values()), reverse=True)
    worst = sum(costs[: len(texts) - there]) + (costs[0] if costs else 0.0) * probes
    return {
        "texts": len(texts),
        "answered": there,
        "requests": len(texts) - there + probes,
        "worst_cost": worst if budget.priced else None,
    }
