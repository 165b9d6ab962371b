"""The example page for the browser: its word encoder gives the ids of the Python one, for any text."""

from __future__ import annotations

import json
import random
import unicodedata
import zlib
from pathlib import Path

from understudy.encoding import SequenceEncoder, WordEncoder

from .browser import Browser

PAGE = Path(__file__).parents[2] / "examples" / "edge.html"
WORDS = ["card", "my", "where's", "s", "ß", "東京", "6th"]
PIECES = [
    "card", "my", "Where's", " ", "’", "'", "'s", "_", "\x1c", "\x85", "\u200b", "\ufeff", "İ", "ΑΣ ", "ﬁ", "Ⅷ", "½",
    "٣", "e\u0301", "\u0301", "😀", "👍🏽", "東京", "한국", "ⓐ", "²", "ſ", "ß", "6th", "\udc80", "a" * 70, "\x00", "",
]  # fmt: skip


def text(generator: random.Random) -> str:
    drawn = [
        generator.choice(PIECES)
        if generator.random() < 0.5
        else chr(generator.choice([generator.randint(32, 0x24F), generator.randint(0x250, 0xD7FF)]))
        for _ in range(generator.randint(0, 12))
    ]
    return "".join(drawn)


def test_the_page_reads_the_vocabulary_as_python_does(browser: Browser, tmp_path: Path) -> None:
    words = sorted([*WORDS, "cards", "cardboard", "𝒳𝒴", "𝒳𝒵", "éa", "éab"])
    entry = SequenceEncoder(WordEncoder(words), limit=8).save(tmp_path)
    text = zlib.decompress((tmp_path / entry["file"]).read_bytes()).decode()
    browser.open(PAGE)
    assert browser.value(f"JSON.stringify(vocabulary({json.dumps(text)}))") == json.dumps(
        words, ensure_ascii=False, separators=(",", ":")
    )


def test_the_page_encodes_as_python_does(browser: Browser) -> None:
    generator = random.Random(0)
    rows = [text(generator) for _ in range(4000)]
    rows = [row for row in rows if all(unicodedata.category(letter) != "Cn" for letter in row)]
    assert len(rows) > 1500
    encoder = SequenceEncoder(WordEncoder(WORDS, buckets=50), limit=8)
    found = encoder.encode({"text": rows})
    browser.open(PAGE)
    entry = {"lowercase": True, "buckets": 50, "limit": 8}
    code = f"JSON.stringify({json.dumps(rows)}.map(encoder({json.dumps(entry)}, {json.dumps(WORDS)})))"
    theirs = json.loads(browser.value(code))
    assert [(row, ids) for row, ids in zip(rows, theirs, strict=True)] == [
        (row, found[i].tolist()) for i, row in enumerate(rows)
    ]
    assert sum(max(ids) > 50 for ids in theirs) > 100  # hashed buckets were met
