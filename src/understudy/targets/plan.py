"""Which head and which sample of the tail fit a budget: bytes are what the format takes, the rest is judgement.

What is exact here are the bytes of a token (`packing.bytes_per_position`). That n = 2 k, that more is better, and that
it stops paying at `MOST`, are judgements; how much a head really holds of a teacher, `targets stats` measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from understudy.errors import UsageError
from understudy.targets.packing import bits_for, bytes_per_position

RATIO = 2  # tokens of the tail for each of the head
MOST = 64  # tokens of the head beyond which a budget is better spent on more text
BYTES_PER_ROW = 40
"""Of every row beside its tokens: its key, and where each of three signals begins. A shard's head is not counted."""


@dataclass(frozen=True)
class Choice:
    """One way to spend a budget.

    Attributes:
        k: tokens of the head, exact.
        n: tokens drawn from the tail.
        log_p_bits: of each log-probability, 16 or 8.
        bytes_per_token: in the store.
        total: bytes, of all tokens.
        what: what it is, in words.
    """

    k: int
    n: int
    log_p_bits: int
    bytes_per_token: int
    total: int
    what: str


def plan(
    budget: int, tokens: int, vocabulary: int, *, eight_bits: bool = False, ratio: int = RATIO
) -> tuple[Choice, ...]:
    """What fits, the recommended choice first: the largest k with n = ratio * k.

    Args:
        budget: bytes.
        tokens: that will be stored: those that count, at least 1.
        vocabulary: tokens of the teacher, at least 3.
        eight_bits: log-probabilities in 8 bits.
        ratio: n / k of the recommended choice, at least 1.

    >>> [(one.k, one.n, one.bytes_per_token) for one in plan(104 * 10**9, 10**9, 128_000)][0]
    (8, 16, 103)

    Raises:
        UsageError: a number that cannot be, or a budget below k = 1 and n = 1; the least is said.
    """
    for name, value, least in (
        ("a budget", budget, 1), ("tokens", tokens, 1), ("a vocabulary", vocabulary, 3), ("a ratio", ratio, 1)
    ):  # fmt: skip
        if value < least:
            raise UsageError(f"wanted {name} of at least {least}, got {value:,}")
    room = budget // tokens
    least = bytes_per_position(vocabulary, k=1, n=1, eight_bits=eight_bits)
    if room < least:
        raise UsageError(
            f"{budget / tokens:.3g} bytes a token are too few: k = 1 and n = 1 of {vocabulary:,} tokens take {least}, "
            f"which is {least * tokens / 1e9:.3g} GB for {tokens:,} tokens: a larger budget, or fewer tokens"
        )
    found: dict[tuple[int, int, bool], Choice] = {}
    for k, n, eight, what in _tried(room, vocabulary, eight_bits, ratio):
        size = bytes_per_position(vocabulary, k=k, n=n, eight_bits=eight)
        if size <= room:
            found.setdefault((k, n, eight), Choice(k, n, 8 if eight else 16, size, size * tokens, what))
    return tuple(found.values())


def _tried(room: int, vocabulary: int, eight_bits: bool, ratio: int) -> Iterator[tuple[int, int, bool, str]]:
    k, n = _largest(room, vocabulary, eight_bits, ratio)
    yield k, n, eight_bits, "recommended"
    other = "16 bits a log-probability" if eight_bits else "8 bits a log-probability"
    yield *_largest(room, vocabulary, not eight_bits, ratio), not eight_bits, f"the same in {other}"
    for share, what in ((1, "more head, less tail"), (2 * ratio, "less head, more tail")):
        yield *_largest(room, vocabulary, eight_bits, share), eight_bits, what
    yield max(1, k // 2), max(1, n // 2), eight_bits, "half of it"


def _largest(room: int, vocabulary: int, eight_bits: bool, ratio: int) -> tuple[int, int]:
    """k and n = ratio * k in ``room`` bytes; where not even k = 1 has so large a tail, what there is room for."""
    count = int((room - 4) * 8 // (bits_for(vocabulary) + (8 if eight_bits else 16)))
    while count > 2 and bytes_per_position(vocabulary, k=1, n=count - 1, eight_bits=eight_bits) > room:
        count -= 1
    k = min(count // (1 + ratio), MOST, vocabulary - 1)
    return (k, ratio * k) if k else (1, max(1, count - 1))
