"""The rows of the law table for relations between rows, and for the contrast with a memory of rows."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from tests.laws.law import TermLaw
from understudy import objectives as match
from understudy.objectives import Term
from understudy.records import Batch, Outputs, Targets

_FEATURES = {"features": (5,)}
_MAPS = {"module:a": (2, 3, 3)}


def _remembering(term: Term) -> Term:
    """The same term after a step with twelve other rows: an empty memory teaches nothing, and obeys too easily."""

    def connector(outputs: Outputs, targets: Targets) -> nn.Module:
        built = term.connector(outputs, targets)
        generator = torch.Generator().manual_seed(8)
        said = [
            {
                name: torch.randn(12, *x.shape[1:], generator=generator, dtype=torch.float64).to(x.dtype)
                for name, x in signals.signals.items()
            }
            for signals in (outputs, targets)
        ]
        keys = tuple(f"row {i}" for i in range(12))
        batch = Batch(keys, {}, torch.arange(12) % 7, {"examples": torch.ones(12)})
        term.value(Outputs(said[0]), Targets(said[1]), batch, connector=built)
        built.commit(lambda tensor: tensor)
        assert int((built.rows >= 0).sum()) > 6
        return built

    return replace(term, connector=connector)


def _laws(builder: str, term: Term, other: Term) -> tuple[TermLaw, TermLaw]:
    """On features of one width, and on maps beside features of another."""
    return (
        TermLaw(builder, term, logits=False, student=_FEATURES, teacher=_FEATURES),
        TermLaw(builder, other, at_equality=None, logits=False, student=_MAPS, teacher=_FEATURES, variant="widths"),
    )


TERMS = (
    *_laws("rkd_distance", match.rkd_distance(), match.rkd_distance("module:a")),
    *_laws("rkd_angle", match.rkd_angle(), match.rkd_angle("module:a")),
    *_laws("similarity_preserving", match.similarity_preserving(), match.similarity_preserving("module:a")),
    *_laws(
        "correlation_congruence", match.correlation_congruence(), match.correlation_congruence("module:a", order=None)
    ),
    TermLaw(
        "contrastive",
        _remembering(match.contrastive(size=16, dimensions=6)),
        at_equality=None,
        logits=False,
        student=_FEATURES,
        teacher=_FEATURES,
    ),
    TermLaw(
        "contrastive",
        _remembering(match.contrastive("module:a", size=16, dimensions=4, negatives="rows", temperature=0.5)),
        at_equality=None,
        logits=False,
        student=_MAPS,
        teacher=_FEATURES,
        variant="rows",
    ),
    TermLaw("two_readings", match.two_readings(), widths=((5, 5), (5, 5)), at_equality=None, logits=False),
    TermLaw(
        "two_readings",
        match.two_readings(0.5, temperature=0.5),
        widths=((5, 5), (5, 5)),
        at_equality=None,
        logits=False,
        variant="soft",
    ),
)
