"""What is asked of a generative teacher, what it said, and how it is meant to say it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from understudy.errors import UsageError
from understudy.files import content_hash

Message = Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """One request: a chat, and which of several samples of it. ``key`` is the hash of all that decides the answer."""

    key: str
    messages: tuple[Message, ...]
    sample: int


@dataclass(frozen=True)
class Answer:
    """What a teacher said to one job. Token counts are None where the server did not say them.

    ``finish_reason`` is the server's word: ``stop``, ``length`` (cut off at ``max_tokens``), ``content_filter``, ...;
    ``refusal`` where the server says in a field of its own that the model declined. ``top`` are the likeliest first
    tokens with their log-probabilities in nats, where they were asked for and given; ``seconds`` is how long it took.
    """

    text: str
    finish_reason: str
    model: str
    tokens_in: int | None = None
    tokens_out: int | None = None
    top: tuple[tuple[str, float], ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class Failure:
    """Why one job has no answer: never cached.

    ``context``: the prompt is longer than the model reads; ``refused``: the server will not take this request;
    ``transient``: time-outs, errors of the server, replies without what was asked, after the SDK's retries.
    """

    kind: Literal["context", "refused", "transient"]
    why: str
    maybe_paid: bool = False


Keep = Callable[[Job, Answer], None]


class Teacher(Protocol):
    """Whoever answers jobs.

    Attributes:
        model: its name, for people.
        where: the endpoint's host, or ``this machine``.
        identity: what decides its answers beside the job: base URL and model, or a hash of weights and tokenizer.
        requests: requests sent so far, retries included; prompts answered for a local model.
        notes: what was decided on the way.
        stopped: why it stopped before the last job, or None.
    """

    model: str
    where: str
    identity: str
    requests: int
    notes: list[str]
    stopped: str | None

    def answers(self, jobs: Sequence[Job], keep: Keep) -> Iterator[tuple[Job, Answer | Failure]]:
        """Every job with what became of it, in any order. ``keep`` has stored an answer before it is handed on.

        Raises:
            TeacherError: nobody answers there; what was kept stays kept.
        """

    def finish(self) -> None:
        """Wait for what is under way (it is paid for) and start nothing more."""


@dataclass(frozen=True)
class Sampling:
    """How a teacher draws its answers.

    Attributes:
        samples: answers for each prompt.
        temperature: of the sampling; 0 takes the likeliest token.
        top_p: share of probability that is sampled from, (0, 1].
        max_tokens: most tokens of one answer.
        seed: of a local model's sampling; an endpoint gets it only where it is said, and need not heed it.
        top: likeliest tokens whose log-probabilities are asked for; 0: none.
    """

    samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None
    top: int = 0

    def __post_init__(self) -> None:
        _at_least("--samples", self.samples, 1)
        _at_least("--temperature", self.temperature, 0)
        _at_least("--max-tokens", self.max_tokens, 1)
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p is {self.top_p:g}, wanted more than 0 and at most 1")
        if self.samples > 1 and self.temperature == 0:
            raise UsageError(f"--temperature 0 says the same {self.samples} times over: take 1 sample, or warm it up")

    def parameters(self, sample: int) -> dict[str, float | int]:
        """What is sent beside the messages."""
        more: dict[str, float | int] = {} if self.seed is None else {"seed": self.seed + sample}
        if self.top:
            more |= {"logprobs": True, "top_logprobs": self.top}
        return {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens, **more}


@dataclass(frozen=True)
class Limits:
    """What may be spent, and how fast.

    Attributes:
        max_requests: most requests that this call sends, the SDK's retries included.
        max_cost: most money for all answers of the table, those of earlier calls included.
        price_in, price_out: money per million tokens read and written; any currency.
        concurrency: most requests under way at once.
        timeout: seconds until a request is given up.
        retries: how often the SDK tries again after 408, 409, 429, 5xx and lost connections.
        batch: prompts that a local model answers at once.
    """

    max_requests: int | None = None
    max_cost: float | None = None
    price_in: float | None = None
    price_out: float | None = None
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 4
    batch: int = 8

    def __post_init__(self) -> None:
        for name in ("max_requests", "concurrency", "batch"):
            if getattr(self, name) is not None:
                _at_least(f"--{name.replace('_', '-')}", getattr(self, name), 1)
        for name in ("max_cost", "price_in", "price_out", "retries"):
            if getattr(self, name) is not None:
                _at_least(f"--{name.replace('_', '-')}", getattr(self, name), 0)
        if not (0 < self.timeout < math.inf):
            raise UsageError(f"--timeout is {self.timeout:g}, wanted seconds, more than 0")
        if (self.price_in is None) != (self.price_out is None):
            raise UsageError("--price-in and --price-out go together: money per million tokens read and written")
        if self.max_cost is not None and self.price_in is None:
            raise UsageError("--max-cost needs --price-in and --price-out: no price list is known here")


def job(identity: str, messages: Sequence[Message], sampling: Sampling, sample: int) -> Job:
    """A job under its key: 32 hexadecimal digits from teacher, messages, parameters and the sample's number.

    >>> one = [{"role": "user", "content": "Hello"}]
    >>> first, second = (job("a", one, Sampling(samples=2), sample).key for sample in range(2))
    >>> first == job("a", one, Sampling(), 0).key != second
    True
    """
    said = [dict(message) for message in messages]
    parts = (json.dumps(part, sort_keys=True) for part in (said, sampling.parameters(sample)))
    return Job(content_hash(identity, *parts, str(sample)), tuple(said), sample)


def _at_least(option: str, value: Any, least: float) -> None:
    if not (value >= least and value < math.inf):
        raise UsageError(f"{option} is {value:g}, wanted {least:g} or more")
