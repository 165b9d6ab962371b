"""The rows of the law table for terms that match layers one by one."""

from __future__ import annotations

from tests.laws.law import DivergenceLaw, TermLaw
from understudy import objectives as match

DIVERGENCES = (DivergenceLaw("cosine_distance", match.cosine_distance, at_most=2.0, temperature=False, shift=False),)

_LAYERS = {"encoder.layer.0": "encoder.layer.1", "encoder.layer.1": "encoder.layer.3"}
_MAPS = {"layer1": "layer2"}
_SMALL, _LARGE, _WIDE = {"module:layer1": (3, 2, 5)}, {"module:layer2": (3, 4, 3)}, {"module:layer2": (4, 4, 3)}
_FIRST = {"hidden.1": (4, 6), "hidden.2": (4, 6)}
TERMS = (
    TermLaw("hidden_states", match.hidden_states(_LAYERS), ((6, 6), (5, 5)), logits=False),
    TermLaw("hidden_states", match.hidden_states(_LAYERS), ((6, 4), (5, 5)), None, logits=False, variant="widths"),
    TermLaw("hidden_states", match.hidden_states({"a": "b"}, per="examples"), ((6, 6),), logits=False, variant="rows"),
    TermLaw("hidden_states", match.hidden_states({1: 2}, distance="cosine"), ((6, 6),), logits=False, variant="cosine"),
    TermLaw(
        "hidden_states",
        match.hidden_states({1: 2, 3: 3}, distance="cosine"),
        ((6, 4), (5, 5)),
        None,
        logits=False,
        variant="cosine, widths",
    ),
    TermLaw(
        "hidden_states",
        match.hidden_states({1: 2}, distance="cosine", per="examples"),
        logits=False,
        student={"hidden.1": (4, 6)},
        teacher={"hidden.2": (4, 6)},
        variant="patches",
    ),
    TermLaw("embeddings", match.embeddings(), ((6, 6),), logits=False),
    TermLaw("embeddings", match.embeddings(student="embedder"), ((6, 4),), None, logits=False, variant="widths"),
    TermLaw(
        "hints",
        match.hints(_MAPS),
        logits=False,
        student={"module:layer1": (3, 2, 5)},
        teacher={"module:layer2": (3, 2, 5)},
    ),
    TermLaw(
        "hints", match.hints(_MAPS), at_equality=None, logits=False, student=_SMALL, teacher=_LARGE, variant="sizes"
    ),
    TermLaw(
        "hints", match.hints(_MAPS), at_equality=None, logits=False, student=_SMALL, teacher=_WIDE, variant="channels"
    ),
    TermLaw("hints", match.hints({"features": "features"}), ((6, 6),), logits=False, variant="rows"),
    TermLaw("hints", match.hints({1: 2}, per="tokens"), ((6, 4),), None, logits=False, variant="tokens"),
    TermLaw("patient", match.patient({1: 1, 2: 2}), logits=False, student=_FIRST, teacher=_FIRST),
    TermLaw(
        "patient",
        match.patient({1: 1, 2: 2}, per="labelled"),
        at_equality=None,
        logits=False,
        student=_FIRST,
        teacher={"hidden.1": (3, 6), "hidden.2": (3, 8)},
        variant="widths and lengths",
    ),
)
