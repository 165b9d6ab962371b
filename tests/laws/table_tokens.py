"""The rows of the law table for terms on tokens, whose logits are made of hidden states and heads."""

from __future__ import annotations

from functools import partial

import torch

from tests.laws.law import TermLaw
from understudy import objectives as match
from understudy.objectives.sampled import draw

SOFT = ("forward_kl", "jensen_shannon", "reverse_kl", "skew_forward_kl", "skew_reverse_kl", "total_variation")
# products of five numbers are twice as wide as the logits of other rows: those of mixtures are not flat at 2 yet
STEADY = ("forward_kl", "reverse_kl", "total_variation")
HEADS = {"head": (7, 5), "states": (4, 5)}  # 7 tokens, 4 places a row


def stored(rows: int) -> dict[str, torch.Tensor]:
    """What is stored of random distributions over 7 tokens: two of the head, three draws of the tail."""
    generator = torch.Generator().manual_seed(1)
    said = draw(torch.randn(rows, 4, 7, generator=generator), k=2, n=3, temperature=2.0, generator=generator)
    return {
        "sample.head": said.head, "sample.head_log_p": said.head_log_p.double(), "sample.tail": said.tail,
        "sample.tail_log_p": said.tail_log_p.double(), "sample.log_mass": said.log_mass.double(),
        "sample.temperature": torch.tensor(2.0), "sample.vocabulary": torch.tensor(7),
    }  # fmt: skip


TERMS = (
    *(
        TermLaw(
            "sampled_tokens",
            match.sampled_tokens(0.7, divergence=name),
            at_equality=None,
            logits=False,
            variant=name,
            student=HEADS,
            teacher={},
            stored=stored,
        )
        for name in SOFT
    ),
    *(
        TermLaw(
            "soft_tokens",
            match.soft_tokens(2.0, 0.7, divergence=name),
            logits=False,
            constant_in_temperature=partial(match.soft_tokens, divergence=name) if name in STEADY else None,
            variant=name,
            student=HEADS,
            teacher=HEADS,
        )
        for name in SOFT
    ),
    TermLaw(
        "hard_tokens",
        match.hard_tokens(0.3),
        at_equality=None,
        logits=False,
        student={"head": (7, 5), "states": (5,)},
        teacher={},
    ),
)
