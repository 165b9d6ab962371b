"""The rows of the law table for what features say together, and for reviewed ones."""

from __future__ import annotations

from tests.laws.law import TermLaw
from understudy import objectives as match

_ONE = {"layer1": "layer2"}
_TWO = {"layer1": "layer1", "layer2": "layer2"}
_ROOMY, _CROWDED = {"module:layer1": (2, 3, 4)}, {"module:layer1": (6, 2, 2)}
_STAGES = {"module:layer1": (3, 6, 6), "module:layer2": (4, 3, 3)}
TERMS = (
    TermLaw(
        "variational_information",
        match.variational_information(_TWO),
        at_equality=None,
        logits=False,
        student=_STAGES,
        teacher={"module:layer1": (5, 6, 6), "module:layer2": (4, 4, 2)},
    ),
    TermLaw(
        "variational_information",
        match.variational_information({1: 2}, per="tokens"),
        ((6, 4),),
        None,
        logits=False,
        variant="tokens",
    ),
    TermLaw(
        "variational_information", match.variational_information({"features": "features"}), at_equality=None,
        logits=False, variant="rows",
    ),
    TermLaw(
        "neuron_selectivity", match.neuron_selectivity({"layer1": "layer1"}), logits=False, student=_ROOMY,
        teacher=_ROOMY, variant="more positions than channels",
    ),
    TermLaw(
        "neuron_selectivity", match.neuron_selectivity({"layer1": "layer1"}), logits=False, student=_CROWDED,
        teacher=_CROWDED, variant="more channels than positions",
    ),
    TermLaw(
        "neuron_selectivity", match.neuron_selectivity({**_ONE, 1: 3}), at_equality=None, logits=False,
        student={**_ROOMY, "hidden.1": (4, 5)}, teacher={"module:layer2": (5, 2, 5), "hidden.3": (4, 7)},
        variant="sizes",
    ),
    TermLaw("probabilistic", match.probabilistic(), logits=False),
    TermLaw(
        "probabilistic", match.probabilistic(per="labelled"), ((6, 4),), None, logits=False, variant="widths"
    ),
    TermLaw(
        "review",
        match.review(_TWO),
        at_equality=None,
        logits=False,
        student=_STAGES,
        teacher={"module:layer1": (2, 5, 6), "module:layer2": (6, 4, 4)},
    ),
    TermLaw(
        "review", match.review({"layer1": "layer1"}), at_equality=None, logits=False, student=_CROWDED,
        teacher=_CROWDED, variant="one",
    ),
)  # fmt: skip
