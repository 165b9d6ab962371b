"""An OpenAI-compatible endpoint as a teacher of labels: probed on three rows first, then asked once for each row.

What it can say is found out, not assumed, and stands in the teacher's notes:

``full``: log-probabilities of the first token list every label's code. ``top``: they list some; the mass seen on codes
is stored with each answer. ``votes``: no log-probabilities, so one label a row.

What was found is what is used: a row that comes with less is an error, not a lesser target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy.endpoints import Answer, Budget, Cache, Failure, Job, Limits, Sampling, job
from understudy.endpoints.client import Endpoint, RequestsRefused
from understudy.errors import Interrupted, TeacherError, UsageError, choices
from understudy.files import content_hash
from understudy.teachers.codes import LETTERS, codes, distribution, vote
from understudy.teachers.function import function
from understudy.teachers.loaded import Loaded

QUALITIES = ("full", "top", "votes")
PROBED = 3
_TOPS = (20, 5)  # the most that OpenAI gives, and what several others do
_LEAST_MASS = 0.5  # on codes, in every probed row: below, the model did not answer with a code
_MOST_UNNAMED = 0.05  # share of rows whose answer names no label
_VOTE_TOKENS = 8


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
    key_env: str = "OPENAI_API_KEY",
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
    if len(set(labels)) < 2 or len(labels) != len(set(labels)):
        raise UsageError(f"wanted two different labels at least, got {', '.join(labels) or 'none'}")
    if len(probe) < PROBED:
        raise UsageError(f"an endpoint is probed on {PROBED} rows, got {len(probe)}")
    if quality not in ("auto", *QUALITIES):
        raise UsageError(f'no quality "{quality}": {choices(quality, ("auto", *QUALITIES))}')
    one = Labeller(url, model, labels, Path(store), field, instruction, limits or Limits(), key_env)
    one.probe(list(probe)[:PROBED], quality)
    host = one.client.where
    loaded = function(
        one, returns="probabilities", fields=(field,), labels=labels, name=f"{model} at {host}",
        fingerprint=content_hash("endpoint-1", one.client.identity, one.asking, *labels, one.quality, str(one.top)),
        batch_size=1024,
    )  # fmt: skip
    return replace(loaded, notes=(*loaded.notes, *one.notes), speed=one.speed)


class Labeller:
    """Rows -> probabilities [N, K], each row asked once.

    ``masses`` has the mass seen on codes for each row, by its key. A row whose answer names no label has a mass of 0
    and equal shares; where more than one row in twenty is so, labelling stops.
    """

    def __init__(
        self, url: str, model: str, labels: Sequence[str], store: Path, field: str, instruction: str | None,
        limits: Limits, key_env: str,
    ) -> None:  # fmt: skip
        self.labels, self.codes = tuple(labels), codes(len(labels))
        listed = "\n".join(f"{code}: {label}" for code, label in zip(self.codes, labels, strict=True))
        self.asking = f"{instruction or 'Which label fits the text?'}\n{listed}\nAnswer with the code alone."
        self.quality, self.top = "votes", 0
        self.notes: list[str] = []
        self.masses: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._booked: set[str] = set()
        self._store, self._field, self._limits = store, field, limits
        self._open = (url, model, limits, key_env)
        self.client = self._client(0)

    def probe(self, texts: Sequence[str], wanted: str) -> None:
        """Find out on a few rows what the endpoint says; ``notes`` and ``quality`` tell.

        Raises:
            TeacherError: it names no label at all, or says less than ``wanted``.
        """
        found = self._probe_tops(texts) if len(self.labels) <= len(LETTERS) and wanted != "votes" else None
        if found is None:
            if wanted in ("full", "top"):
                raise TeacherError(f"{self.client.where} does not give the quality {wanted}: {'; '.join(self.notes)}")
            self.quality, self.top, self.client = "votes", 0, self._client(0)
            answers = [answer for _, answer in self._asked(texts)]
            if None in self._votes(answers):
                said = " | ".join(" ".join(answer.text.split())[:30] for answer in answers)
                raise TeacherError(f"{self.client.where} does not answer with a label: {said}")
        elif wanted == "full" and found != "full":
            raise TeacherError(
                f"{self.client.where} lists only some of the {len(self.labels)} labels: {self.notes[-1]}"
            )
        else:
            self.quality = wanted if wanted in ("full", "top") else found
        self.notes.append(f"the endpoint's answers are of the quality {self.quality}, as found on {len(texts)} rows")

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Probabilities [N, K] of rows.

        Raises:
            TeacherError: rows without an answer, or with less than the probe found. What was answered is kept.
            Interrupted: a budget is reached; the same call goes on.
        """
        answers = self._asked([str(row[self._field]) for row in rows])
        if self.quality == "votes":
            votes = self._votes([answer for _, answer in answers])
            self._refuse_unnamed(votes.count(None), len(votes))
            shares = np.full((len(votes), len(self.labels)), 1 / len(self.labels))
            for place, (named, (one, _)) in enumerate(zip(votes, answers, strict=True)):
                self.masses[one.key] = float(named is not None)
                if named is not None:
                    shares[place] = np.eye(len(self.labels))[named]
            return shares
        said = []
        for place, (one, answer) in enumerate(answers):
            if not answer.top:
                raise TeacherError(
                    f"{self.client.where} gave no log-probabilities for row {place + 1}, which it did when it was "
                    'probed; quality="votes" asks for labels alone'
                )
            shares, mass, _ = distribution(answer.top, self.codes)
            self.masses[one.key] = mass
            said.append(shares)
        self._refuse_unnamed(sum(self.masses[one.key] == 0 for one, _ in answers), len(answers))
        return np.stack(said) if said else np.zeros((0, len(self.labels)))

    def speed(self, threads: int) -> dict[str, Any]:
        """What requests took when they were sent, the SDK's waiting included; not what the cache takes."""
        times = np.array(list(self._seconds.values()) or [np.nan])
        p50, p95, p99 = (float(value) * 1e3 for value in np.percentile(times, (50, 95, 99)))
        latency = {"p50": p50, "p95": p95, "p99": p99, "batch": 1, "threads": threads, "calls": len(times)}
        rate = self._limits.concurrency / float(times.mean())
        return {"latency_ms": latency, "throughput_per_s": {"value": rate, "batch": 1, "threads": threads, "passes": 1}}

    def _probe_tops(self, texts: Sequence[str]) -> str | None:
        """``full``, ``top``, or None where log-probabilities do not serve; every step leaves a note."""
        for top in _TOPS:
            self.client = self._client(top)
            try:
                answers = [answer for _, answer in self._asked(texts)]
            except RequestsRefused as error:
                self.notes.append(f"{top} log-probabilities were refused: {error}")
                continue
            if not all(answer.top for answer in answers):
                self.notes.append("it answers without the log-probabilities that were asked for")
                return None
            read = [distribution(answer.top, self.codes) for answer in answers]
            least = min(mass for _, mass, _ in read)
            self.notes.append(f"{top} log-probabilities were asked for; at least {least:.3f} lies on codes of labels")
            if least < _LEAST_MASS:
                return None
            self.top = top
            return "full" if all(every for _, _, every in read) else "top"
        return None

    def _client(self, top: int) -> Endpoint:
        url, model, limits, key_env = self._open
        self._sampling = Sampling(temperature=0, max_tokens=1 if top else _VOTE_TOKENS, top=top)
        self._budget = Budget(limits, self._sampling.max_tokens)
        return Endpoint(url, model, self._sampling, limits, self._budget, key_env=key_env)

    def _asked(self, texts: Iterable[str]) -> list[tuple[Job, Answer]]:
        """An answer for each text, in order: those that are there, and new ones."""
        system = {"role": "system", "content": self.asking}
        jobs = [
            job(self.client.identity, [system, {"role": "user", "content": text}], self._sampling, 0) for text in texts
        ]
        by_key = {one.key: one for one in jobs}
        with closing(Cache(self._store / "answers.sqlite")) as cache:
            found = cache.get(by_key)
            for key in found.keys() - self._booked:
                self._budget.book(by_key[key], found[key])
            todo = [one for key, one in by_key.items() if key not in found]
            failures: list[Failure] = []

            def keep(one: Job, answer: Answer) -> None:
                found[one.key] = answer
                if answer.top or not self._sampling.top:  # less than what was found is no answer: to be asked again
                    cache.put(one.key, answer)

            try:
                for _, said in self.client.answers(todo, keep):
                    if isinstance(said, Failure):
                        failures.append(said)
            finally:
                self.client.finish()
        self._booked |= found.keys()
        self._seconds |= {key: answer.seconds for key, answer in found.items() if answer.seconds is not None}
        missing = len(by_key) - len(found)
        if self.client.stopped and missing:
            raise Interrupted(
                f"{self.client.stopped} is reached, {missing:,} rows have no label; a higher limit goes on"
            )
        if missing:
            raise TeacherError(
                f"{self.client.where} gave no answer to {missing:,} of {len(by_key):,} rows ({failures[0].why}); the "
                "others are kept"
            )
        return [(one, found[one.key]) for one in jobs]

    def _votes(self, answers: Sequence[Answer]) -> list[int | None]:
        return [vote(answer.text, self.codes, self.labels) for answer in answers]

    def _refuse_unnamed(self, bad: int, rows: int) -> None:
        if bad > max(1, _MOST_UNNAMED * rows):
            raise TeacherError(f"{self.client.where} names no label for {bad:,} of {rows:,} rows: another instruction")
