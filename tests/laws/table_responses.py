"""The rows of the law table for responses: parts of a KL, correlations, z-scores, many labels, scores."""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor

from tests.laws.law import DivergenceLaw, TermLaw
from understudy import objectives as match


def decoupled(
    student: Tensor, teacher: Tensor, *, part: int, support: Tensor | None = None, **settings: float
) -> Tensor:
    """One part of the decoupled KL for the teacher's likeliest label, so that it has the arguments of a divergence."""
    known = teacher if support is None else teacher.masked_fill(~support, -math.inf)
    return match.decoupled_kl(student, teacher, known.argmax(dim=-1), support=support, **settings)[part]


DIVERGENCES = (
    DivergenceLaw("binary_kl", match.binary_kl, shift=False),
    DivergenceLaw("correlation_distance", match.correlation_distance, at_most=2.0, temperature=False),
    DivergenceLaw("decoupled_kl", partial(decoupled, part=0), variant="target"),
    DivergenceLaw("decoupled_kl", partial(decoupled, part=1), variant="non_target"),
)

_DKD, _KNOWN = match.decoupled_kd, (0, 2, 3, 6)
_Z = match.logit_standardisation
TERMS = (
    TermLaw("decoupled_kd", _DKD(), constant_in_temperature=_DKD),
    TermLaw("decoupled_kd", _DKD(2.0, non_target=0.0), labels=2, widths=((2, 2),), variant="two labels"),
    TermLaw("decoupled_kd", _DKD(2.0, target=0.0, of="exit.0", against="self"), support=_KNOWN, variant="support"),
    TermLaw("dist", match.dist(2.0)),
    TermLaw("dist", match.dist(inter=0.0), widths=((2, 2),), labels=2, variant="intra"),
    TermLaw("dist", match.dist(inter=0.5, intra=0.0), variant="inter"),
    TermLaw("dist", match.dist(2.0), support=_KNOWN, variant="support"),
    TermLaw("dist", match.dist(per="tokens"), variant="tokens"),
    TermLaw("hard_scores", match.hard_scores(0.3), widths=((1, 1),), at_equality=None, answer="score", logits=False),
    TermLaw("hard_multi_label", match.hard_multi_label(0.3), at_equality=None, answer="labels", logits=False),
    TermLaw(
        "logit_standardisation", _Z(match.soft_labels(2.0)), constant_in_temperature=lambda t: _Z(match.soft_labels(t))
    ),
    TermLaw("logit_standardisation", _Z(match.soft_labels(per="tokens")), support=_KNOWN, variant="support"),
    TermLaw("logit_standardisation", _Z(_DKD()), variant="decoupled_kd"),
    TermLaw("logit_standardisation", _Z(match.dist()), variant="dist"),
    TermLaw("logit_standardisation", _Z(match.logit_mse()), variant="logit_mse"),
    TermLaw("multi_label", match.multi_label(2.0), constant_in_temperature=match.multi_label),
    TermLaw("multi_label", match.multi_label(per="tokens"), support=_KNOWN, variant="support"),
    TermLaw("regression", match.regression(), widths=((1, 1),)),
    TermLaw("regression", match.regression(per="tokens"), widths=((3, 3),), variant="tokens"),
    TermLaw(
        "regression", match.regression(), student={"logits": ()}, teacher={"logits": ()}, logits=False, variant="flat"
    ),
    TermLaw("virtual_teacher", match.virtual_teacher(), at_equality=None),
    TermLaw(
        "virtual_teacher",
        match.virtual_teacher(certainty=0.99, temperature=2.0),
        at_equality=None,
        constant_in_temperature=lambda temperature: match.virtual_teacher(temperature=temperature),
        variant="0.99",
    ),
)
