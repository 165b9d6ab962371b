"""A list of words as a small file: what each word shares with the one before is left out, and the rest is compressed.

Of clinc150's 5,335 words 38 kB are left as plain text, 16 kB sorted and compressed, 12 kB in this form.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from understudy.errors import StoreError
from understudy.files import write_bytes

FILE = "words.z"
_SHARED = 64  # the most letters that are left out
_FIRST = 33  # how many are left out is one character, from "!" on
_MOST = 1 << 28  # bytes of a list; more is no list of words


def write_words(path: Path, words: Sequence[str]) -> None:
    """Write words without line breaks, in their order; sorted ones need the least."""
    lines, before = [], ""
    for word in words:
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, word[:_SHARED], strict=False)))
        lines.append(chr(_FIRST + shared) + word[shared:])
        before = word
    write_bytes(path, zlib.compress("\n".join(lines).encode("utf-8", "surrogatepass"), 9))


def read_words(path: Path) -> list[str]:
    """The words that `write_words` wrote, or of a plain file with a word a line (``.txt``, as before).

    Raises:
        StoreError: the file is missing or holds something else.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".txt":
            return data.decode("utf-8", "surrogatepass").split("\n") if data else []
        lines = _inflated(data).decode("utf-8", "surrogatepass").split("\n")
        words, before = [], ""
        for line in lines:
            shared = ord(line[0]) - _FIRST
            if not 0 <= shared <= len(before):
                raise ValueError("a word shares more than there is")
            before = before[:shared] + line[1:]
            words.append(before)
    except (OSError, ValueError, IndexError, zlib.error) as error:
        raise StoreError(f"cannot read the words in {path}: {error}") from error
    return words


def _inflated(data: bytes) -> bytes:
    inflating = zlib.decompressobj()
    whole = inflating.decompress(data, _MOST)
    if not inflating.eof:
        raise ValueError("cut short, or longer than any list of words")
    return whole
