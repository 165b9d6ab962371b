"""Whoever asks an endpoint for labels: probed on three rows, then each text asked once, within limits, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from understudy.endpoints import Answer, Budget, Cache, Failure, Job, Sampling
from understudy.endpoints.client import Endpoint, RequestsRefused, base_url
from understudy.errors import DataError, Interrupted, TeacherError, UsageError, choices
from understudy.files import content_hash, read_json, write_json
from understudy.teachers.codes import LETTERS, distribution, vote
from understudy.teachers.question import ANSWERS, PROBED, QUALITIES, TOPS, Question, sampling

_LEAST_MASS = 0.5  # on codes, in every probed row: below, the model did not answer with a code
_MOST_UNNAMED = 0.05  # share of rows whose answer names no label
_STOPPED = "stopped while labelling"
_SHOWN = 60  # letters of a row in an error

Heard = Callable[[int, int, dict[str, float | str]], None]


class Labeller:
    """Rows -> probabilities [N, K], each text asked once.

    What was found by the probe is what is used: a row that comes with less is an error, not a lesser target. A row
    whose answer names no label has a mass of 0 and equal shares; where more than one row in twenty is so, labelling
    stops.

    Attributes:
        quality: ``full``, ``top`` or ``votes``, once probed.
        top: likeliest tokens that are asked for; 0 of votes.
        notes: what was found.
        masses: the mass seen on codes for each row, by the key of its job.
        heard: told (texts answered, texts known, facts) after each answer.
        stopping: asked after each answer; True: nothing more is sent, what is under way is waited for.
    """

    def __init__(
        self, question: Question, store: Path, *, heard: Heard | None = None, stopping: Callable[[], bool] | None = None
    ) -> None:
        self.question, self.labels, self.codes = question, question.labels, question.codes
        self.quality, self.top = "votes", 0
        self.notes: list[str] = []
        self.masses: dict[str, float] = {}
        self.heard, self.stopping = heard, stopping
        self._seconds: dict[str, float] = {}
        self._booked: set[str] = set()
        self._texts: tuple[str, ...] = ()
        self._known: set[str] = set()
        self._done = 0  # of those known, booked
        self._store = store
        self.client, self._budget, self._how = self._fresh(0)

    @property
    def identity(self) -> str:
        """Hash of what decides its answers."""
        parts = (self.question.identity, self.question.asking, *self.labels, self.quality, str(self.top))
        return content_hash("endpoint-2", *parts)

    def probe(self, rows: Sequence[Mapping[str, Any]], wanted: str = "auto") -> None:
        """Find out on a few rows what the endpoint says; ``notes`` and ``quality`` tell.

        It is found out once: what was found is kept beside the answers, so that a run that goes on asks for the same.

        Raises:
            TeacherError: it names no label at all, or says less than ``wanted``.
        """
        if len(rows) < PROBED:
            raise UsageError(f"an endpoint is probed on {PROBED} rows, got {len(rows)}")
        if wanted not in ("auto", *QUALITIES):
            raise UsageError(f'no quality "{wanted}": {choices(wanted, ("auto", *QUALITIES))}')
        texts = [self.question.text(row) for row in rows[:PROBED]]
        name = content_hash("probe-1", self.question.identity, self.question.asking, wanted, *texts)
        record = self._store / "probes" / f"{name}.json"
        if not record.is_file():
            self._probe(texts, wanted)
            record.parent.mkdir(parents=True, exist_ok=True)
            write_json(record, {"quality": self.quality, "top": self.top, "notes": self.notes})
            return
        found = read_json(record)
        self.quality, self.top, self.notes = str(found["quality"]), int(found["top"]), list(found["notes"])
        self._open(self.top)

    def know(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """The rows that will be asked about: what of them is answered already is counted by the limit on money."""
        self._texts = tuple(dict.fromkeys(self.question.text(row) for row in rows))
        self._count()

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Probabilities [N, K] of rows.

        Raises:
            TeacherError: rows without an answer, or with less than the probe found. What was answered is kept.
            DataError: rows that are longer than the model reads.
            Interrupted: a budget is reached, or a stop was asked for; the same call goes on.
        """
        answers = self._asked([self.question.text(row) for row in rows])
        return self._of_votes(answers) if self.quality == "votes" else self._of_tops(answers)

    def seen(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        """``mass``: float32 [N], the mass seen on codes of rows that were asked about; of votes 1, and 0 of none."""
        columns = (inputs[name] for name in self.question.fields)
        rows = [dict(zip(self.question.fields, row, strict=True)) for row in zip(*columns, strict=True)]
        keys = [self.question.job(self.question.text(row), self._how).key for row in rows]
        return {"mass": np.array([self.masses[key] for key in keys], np.float32)}

    def speed(self, threads: int) -> dict[str, Any]:
        """What requests took when they were sent, the SDK's waiting included; not what the cache takes."""
        times = np.array(list(self._seconds.values()) or [np.nan])
        p50, p95, p99 = (float(value) * 1e3 for value in np.percentile(times, (50, 95, 99)))
        latency = {"p50": p50, "p95": p95, "p99": p99, "batch": 1, "threads": threads, "calls": len(times)}
        rate = self.question.limits.concurrency / float(times.mean())
        return {"latency_ms": latency, "throughput_per_s": {"value": rate, "batch": 1, "threads": threads, "passes": 1}}

    def account(self) -> dict[str, Any]:
        """For run.json: who was asked, of what quality the answers are, how many there are and what they cost."""
        return {
            "url": base_url(self.question.url),
            "model": self.question.model,
            "quality": self.quality,
            "top_logprobs": self.top,
            "probed_rows": PROBED,
            "answers": self._done,
            "cost": round(self._budget.spent, 9) if self._budget.priced else None,  # whatever the order of the answers
        }

    def _probe(self, texts: Sequence[str], wanted: str) -> None:
        found = self._probe_tops(texts) if len(self.labels) <= len(LETTERS) and wanted != "votes" else None
        if found is None:
            if wanted in ("full", "top"):
                raise TeacherError(f"{self.client.where} does not give the quality {wanted}: {'; '.join(self.notes)}")
            self.quality, self.top = "votes", 0
            self._open(0)
            answers = [answer for _, answer in self._asked(texts)]
            if None in self._votes(answers):
                said = " | ".join(" ".join(answer.text.split())[:30] or "nothing" for answer in answers)
                raise TeacherError(f"{self.client.where} does not answer with a label: {said}")
        elif wanted == "full" and found != "full":
            raise TeacherError(
                f"{self.client.where} lists only some of the {len(self.labels)} labels: {self.notes[-1]}"
            )
        else:
            self.quality = wanted if wanted in ("full", "top") else found
        self.notes.append(f"the endpoint's answers are of the quality {self.quality}, as found on {len(texts)} rows")

    def _probe_tops(self, texts: Sequence[str]) -> str | None:
        """``full``, ``top``, or None where log-probabilities do not serve; every step leaves a note."""
        for top in TOPS:
            self._open(top)
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

    def _fresh(self, top: int) -> tuple[Endpoint, Budget, Sampling]:
        """A client that asks for so many log-probabilities."""
        one, how = self.question, sampling(top)
        budget = Budget(one.limits, how.max_tokens)
        return Endpoint(one.url, one.model, how, one.limits, budget, key_env=one.key_env), budget, how

    def _open(self, top: int) -> None:
        """Another client; what was sent and spent before counts on."""
        client, budget, how = self._fresh(top)
        client.requests = self.client.requests
        budget.spent, budget.possible = self._budget.spent, self._budget.possible
        self.client, self._budget, self._how = client, budget, how
        self._count()

    def _count(self) -> None:
        """Of the texts that are known, those that are answered already."""
        self._known, self._done = set(), 0
        if self._texts:
            jobs = self.question.jobs(self._texts, self._how)
            self._known = set(jobs)
            with closing(self._cache()) as cache:
                self._book(jobs, cache.get(jobs))

    def _cache(self) -> Cache:
        return Cache(self._store / ANSWERS)

    def _book(self, jobs: Mapping[str, Job], found: Mapping[str, Answer]) -> None:
        for key in found.keys() - self._booked:
            self._budget.book(jobs[key], found[key])
        self._booked |= found.keys()
        self._done = len(self._booked & self._known)
        self._seconds |= {key: answer.seconds for key, answer in found.items() if answer.seconds is not None}

    def _asked(self, texts: Sequence[str]) -> list[tuple[Job, Answer]]:
        """An answer for each text, in order: those that are there, and new ones."""
        jobs = [self.question.job(text, self._how) for text in texts]
        by_key = {one.key: one for one in jobs}
        self._known |= by_key.keys()
        failures: dict[str, Failure] = {}
        with closing(self._cache()) as cache:
            found = cache.get(by_key)
            self._book(by_key, found)
            todo = [one for key, one in by_key.items() if key not in found]

            def keep(one: Job, answer: Answer) -> None:
                found[one.key] = answer
                if answer.top or not self._how.top:  # less than what was found is no answer: to be asked again
                    cache.put(one.key, answer)

            try:
                for one, said in self.client.answers(todo, keep):
                    if isinstance(said, Failure):
                        failures[one.key] = said
                    else:
                        self._answered(one, said)
                    if self.stopping is not None and self.stopping():
                        self.client.stopped = _STOPPED
            finally:
                self.client.finish()
        missing = [one for one in jobs if one.key not in found]
        if missing:
            self._refuse(missing, [failures[one.key] for one in missing if one.key in failures], len(by_key))
        return [(one, found[one.key]) for one in jobs]

    def _answered(self, one: Job, answer: Answer) -> None:
        """Paid for, and booked by the client."""
        self._booked.add(one.key)
        self._done += 1
        if answer.seconds is not None:
            self._seconds[one.key] = answer.seconds
        if self.heard is not None:
            facts: dict[str, float | str] = {"requests": str(self.client.requests)}
            if self._budget.priced:
                facts["cost"] = f"{self._budget.spent:.4f}"
            self.heard(self._done, len(self._known), facts)

    def _refuse(self, missing: Sequence[Job], failures: Sequence[Failure], asked: int) -> None:
        count, stopped = len({one.key for one in missing}), self.client.stopped
        if stopped == _STOPPED:
            raise Interrupted(
                f"{stopped}, {count:,} rows have no label; every answer is kept, the same command goes on"
            )
        if stopped:
            raise Interrupted(f"{stopped} is reached, {count:,} rows have no label; a higher limit goes on")
        if all(one.kind == "context" for one in failures):
            first = " ".join(missing[0].messages[-1]["content"].split())[:_SHOWN]
            raise DataError(
                f"{count:,} of {asked:,} rows are longer than {self.question.model} reads ({failures[0].why}), first "
                f'"{first}...": shorten them or take them out; the other answers are kept'
            )
        raise TeacherError(
            f"{self.client.where} gave no answer to {count:,} of {asked:,} rows ({failures[0].why}); the others are "
            "kept, and the same command asks again"
        )

    def _of_tops(self, answers: Sequence[tuple[Job, Answer]]) -> np.ndarray:
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

    def _of_votes(self, answers: Sequence[tuple[Job, Answer]]) -> np.ndarray:
        votes = self._votes([answer for _, answer in answers])
        self._refuse_unnamed(votes.count(None), len(votes))
        shares = np.full((len(votes), len(self.labels)), 1 / len(self.labels))
        for place, (named, (one, _)) in enumerate(zip(votes, answers, strict=True)):
            self.masses[one.key] = float(named is not None)
            if named is not None:
                shares[place] = np.eye(len(self.labels))[named]
        return shares

    def _votes(self, answers: Sequence[Answer]) -> list[int | None]:
        return [vote(answer.text, self.codes, self.labels) for answer in answers]

    def _refuse_unnamed(self, bad: int, rows: int) -> None:
        if bad > max(1, _MOST_UNNAMED * rows):
            raise TeacherError(f"{self.client.where} names no label for {bad:,} of {rows:,} rows: another instruction")
