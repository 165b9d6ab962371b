"""A tokenizer with fewer sub-words: which to keep, and the tokenizer.json that follows. No torch, no model.

Three models are known: WordPiece (BERT), BPE (RoBERTa; byte-level or not) and Unigram (SentencePiece).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from understudy.errors import UsageError

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
Definition = dict[str, Any]


def vocabulary_of(definition: Definition) -> dict[str, int]:
    """Token -> id of a tokenizer.json, added tokens included.

    Raises:
        UsageError: a tokenizer of another kind.
    """
    model = definition["model"]
    prefixed = model.get("type") == "BPE" and model.get("continuing_subword_prefix")
    if prefixed or model.get("type") not in ("WordPiece", "BPE", "Unigram"):
        raise UsageError(
            "a tokenizer of type WordPiece, BPE (without a prefix for continuing pieces) or Unigram was looked for, "
            f"and this one is {model.get('type')}: its vocabulary cannot be pruned"
        )
    listed = model["vocab"]
    found = {row[0]: i for i, row in enumerate(listed)} if model["type"] == "Unigram" else dict(listed)
    return {**found, **{token["content"]: token["id"] for token in definition.get("added_tokens") or ()}}


def required(definition: Definition) -> set[str]:
    """Tokens that no pruning may lose: added ones, whatever anything but the model refers to, and single characters.

    Of a byte-level BPE these are its 256 bytes; of WordPiece ``x`` and ``##x``; of others single characters, and the
    bytes that they fall back on.
    """
    vocabulary, model = vocabulary_of(definition), definition["model"]
    kept = {token["content"] for token in definition.get("added_tokens") or ()}
    kept |= {text for key, part in definition.items() if key not in ("model", "version") for text in _strings(part)}
    if isinstance(model.get("unk_token"), str):
        kept.add(model["unk_token"])
    if isinstance(model.get("unk_id"), int):
        kept.add(model["vocab"][model["unk_id"]][0])
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    for token in vocabulary:
        bare = token.removeprefix(prefix) if model["type"] == "WordPiece" else token.removesuffix(suffix)
        if len(bare) == 1 or len(token) == 1:
            kept.add(token)
    if model.get("byte_fallback"):
        kept.update(BYTES)
    return kept & vocabulary.keys()


def origins_of(definition: Definition) -> Callable[[str], set[str]]:
    """token -> the tokens that have to be there for it: itself, and of BPE all that its merges build on the way."""
    if definition["model"]["type"] != "BPE":
        return lambda token: {token}
    ranks = {pair: rank for rank, pair in enumerate(_merges(definition))}
    suffix, there = definition["model"].get("end_of_word_suffix") or "", vocabulary_of(definition).keys()
    return lambda token: ({token} | _built(token, ranks, suffix)) & there


def pruned(definition: Definition, tokens: Iterable[str]) -> tuple[Definition, list[int]]:
    """The tokenizer.json with these tokens only, and the old id of every new one; their order stays.

    Args:
        definition: of the old tokenizer.
        tokens: what is kept, `required` ones among them and what they are built from too (`origins_of`).
    """
    vocabulary, kept = vocabulary_of(definition), set(tokens)
    old = sorted(vocabulary[token] for token in kept)
    new = {vocabulary[token]: place for place, token in enumerate(sorted(kept, key=vocabulary.__getitem__))}
    found = copy.deepcopy(definition)
    model = found["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [row for row in model["vocab"] if row[0] in kept]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {token: new[i] for token, i in sorted(model["vocab"].items(), key=_second) if token in kept}
    if model["type"] == "BPE":
        pairs = zip(model["merges"], _merges(definition), strict=True)
        model["merges"] = [raw for raw, (a, b) in pairs if {a, b, a + b} <= kept]
    for token in found.get("added_tokens") or ():
        token["id"] = new[token["id"]]
    _renumber(found.get("post_processor"), new)
    return found, old


def _merges(definition: Definition) -> list[tuple[str, str]]:
    """Pairs in their order; older files have them as one string."""
    return [
        (pair[0], pair[1]) if not isinstance(pair, str) else (pair.split(" ")[0], pair.split(" ")[1])
        for pair in definition["model"]["merges"]
    ]


def _built(token: str, ranks: Mapping[tuple[str, str], int], suffix: str) -> set[str]:
    """Every piece that BPE makes on its way from a token's characters to the token.

    Inside a longer word it goes the same way: no merge crosses the ends of a piece that is there at last.
    """
    parts = list(token.removesuffix(suffix)) if suffix else list(token)
    if suffix and token.endswith(suffix) and parts:
        parts[-1] += suffix
    found = set(parts)
    while len(parts) > 1:
        each = [ranks.get(pair, len(ranks)) for pair in pairwise(parts)]
        rank, i = min((rank, i) for i, rank in enumerate(each))
        if rank == len(ranks):
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        found.add(parts[i])
    return found


def _strings(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield from (str(key), *_strings(value))
    elif isinstance(part, Sequence):
        for value in part:
            yield from _strings(value)


def _renumber(part: Any, new: Mapping[int, int]) -> None:
    """The ids in a post-processor: ``ids`` of a template's special tokens, and the pairs of BERT's and RoBERTa's."""
    if isinstance(part, list):
        for one in part:
            _renumber(one, new)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key == "ids" and isinstance(value, list):
                part[key] = [new[i] for i in value]
            elif key in ("sep", "cls") and isinstance(value, list) and len(value) == 2:
                part[key] = [value[0], new[value[1]]]
            else:
                _renumber(value, new)


def _second(pair: tuple[str, int]) -> int:
    return pair[1]
