"""The rows of the law table for plain divergences and the first terms; other families have a table of their own."""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor

from tests.laws.law import DivergenceLaw, TermLaw
from understudy import objectives as match


def against_own_choice(student: Tensor, teacher: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the teacher's likeliest label, so that it has the arguments of a divergence."""
    return match.cross_entropy(student, teacher.argmax(dim=-1), smoothing=smoothing)


top_k = partial(match.forward_kl_top_k, k=2)
DIVERGENCES = (
    DivergenceLaw("cross_entropy", against_own_choice, None, False, temperature=False, support=False),
    DivergenceLaw(
        "cross_entropy",
        partial(against_own_choice, smoothing=0.1),
        None,
        False,
        temperature=False,
        support=False,
        variant="smoothing",
    ),
    DivergenceLaw("forward_kl", match.forward_kl),
    DivergenceLaw("forward_kl_top_k", top_k),
    DivergenceLaw("forward_kl_top_k", partial(top_k, tail="both"), variant="both"),
    # The two flawed tails: their missing law is what the docstring says is wrong with them.
    DivergenceLaw("forward_kl_top_k", partial(top_k, tail="truncate"), 0.0, False, None, variant="truncate"),
    DivergenceLaw("forward_kl_top_k", partial(top_k, tail="teacher"), None, False, variant="teacher"),
    DivergenceLaw("jensen_shannon", match.jensen_shannon, at_most=math.log(2)),
    DivergenceLaw("jensen_shannon", partial(match.jensen_shannon, beta=0.1), at_most=math.log(2), variant="0.1"),
    DivergenceLaw("reverse_kl", match.reverse_kl),
    DivergenceLaw("skew_forward_kl", match.skew_forward_kl, at_most=-math.log(0.1)),
    DivergenceLaw("skew_forward_kl", partial(match.skew_forward_kl, skew=0.0), variant="0"),
    DivergenceLaw("skew_reverse_kl", match.skew_reverse_kl, at_most=-math.log(0.1)),
    DivergenceLaw("squared_error", match.squared_error, temperature=False, shift=False),
    DivergenceLaw("total_variation", match.total_variation, at_most=1.0),
    DivergenceLaw("uld", match.uld, at_most=2.0, support=False),
)

_SOFT = ("forward_kl", "jensen_shannon", "reverse_kl", "skew_forward_kl", "skew_reverse_kl", "total_variation", "uld")
TERMS = (
    *(
        TermLaw(
            "soft_labels",
            match.soft_labels(4.0, 0.7, divergence=name),
            constant_in_temperature=partial(match.soft_labels, divergence=name),
            variant=name,
        )
        for name in _SOFT
    ),
    TermLaw("soft_labels", match.soft_labels(2.0, divergence=partial(match.forward_kl_top_k, k=3)), variant="top_k"),
    TermLaw("soft_labels", match.soft_labels(2.0), support=(0, 2, 3), variant="support"),
    TermLaw("soft_labels", match.soft_labels(2.0, per="tokens"), variant="tokens"),
    TermLaw("soft_labels", match.soft_labels(2.0, per="ends"), variant="ends"),
    TermLaw("hard_labels", match.hard_labels(0.3), at_equality=None),
    TermLaw("hard_labels", match.hard_labels(smoothing=0.1), at_equality=None, variant="smoothing"),
    TermLaw("logit_mse", match.logit_mse()),
    TermLaw("logit_mse", match.logit_mse(of="exit.0", against="self"), support=(1, 2), variant="support"),
    *(TermLaw("shorthand", term, at_equality=None, variant=term.name) for term in match.shorthand(0.3, 4.0)),
)
