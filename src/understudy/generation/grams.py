"""Words of a text and runs of them: what duplicates and overlaps are counted in."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_WORD = re.compile(r"\w+")
_JAPANESE = ("HIRAGANA", "KATAKANA", "CJK")


def words(text: str) -> list[str]:
    """The words, case folded; punctuation is none.

    >>> words("It's 3 o'clock.")
    ['it', 's', '3', 'o', 'clock']
    """
    return _WORD.findall(text.casefold())


def grams(text: str, size: int) -> set[str]:
    """Every run of ``size`` words; a shorter text is one run.

    >>> sorted(grams("a b c d", 3)), grams("A b", 3)
    (['a b c', 'b c d'], {'a b'})
    """
    found = words(text)
    if len(found) <= size:
        return {" ".join(found)} if found else set()
    return {" ".join(found[start : start + size]) for start in range(len(found) - size + 1)}


def jaccard(left: set[str], right: set[str]) -> float:
    """Shared / all; two empty sets are the same.

    >>> jaccard({"a", "b"}, {"b", "c"})
    0.3333333333333333
    """
    every = len(left | right)
    return len(left & right) / every if every else 1.0


def scripts(text: str) -> Counter[str]:
    """Letters by script: the first word of their Unicode names (LATIN, CYRILLIC, ...); Japan's three are CJK.

    >>> dict(scripts("Да, ok"))
    {'CYRILLIC': 2, 'LATIN': 2}
    """
    count: Counter[str] = Counter()
    for letter, times in Counter(text).items():
        if letter.isalpha():
            name = unicodedata.name(letter, "UNNAMED").partition(" ")[0].partition("-")[0]
            count["CJK" if name in _JAPANESE else name] += times
    return count


def in_script(prompt: str, completion: str) -> float:
    """Share of the completion's letters that are of a script with a tenth of the prompt's letters or more.

    A rule about letters: it tells Russian from English, not French from English. 1 where either has no letters.

    >>> in_script("Where is it?", "Здесь"), in_script("Where?", "42")
    (0.0, 1.0)
    """
    asked, said = scripts(prompt), scripts(completion)
    if not asked or not said:
        return 1.0
    known = {name for name, times in asked.items() if times >= asked.total() / 10}
    return sum(times for name, times in said.items() if name in known) / said.total()
