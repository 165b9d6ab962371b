"""Views of a text: words dropped, swapped or replaced. Pure functions of the text and of one random generator.

Words are what white space separates, punctuation attached. The white space between words that stay together is kept,
since some tokenizers read it. At least one word is touched wherever the text allows it; no view is ever empty where the
text was not. A list of words is a text whose words are given, and its views are lists.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from understudy.errors import UsageError

Random = np.random.Generator
Text = TypeVar("Text", str, list[str])
Neighbours = Mapping[str, Sequence[str]]
Fill = Callable[[Sequence[tuple[str, ...]]], Sequence[Sequence[Sequence[str]]]]
"""Texts with holes -> for every hole the words that fit, best first. The N + 1 pieces around N holes are a text."""

_ROWS = 512  # of a block of cosines: 512 x 30,000 in fp32 is 61 MB
_apart = re.compile(r"(\S+)").split  # white space at the even places, words at the odd ones


def drop_words(text: Text, random: Random, share: float = 0.15) -> Text:
    """The text without some of its words.

    Formula: max(1, round(share * n)) of n words go, at most n - 1.

    Args:
        share: of the words, in [0, 1]; at 0 the text comes back as it is.

    Raises:
        UsageError: a share outside [0, 1].

    >>> sorted({drop_words("my card, please?", np.random.default_rng(seed)) for seed in range(20)})
    ['card, please?', 'my card,', 'my please?']
    >>> drop_words(["my", "card"], np.random.default_rng(0))
    ['card']

    Source: J. Wei and K. Zou, EDA, arXiv 1901.11196, section 2 (random deletion); there every word goes with
    probability ``share``, which leaves a short text as it was too often.
    """
    pieces = _pieces(text)
    words = len(pieces) // 2
    gone = _some(random, words, min(_count(words, share), words - 1))
    if not gone:
        return text
    if isinstance(text, list):
        return [word for i, word in enumerate(text) if i not in gone]
    kept = "".join(pieces[2 * i] + pieces[2 * i + 1] for i in range(words) if i not in gone)
    return pieces[0] + kept.lstrip() + pieces[-1]


def swap_words(text: Text, random: Random, share: float = 0.1) -> Text:
    """The text with some neighbouring words in each other's place; no word moves by more than one place.

    Formula: max(1, round(share * n)) pairs of n words, fewer where no more pairs are left that share no word.

    Args:
        share: pairs per word, in [0, 1]; at 0 the text comes back as it is.

    Raises:
        UsageError: a share outside [0, 1].

    >>> sorted({swap_words("my card, please?", np.random.default_rng(seed)) for seed in range(20)})
    ['card, my please?', 'my please? card,']

    Source: J. Wei and K. Zou, EDA, arXiv 1901.11196, section 2 (random swap); there any two words change places.
    """
    pieces = _pieces(text)
    words = len(pieces) // 2
    left, moved = _count(words, share), set[int]()
    for i in random.permutation(max(0, words - 1)).tolist() if left else ():
        if left and i not in moved and i + 1 not in moved:
            pieces[2 * i + 1], pieces[2 * i + 3] = pieces[2 * i + 3], pieces[2 * i + 1]
            moved |= {i, i + 1}
            left -= 1
    return _whole(pieces, text)


def replace_words(text: Text, random: Random, neighbours: Neighbours, share: float = 0.15) -> Text:
    """The text with some words replaced by near ones, all of them equally likely.

    A word is looked up as it stands, then without the punctuation around it, each as written and in lower case. The
    punctuation stays, and a capital or capitals carry over to the new word.

    Formula: max(1, round(share * n)) of n words, or as many as have neighbours.

    Args:
        neighbours: word -> near words (`nearest_words`).
        share: of the words, in [0, 1]; at 0 the text comes back as it is.

    Raises:
        UsageError: a share outside [0, 1].

    >>> replace_words("Where is my Card?", np.random.default_rng(0), {"card": ["account"]})
    'Where is my Account?'

    Source: X. Jiao et al., TinyBERT, arXiv 1909.10351, algorithm 1 (words of several pieces); there every word is
    replaced with probability 0.4.
    """
    pieces = _pieces(text)
    known = [(i, found) for i in range(1, len(pieces), 2) if (found := _look_up(pieces[i], neighbours))[-1]]
    for chosen in sorted(_some(random, len(known), _count(len(pieces) // 2, share))):
        i, (before, core, after, options) = known[chosen]
        pieces[i] = before + _cased(options[int(random.integers(len(options)))], core) + after
    return _whole(pieces, text)


def masked_words(texts: Sequence[Text], randoms: Sequence[Random], fill: Fill, share: float = 0.15) -> list[Text]:
    """The texts with some words replaced by what a masked language model says in their place.

    All holes of all texts are asked about in one call of ``fill``, so that it can form batches; each text draws from
    its own generator, so that its view does not depend on the others. Of the words that fit, the original aside, all
    are equally likely. A word without a letter or digit stays, and so does one for which nothing else fits.

    Formula: max(1, round(share * n)) of n words, or as many as have letters or digits.

    Args:
        texts: N texts.
        randoms: N generators.
        fill: texts with holes -> words for each hole, best first (`data.filling.masked_language_model`).
        share: of the words, in [0, 1]; at 0 the texts come back as they are.

    Raises:
        UsageError: a share outside [0, 1], or answers that are not one per text and hole.

    >>> fill = lambda asked: [[["card", "train"] for _ in pieces[1:]] for pieces in asked]
    >>> masked_words(["Card?", "..."], [np.random.default_rng(0), np.random.default_rng(1)], fill)
    ['Train?', '...']

    Source: X. Jiao et al., TinyBERT, arXiv 1909.10351, algorithm 1 (words of one piece); there every word is replaced
    with probability 0.4, and one hole is asked about at a time.
    """
    drafts = [_draft(text, random, share) for text, random in zip(texts, randoms, strict=True)]
    asked = [i for i, (_, holes) in enumerate(drafts) if holes]
    answers = fill([_around(*drafts[i]) for i in asked]) if asked else []
    if [len(answer) for answer in answers] != [len(drafts[i][1]) for i in asked]:
        raise UsageError(
            f"fill is to answer with a list of words for every hole; {len(asked):,} texts with "
            f"{sum(len(drafts[i][1]) for i in asked):,} holes got {sum(map(len, answers)):,} lists in {len(answers):,}"
        )
    views = list(texts)
    for i, answer in zip(asked, answers, strict=True):
        pieces, holes = drafts[i]
        for place, words in zip(holes, answer, strict=True):
            before, core, after = _bare(pieces[place])
            options = [word for word in words if word and word.casefold() != core.casefold()]
            if options:
                chosen = options[int(randoms[i].integers(len(options)))]
                pieces[place] = before + _cased(chosen, core) + after
        views[i] = _whole(pieces, views[i])
    return views


def nearest_words(words: Sequence[str], vectors: np.ndarray[Any, Any], k: int = 5) -> dict[str, tuple[str, ...]]:
    """Each word's ``k`` nearest others by the cosine of their vectors, nearest first; of equals, the earlier word.

    Words whose vectors are zero have no direction: they are neither asked about nor answered.

    Args:
        words: W different words. Leave punctuation and numbers out where they should not stand in for words.
        vectors: [W, D] (`students.static_vectors`).
        k: neighbours of a word; fewer where there are fewer words.

    Returns:
        word -> its neighbours. 30,000 x 256 takes some seconds on one core.

    Raises:
        UsageError: not one finite vector per word, or ``k`` below 1.

    >>> nearest_words(["red", "blue", "one"], np.array([[3.0, 1.0], [2.0, 1.0], [0.0, 1.0]]), k=1)
    {'red': ('blue',), 'blue': ('red',), 'one': ('blue',)}
    """
    wide = np.asarray(vectors, np.float64)
    if wide.ndim != 2 or len(wide) != len(words) or k < 1 or not np.isfinite(wide).all():
        raise UsageError(
            f"nearest_words wants one finite vector per word and k of at least 1; got {len(words):,} words, vectors "
            f"{list(wide.shape)} and k={k}"
        )
    lengths = np.linalg.norm(wide, axis=1)
    there = np.flatnonzero(lengths > 0)
    unit = (wide[there] / lengths[there, None]).astype(np.float32)
    named = [words[i] for i in there.tolist()]
    nearest: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(unit), _ROWS):
        cosines = unit[start : start + _ROWS] @ unit.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        places = []
        for _ in range(
            min(k, len(unit) - 1)
        ):  # k passes of argmax are faster than any partial sort, and ties are settled
            places.append(cosines.argmax(axis=1))
            cosines[rows, places[-1]] = -np.inf
        for row in rows.tolist():
            nearest[named[start + row]] = tuple(named[int(place[row])] for place in places)
    return nearest


def _count(words: int, share: float) -> int:
    if not 0 <= share <= 1:
        raise UsageError(f"a share of the words lies between 0 and 1, got {share}")
    return max(1, round(share * words)) if share and words else 0


def _some(random: Random, among: int, count: int) -> set[int]:
    """``count`` different numbers below ``among``, or all of them."""
    return set(random.permutation(among)[:count].tolist()) if among > 0 and count > 0 else set()


def _bare(word: str) -> tuple[str, str, str]:
    """A word apart from the punctuation and symbols around it. Not ``\\W``: that would cut off combining marks."""
    start, end = 0, len(word)
    while start < end and unicodedata.category(word[start])[0] in "PS":
        start += 1
    while end > start and unicodedata.category(word[end - 1])[0] in "PS":
        end -= 1
    return word[:start], word[start:end], word[end:]


def _look_up(word: str, neighbours: Neighbours) -> tuple[str, str, str, list[str]]:
    """What stands before the word, the word, what stands after it, and its neighbours."""
    for before, core, after in (("", word, ""), _bare(word)):
        for form in (core, core.lower()):
            if form in neighbours and any(map(str.isalnum, form)):
                return before, core, after, [other for other in neighbours[form] if other and other != form]
    return "", word, "", []


def _cased(word: str, like: str) -> str:
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


def _pieces(text: str | list[str]) -> list[str]:
    """White space at the even places, words at the odd ones."""
    if isinstance(text, str):
        return _apart(text)
    pieces = [" "] * (2 * len(text) + 1)
    pieces[1::2], pieces[0], pieces[-1] = text, "", ""
    return pieces


def _whole(pieces: list[str], like: Text) -> Text:
    """What the pieces are together: a text, or a list of words."""
    return "".join(pieces) if isinstance(like, str) else pieces[1::2]


def _draft(text: str | list[str], random: Random, share: float) -> tuple[list[str], list[int]]:
    """The pieces of a text, and the places of the words to be replaced, rising."""
    pieces = _pieces(text)
    spoken = [i for i in range(1, len(pieces), 2) if any(map(str.isalnum, pieces[i]))]
    return pieces, [spoken[i] for i in sorted(_some(random, len(spoken), _count(len(pieces) // 2, share)))]


def _around(pieces: list[str], holes: list[int]) -> tuple[str, ...]:
    """What stands around the holes; the punctuation of a word that goes stays."""
    parts, start = [""], 0
    for hole in holes:
        before, _, after = _bare(pieces[hole])
        parts[-1] += "".join(pieces[start:hole]) + before
        parts.append(after)
        start = hole + 1
    parts[-1] += "".join(pieces[start:])
    return tuple(parts)
