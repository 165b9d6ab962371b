"""``understudy generate``, from a file of prompts to a table with its card; read downwards."""

from __future__ import annotations

import datetime
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from understudy.endpoints.asked import Answer, Failure, Job, Limits, Sampling, Teacher, job
from understudy.endpoints.budget import Budget
from understudy.endpoints.cache import Cache
from understudy.errors import DataError, Interrupted, StoreError, TeacherError, UsageError
from understudy.files import content_hash, read_json
from understudy.generation.counts import cost, final, seen, tokens, unanswered
from understudy.generation.filters import Rules, attrition
from understudy.generation.prompting import Prompting

CACHE = "answers.sqlite"
KEY = "OPENAI_API_KEY"


class Progress(Protocol):
    """Who hears how far it is."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def say(self, sentence: str) -> None:
        """One finding."""

    def advance(self, done: int, total: int, **facts: float | str) -> None:
        """So far."""


class _Silent:
    def stage(self, name: str) -> None:
        pass

    def say(self, sentence: str) -> None:
        pass

    def advance(self, done: int, total: int, **facts: float | str) -> None:
        pass


def generate(
    prompts: str | Path,
    teacher: str,
    out: str | Path,
    *,
    model: str | None = None,
    prompting: Prompting | None = None,
    sampling: Sampling | None = None,
    limits: Limits | None = None,
    rules: Rules | None = None,
    avoid: str | Path | None = None,
    licence: str | None = None,
    store: str | Path | None = None,
    key_env: str = KEY,
    fresh: bool = False,
    today: datetime.date | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ask a teacher for completions, filter them, write a table, its card and what was taken out.

    Args:
        prompts: a .csv, .jsonl or .parquet file.
        teacher: base URL of an OpenAI-compatible endpoint, or the folder (or hub name) of a causal language model.
        out: a .parquet or .jsonl file; its card, its facts and the rejected rows go beside it.
        model: the endpoint's name of the model.
        prompting, sampling, limits, rules: see the classes; None: their defaults.
        avoid: evaluation data, of which no row may hold a run of 8 words.
        licence: what may be done with the answers; "not stated" otherwise.
        store: folder of the answers that are paid for (default: ``.store`` beside ``out``).
        key_env: the environment variable that holds the key; ``none``: the server wants no key.
        fresh: replace the table of another job; answers are never thrown away.
        today: the date on the card; None: left out.
        progress: who hears how far it is.

    Returns:
        The facts, as in ``NAME.card.json``. ``stopped`` says which budget ended it, or is None; ``unanswered`` counts
        the prompts that the same call would ask again.

    Raises:
        UsageError: options that cannot be used, or ``out`` is another job's.
        DataError: prompts that cannot be used, or no row that passes every filter.
        TeacherError: nobody answers there. What was answered is kept.
        Interrupted: Ctrl-C, or a budget too small for one request; the same call goes on.
    """
    from understudy.generation.avoiding import read_avoided
    from understudy.generation.prompts import read_prompts

    how, wanted, listener = sampling or Sampling(), limits or Limits(), progress or _Silent()
    target = _target(Path(out))
    asked = read_prompts(Path(prompts), prompting or Prompting())
    avoided = None if avoid is None else read_avoided(Path(avoid))
    budget = Budget(wanted, how.max_tokens)
    source = open_teacher(teacher, model, how, wanted, budget, key_env=key_env)
    identity = {
        "prompts": content_hash(*(repr(sorted(m.items())) for chat in asked.chats for m in (*chat, {}))),
        "teacher": content_hash(source.identity), "model": source.model, **asdict(how),
    }  # fmt: skip
    _refuse_another(target, identity, fresh=fresh)
    jobs = [job(source.identity, chat, how, sample) for chat in asked.chats for sample in range(how.samples)]
    cache = Cache((Path(store) if store is not None else target.parent / ".store") / CACHE)
    try:
        listener.stage("generate")
        reused = _booked(cache, jobs, budget)
        before = budget.spent
        failures = _ask(source, cache, jobs, reused, budget, listener)
        answers = cache.get(one.key for one in jobs)
    finally:
        cache.close()
    for note in source.notes:
        listener.say(note)
    _refuse_nothing(answers, failures, source, budget, jobs)

    from understudy.generation.writing import Made, write

    there = [place for place, one in enumerate(jobs) if one.key in answers]
    rows = [seen(asked.prompts[place // how.samples], answers[jobs[place].key]) for place in there]
    filters = rules or Rules()
    reasons, table = attrition(rows, filters, avoided)
    table = [*unanswered(jobs, answers, failures), *table]
    facts: dict[str, Any] = {
        "schema": 1,
        "date": None if today is None else today.isoformat(),
        "job": identity,
        "teacher": {
            "where": source.where,
            "model": source.model,
            "answered_as": dict(Counter(answers[jobs[place].key].model for place in there).most_common()),
        },
        "prompts": {"source": asked.source, "rows": len(asked), "prompting": asdict(prompting or Prompting())},
        "parameters": asdict(how),
        "rules": asdict(filters),
        "avoided": None if avoided is None else list(avoided.sources),
        "counts": {
            "wanted": len(jobs),
            "answered": len(there),
            "reused": len(reused),
            "requests": source.requests,
            "kept": sum(reason is None for reason in reasons),
        },
        "attrition": [asdict(line) for line in table],
        "tokens": tokens(answers),
        "cost": cost(budget, wanted, before),
        "licence": licence,
        "stopped": source.stopped,
        "unanswered": len({one.key for one in jobs} - answers.keys()) - final(failures),
        "why": next((said.why for said in failures.values() if said.kind == "transient"), None),
        "notes": source.notes,
    }
    write(target, Made(asked, jobs, answers, there, reasons, how.samples), facts)
    if not facts["counts"]["kept"]:
        worst = max(table, key=lambda line: line.taken)
        raise DataError(
            f'no row is left: "{worst.filter}" took {worst.taken:,} ({worst.rule}); the answers are kept, and other '
            f"filters cost nothing. {target.stem}.rejected.jsonl shows them"
        )
    return facts


def open_teacher(
    teacher: str, model: str | None, how: Sampling, limits: Limits, budget: Budget, *, key_env: str
) -> Teacher:
    """An endpoint where the name is a URL, else a model on this machine (only then is torch imported)."""
    if "://" in teacher:
        from understudy.endpoints.client import Endpoint, base_url

        base_url(teacher)
        if not model:
            raise UsageError(f"an endpoint serves several models: name one with --model (asked: {base_url(teacher)})")
        return Endpoint(teacher, model, how, limits, budget, key_env=key_env)
    if model is not None:
        hint = "" if Path(teacher).exists() else f"; an endpoint is written with its scheme: https://{teacher}"
        raise UsageError(f"--model names a model of an endpoint; {teacher} is a model itself{hint}")
    if limits.max_cost is not None or limits.price_in is not None:
        raise UsageError(
            "--max-cost and prices are for endpoints; a model on this machine is limited by --max-requests"
        )
    from understudy.generation.local import Local

    return Local(teacher, how, limits)


def _target(out: Path) -> Path:
    if out.suffix not in (".parquet", ".jsonl"):
        raise UsageError(f"--out {out}: wanted a name that ends in .parquet or .jsonl")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder, wanted a file")
    return out


def _refuse_another(target: Path, identity: Mapping[str, Any], *, fresh: bool) -> None:
    """What lies there is replaced only where this job, or ``fresh``, made it so."""
    card = target.with_suffix(".card.json")
    if not target.exists() and not card.exists():
        return
    try:
        known = read_json(card)["job"]
    except (StoreError, KeyError, TypeError):
        raise UsageError(f"{target} is already there, and not by this command; name another file with --out") from None
    differ = [key for key in identity if known.get(key) != identity[key]]
    if differ and not fresh:
        raise UsageError(
            f"{target} is the table of another job ({', '.join(differ)} differ); name another file, or --fresh "
            "replaces it (answers in the store stay)"
        )


def _booked(cache: Cache, jobs: Sequence[Job], budget: Budget) -> dict[str, Answer]:
    """Answers that are there already; the limit on money counts them."""
    found = cache.get(one.key for one in jobs)
    for one in {one.key: one for one in jobs}.values():
        if one.key in found:
            budget.book(one, found[one.key])
    return found


def _ask(
    source: Teacher, cache: Cache, jobs: Sequence[Job], reused: Mapping[str, Answer], budget: Budget, listener: Progress
) -> dict[str, Failure]:
    """Every job without an answer, asked once."""
    todo = list({one.key: one for one in jobs if one.key not in reused}.values())
    total = len(todo) + len(reused)
    if reused:
        listener.say(f"{len(reused):,} of {total:,} answers are there already")
    failures: dict[str, Failure] = {}
    done, kept, lock = len(reused), 0, threading.Lock()

    def keep(one: Job, answer: Answer) -> None:
        nonlocal kept
        cache.put(one.key, answer)
        with lock:
            kept += 1

    try:
        for one, said in source.answers(todo, keep):
            done += 1
            if isinstance(said, Failure):
                failures[one.key] = said
            facts: dict[str, float | str] = {"requests": str(source.requests)}
            if budget.priced:
                facts["cost"] = f"{budget.spent:.4f}"
            if failures:
                facts["failed"] = str(len(failures))
            listener.advance(done, total, **facts)
    except KeyboardInterrupt:
        listener.say("stopping: requests under way are paid for and waited for; Ctrl-C again drops them")
        source.finish()
        raise Interrupted(
            f"stopped by Ctrl-C; {len(reused) + kept:,} of {total:,} answers are kept, the same command goes on",
            by_user=True,
        ) from None
    except TeacherError as error:
        source.finish()
        raise TeacherError(f"{error} ({len(reused) + kept:,} of {total:,} answers are kept)") from error
    except BaseException:
        source.finish()
        raise
    return failures


def _refuse_nothing(
    answers: Mapping[str, Answer], failures: Mapping[str, Failure], source: Teacher, budget: Budget, jobs: Sequence[Job]
) -> None:
    """Raises where there is nothing to write a table of."""
    if answers:
        return
    if source.stopped:
        most = f"; one request may cost {budget.worst(jobs[0]):.4g}" if budget.priced else ""
        raise Interrupted(f"{source.stopped} is reached before the first answer{most}: a higher limit goes on")
    said = next(iter(failures.values()))
    if said.kind == "context":
        raise DataError(
            f"every prompt is longer than {source.model} reads ({said.why}): shorter prompts or --max-tokens"
        )
    raise TeacherError(f"{source.where} gives no answer: {said.why}")
