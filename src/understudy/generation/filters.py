"""What is taken out of a teacher's answers, in this order, each row by the first filter that it fails.

Filters read rows and answers only: another rule is another call on the same paid answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from understudy.errors import UsageError
from understudy.generation.avoiding import Avoided
from understudy.generation.grams import grams, in_script, jaccard, words
from understudy.generation.minhash import first_like

GRAM = 3  # words in a run, for near duplicates

# English only, at the beginning of an answer; a list, not a judgement: what refuses otherwise is not found
REFUSALS = (
    r"(i'?m|i am) (very |really |so |truly |terribly )?sorry,? (but )?(i|as an ai|this|that)\b",
    r"(i )?apologi[sz]e,? (but )?i",
    r"(sorry,? (but )?)?i (can'?t|cannot|can not|could not|won'?t|will not) "
    r"(help|assist|comply|fulfil|fulfill|provide|answer|do that|do this|create|generate|write|engage|discuss|support)",
    r"(sorry,? (but )?)?(i'?m|i am) (unable|not able|not allowed|not permitted) to\b",
    r"as an? (ai|artificial intelligence|(large )?language model)\b",
    r"i must (decline|refuse)\b",
)
_REFUSAL = re.compile(rf"\W*(unfortunately,? |well,? )?({'|'.join(REFUSALS)})", re.I)


@dataclass(frozen=True)
class Rules:
    """The filters' dials.

    Attributes:
        truncated: take out what ended at ``max_tokens``.
        refusals: take out what begins like a refusal.
        min_chars, max_chars: characters of a completion, blanks at its ends not counted; None: no upper limit.
        min_script: least share of a completion's letters in the prompt's scripts; 0: off (translations).
        near: Jaccard similarity of word 3-grams from which both prompts and both completions are the same; 0: off.
    """

    truncated: bool = True
    refusals: bool = True
    min_chars: int = 1
    max_chars: int | None = None
    min_script: float = 0.5
    near: float = 0.8

    def __post_init__(self) -> None:
        for option, value in (("--min-script", self.min_script), ("--near", self.near)):
            if not 0 <= value <= 1:
                raise UsageError(f"{option} is {value:g}, wanted 0 (off) to 1")
        if self.near and self.near < 0.5:
            raise UsageError(f"--near is {self.near:g}: below 0.5 different texts are called the same; wanted 0.5 to 1")
        if self.min_chars < 0 or (self.max_chars is not None and self.max_chars < max(self.min_chars, 1)):
            raise UsageError(f"--min-chars {self.min_chars} and --max-chars {self.max_chars} leave no answer")


@dataclass(frozen=True)
class Row:
    """What filters see of a row."""

    prompt: str
    completion: str
    finish_reason: str


@dataclass(frozen=True)
class Taken:
    """One line of the attrition table: which filter, its rule in words, rows taken and rows left."""

    filter: str
    rule: str
    taken: int
    left: int


def attrition(rows: Sequence[Row], rules: Rules, avoided: Avoided | None) -> tuple[list[str | None], list[Taken]]:
    """The filter that takes each row (None: it stays), and the table, with a line for every filter."""
    reasons: list[str | None] = [None] * len(rows)
    table = []
    left = len(rows)
    for name, rule, fails in _steps(rules, avoided):
        there = [place for place, reason in enumerate(reasons) if reason is None]
        failed = fails([rows[place] for place in there]) if fails is not None else []
        for place, out in zip(there, failed, strict=False):
            if out:
                reasons[place] = name
        left -= sum(failed)
        table.append(Taken(name, rule if fails is not None else f"off: {rule}", sum(failed), left))
    return reasons, table


_Fails = Callable[[Sequence[Row]], list[bool]]


def _steps(rules: Rules, avoided: Avoided | None) -> list[tuple[str, str, _Fails | None]]:
    high = "" if rules.max_chars is None else f", more than {rules.max_chars:,}"
    near, script = f"{rules.near:g}", f"{rules.min_script:g}"
    return [
        ("truncated", "ended at the most tokens", _each(_cut) if rules.truncated else None),
        ("empty", "no character but blanks", _each(lambda row: not row.completion.strip())),
        ("refusal", "begins like a refusal (English patterns)", _each(_refuses) if rules.refusals else None),
        ("length", f"fewer than {rules.min_chars:,} characters{high}", _each(lambda row: not _fits(row, rules))),
        (
            "script",
            f"less than {script} of its letters in the prompt's scripts",
            _each(lambda row: in_script(row.prompt, row.completion) < rules.min_script) if rules.min_script else None,
        ),
        ("duplicate", "the same prompt and completion, but for case, blanks and punctuation", _exact),
        (
            "near duplicate",
            f"prompts and completions share {near} of their word 3-grams",
            (lambda rows: _near(rows, rules.near)) if rules.near else None,
        ),
        ("overlap", "a run of 8 words of evaluation data", None if avoided is None else _each(avoided.meets)),
    ]


def _each(fails: Callable[[Row], bool]) -> _Fails:
    return lambda rows: [fails(row) for row in rows]


def _cut(row: Row) -> bool:
    return row.finish_reason == "length"


def _refuses(row: Row) -> bool:
    return row.finish_reason in ("refusal", "content_filter") or is_refusal(row.completion)


def is_refusal(text: str) -> bool:
    """Whether a text begins like one of `REFUSALS`.

    >>> is_refusal("I'm sorry, but I can't help with that."), is_refusal("I am sorry for your loss.")
    (True, False)
    """
    return bool(_REFUSAL.match(text.replace("’", "'")))


def _fits(row: Row, rules: Rules) -> bool:
    size = len(row.completion.strip())
    return rules.min_chars <= size and (rules.max_chars is None or size <= rules.max_chars)


def _plain(text: str) -> str:
    """Words alone; a text without any (formulas, symbols) is itself."""
    return " ".join(words(text)) or text.strip()


def _exact(rows: Sequence[Row]) -> list[bool]:
    seen: set[tuple[str, str]] = set()
    failed = []
    for row in rows:
        key = (_plain(row.prompt), _plain(row.completion))
        failed.append(key in seen)
        seen.add(key)
    return failed


def _near(rows: Sequence[Row], least: float) -> list[bool]:
    """Both sides alike means that the union of both sides is: that is what MinHash looks for."""
    asked = [grams(row.prompt, GRAM) for row in rows]
    said = [grams(row.completion, GRAM) for row in rows]
    both = [{f"p {gram}" for gram in a} | {f"c {gram}" for gram in b} for a, b in zip(asked, said, strict=True)]

    def alike(one: int, other: int) -> bool:
        return jaccard(said[one], said[other]) >= least and jaccard(asked[one], asked[other]) >= least

    return [like is not None for like in first_like(both, alike)]
