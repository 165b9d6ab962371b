"""What is counted about a job, beside what the filters take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from understudy.endpoints.asked import Answer, Failure, Job, Limits
from understudy.endpoints.budget import Budget
from understudy.generation.filters import Row, Taken

_KINDS = {
    "context": ("too long", "prompt and answer do not fit into the model's context"),
    "refused": ("not taken", "the server refused the request"),
    "transient": ("no answer", "time-outs and errors of the server; asked again by the same command"),
    None: ("not asked", "a budget ended before"),
}


def unanswered(jobs: Sequence[Job], answers: Mapping[str, Answer], failures: Mapping[str, Failure]) -> list[Taken]:
    """The first lines of the table: rows that have no answer to be filtered."""
    missing = Counter(failures[one.key].kind if one.key in failures else None for one in jobs if one.key not in answers)
    left, lines = len(jobs), []
    for kind, (name, rule) in _KINDS.items():
        if missing[kind]:  # type: ignore[index]
            left -= missing[kind]  # type: ignore[index]
            lines.append(Taken(name, rule, missing[kind], left))  # type: ignore[index]
    return lines


def final(failures: Mapping[str, Failure]) -> int:
    """Failures that asking again would not mend."""
    return sum(said.kind != "transient" for said in failures.values())


def tokens(answers: Mapping[str, Answer]) -> dict[str, int]:
    """Tokens read and written, of the answers that say so."""
    return {
        "in": sum(answer.tokens_in or 0 for answer in answers.values()),
        "out": sum(answer.tokens_out or 0 for answer in answers.values()),
    }


def cost(budget: Budget, limits: Limits, before: float) -> dict[str, float | None] | None:
    """Money spent, of which ``before`` by earlier calls; None without prices."""
    if not budget.priced:
        return None
    return {
        "total": budget.spent,
        "this_call": budget.spent - before,
        "possible": budget.possible,
        "without_counts": budget.uncounted,
        "price_in": limits.price_in,
        "price_out": limits.price_out,
    }


def seen(prompt: str, answer: Answer) -> Row:
    """What the filters see."""
    return Row(prompt, answer.text, answer.finish_reason)
