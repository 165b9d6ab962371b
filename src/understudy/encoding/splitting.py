"""Texts to words and punctuation marks: one text by a regular expression, many texts at once by plain replacing.

The expression costs several times what everything behind it costs. Where it can only say what `str.split` says (ASCII
without an apostrophe), marks are set off by spaces in all texts at once instead.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

END = "''"
"""Follows every text in `split_all`; no text gives it, for a mark is one character and a word is no mark."""
LONGEST = 64
"""Letters of one word: an endless "word" (base64, say) must not cost more than its length."""

_split = re.compile(rf"\w{{1,{LONGEST}}}(?:'\w{{1,16}})?|[^\w\s]").findall
_MARKS = [mark for mark in map(chr, range(128)) if not (mark.isalnum() or mark.isspace() or mark in "_'")]


def split(text: str, *, lowercase: bool = True) -> list[str]:
    """The words and punctuation marks of a text, in order.

    >>> split("Where's my card?")
    ["where's", 'my', 'card', '?']
    """
    if not text.isascii():  # ligatures, full-width letters, combining accents, typographic apostrophes
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
    return _split(text.lower() if lowercase else text)


def split_all(texts: Iterable[str], *, lowercase: bool = True, careful: bool = False) -> list[str]:
    """What `split` says of every text, one after the other, each followed by ``END``.

    Words longer than ``LONGEST`` are not cut, unless ``careful``: whoever meets one asks again. (To look for them would
    cost as much as the splitting.)

    >>> split_all(["my card?", ""])
    ['my', 'card', '?', "''", "''"]
    """
    if careful:
        parts = [" ".join(split(text, lowercase=lowercase)) for text in texts]
    elif lowercase:
        parts = [text.lower() if text.isascii() and "'" not in text else " ".join(split(text)) for text in texts]
    else:
        parts = [
            text if text.isascii() and "'" not in text else " ".join(split(text, lowercase=False)) for text in texts
        ]
    whole = f" {END} ".join([*parts, ""])
    for mark in _MARKS:
        if mark in whole:
            whole = whole.replace(mark, f" {mark} ")
    return whole.split()


def uncut(word: str) -> bool:
    """Whether `split` would have cut this word of `split_all`."""
    return len(word) > LONGEST and "'" not in word
