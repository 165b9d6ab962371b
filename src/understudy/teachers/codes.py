"""One letter for each label, and what a language model's first token says about them."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

import numpy as np

LETTERS = string.ascii_uppercase + string.ascii_lowercase
_MARKS = " \n\t▁Ġ"  # how tokenizers write the blank before a word


def codes(labels: int) -> tuple[str, ...]:
    """A, B, ...: single tokens of every tokenizer in use; numbers beyond 52 labels, which need not be.

    >>> codes(3), codes(60)[-1]
    (('A', 'B', 'C'), '60')
    """
    return tuple(LETTERS[:labels]) if labels <= len(LETTERS) else tuple(str(i + 1) for i in range(labels))


def distribution(top: Sequence[tuple[str, float]], known: Sequence[str]) -> tuple[np.ndarray, float, bool]:
    """Probabilities of the labels from the likeliest first tokens.

    A code that is not listed is at most as likely as the least token that is, and no more is left than the list leaves:
    it gets the smaller of that and an equal share of what is left. Then all are divided by their sum.

    Args:
        top: (token, log-probability in nats).
        known: codes.

    Returns:
        Probabilities [K]; the mass that was seen on codes, before any of that; whether every code was listed. Where no
        code was listed, equal shares and a mass of 0.

    >>> said, mass, every = distribution([("A", -0.5), (" B", -1.5), ("The", -2.5)], ["A", "B"])
    >>> [round(float(p), 3) for p in said], round(mass, 3), every
    ([0.731, 0.269], 0.83, True)
    """
    seen = np.zeros(len(known))
    place = {code: index for index, code in enumerate(known)}
    for token, value in top:
        index = place.get(token.strip(_MARKS))
        if index is not None:
            seen[index] += np.exp(min(value, 0.0))
    mass = float(seen.sum())
    if not mass:
        return np.full(len(known), 1 / len(known)), 0.0, False
    missing = seen == 0
    if missing.any():
        listed = np.exp(np.minimum([value for _, value in top], 0.0))
        seen[missing] = min(float(listed.min()), max(0.0, 1 - float(listed.sum())) / int(missing.sum()))
    return seen / seen.sum(), min(mass, 1.0), not missing.any()


def vote(text: str, known: Sequence[str], labels: Sequence[str]) -> int | None:
    """The label that an answer names: its first word is a code, or the whole is a label; None where neither.

    >>> vote("B.", ["A", "B"], ["no", "yes"]), vote(" Yes", ["A", "B"], ["no", "yes"]), vote("Well", ["A"], ["no"])
    (1, 1, None)
    """
    first = re.match(r"\W*(\w+)", text)
    plain = [label.casefold() for label in labels]
    whole = text.strip().strip(".\"'*").casefold()
    if whole in plain:
        return plain.index(whole)
    return list(known).index(first[1]) if first and first[1] in known else None
