"""The rows of the law table for attention: of heads, of relations between positions, and of a layer's energy."""

from __future__ import annotations

from tests.laws.law import TermLaw
from understudy import objectives as match

# [heads, L, d] of four positions, as the table's token masks are
_HEADS = {"key.2": (2, 4, 3), "query.2": (2, 4, 3), "value.2": (2, 4, 3)}
_WIDER = {"key.4": (3, 4, 4), "query.4": (3, 4, 4), "value.4": (3, 4, 4)}  # width 12 beside 6: three relation heads
_SAME = {"key.4": (2, 4, 3), "query.4": (2, 4, 3), "value.4": (2, 4, 3)}


def _only(shapes: dict[str, tuple[int, ...]], *kinds: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in shapes.items() if name.partition(".")[0] in kinds}


TERMS = (
    TermLaw(
        "attention_maps",
        match.attention_maps({1: 2, 2: 4}),
        logits=False,
        student={"attention.1": (2, 4, 4), "attention.2": (3, 4, 4)},
        teacher={"attention.2": (2, 4, 4), "attention.4": (3, 4, 4)},
    ),
    TermLaw(
        "attention_maps",
        match.attention_maps({2: 4}, space="scores"),
        logits=False,
        student=_only(_HEADS, "key", "query"),
        teacher=_only(_SAME, "key", "query"),
        variant="scores",
    ),
    TermLaw(
        "self_attention_relations",
        match.self_attention_relations({2: 4}),
        logits=False,
        student=_HEADS,
        teacher=_SAME,
    ),
    TermLaw(
        "self_attention_relations",
        match.self_attention_relations({2: 4}),
        at_equality=None,
        logits=False,
        student=_HEADS,
        teacher=_WIDER,
        variant="widths",
    ),
    TermLaw(
        "self_attention_relations",
        match.self_attention_relations({2: 4}, relations=("attention", "value"), heads=1),
        logits=False,
        student=_HEADS,
        teacher=_SAME,
        variant="attention",
    ),
    TermLaw(
        "attention_transfer",
        match.attention_transfer({"a": "b", "c": "d"}),
        logits=False,
        student={"module:a": (3, 4, 5), "module:c": (2, 3, 3)},
        teacher={"module:b": (3, 4, 5), "module:d": (2, 3, 3)},
    ),
    TermLaw(
        "attention_transfer",
        match.attention_transfer({"a": "b"}, power=3),
        at_equality=None,
        logits=False,
        student={"module:a": (3, 4, 5)},
        teacher={"module:b": (6, 2, 7)},  # lower and wider: each is pooled along one side
        variant="sizes",
    ),
    TermLaw(
        "attention_transfer",
        match.attention_transfer({2: 4}, power=1),
        at_equality=None,
        logits=False,
        student={"hidden.2": (4, 5)},
        teacher={"hidden.4": (4, 7)},
        variant="sequences",
    ),
)
