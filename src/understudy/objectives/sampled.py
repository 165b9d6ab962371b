"""Divergences from a few stored numbers of a teacher: its likeliest tokens exactly, the rest by a sample.

A teacher over 150,000 tokens says half a megabyte a position. What is kept of it are the log-probabilities of its k
likeliest tokens (the head), those of n tokens drawn from all the others in proportion to their probability (the tail),
and the log of the tail's mass. From these forward KL can be estimated without bias, value and gradient, which no choice
of k alone can do (arXiv 2503.16870); the other divergences take the tail as one token more, and are lower bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.errors import UsageError
from understudy.objectives import divergences
from understudy.objectives.numerics import log_probabilities, log_tail, number, wide

__all__ = ["BUCKETS", "Sampled", "draw", "sampled_forward_kl", "with_bucket"]

BUCKETS = ("reverse_kl", "jensen_shannon", "skew_forward_kl", "skew_reverse_kl", "total_variation")
"""Divergences that `with_bucket` takes."""
_NEAR = 0.02
"""Nats of head and bucket up to which `sampled_forward_kl` uses its control variate (docs/log.md: what was tried)."""


@dataclass(frozen=True)
class Sampled:
    """What is known of distributions over V tokens, at the temperature at which it was taken.

    Attributes:
        head: int64 [..., k], tokens.
        head_log_p: [..., k].
        tail: int64 [..., n], tokens outside the head, drawn with replacement.
        tail_log_p: [..., n], of all V, not of the tail alone.
        log_mass: [...], of the tail; -inf where it is empty.
    """

    head: Tensor
    head_log_p: Tensor
    tail: Tensor
    tail_log_p: Tensor
    log_mass: Tensor

    def take(self, rows: Tensor) -> Sampled:
        """Some positions of the first axis."""
        parts = (self.head, self.head_log_p, self.tail, self.tail_log_p, self.log_mass)
        return Sampled(*(part[rows] for part in parts))


def draw(
    logits: Tensor, *, k: int, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
) -> Sampled:
    """The head of softmax(logits / temperature) [..., V], and a sample of its tail.

    Where the tail is empty (k tokens have all the mass) its sample is the last token of the head, which weighs nothing.

    Args:
        logits: [..., V]; -inf where a token does not exist.
        k: at least 1 and less than V.
        n: at least 1.
        temperature: in (0, inf).
        generator: on the device of the logits.

    Raises:
        UsageError: k, n or temperature cannot be used.
    """
    number("temperature", temperature)
    if not 1 <= k < logits.shape[-1] or n < 1:
        raise UsageError(f"wanted k from 1 to {logits.shape[-1] - 1} and n of at least 1, got k={k} and n={n}")
    log_p = log_probabilities(wide(logits.detach()), temperature)
    top = log_p.topk(k, dim=-1)
    inside = torch.zeros_like(log_p, dtype=torch.bool).scatter(-1, top.indices, True)
    mass = log_tail(log_p, inside)
    nothing = mass == -math.inf
    rest = (log_p.masked_fill(inside, -math.inf) - torch.where(nothing, 0.0, mass)).exp()
    rest = torch.where(nothing & (torch.arange(rest.shape[-1], device=rest.device) == top.indices[..., -1:]), 1.0, rest)
    flat = torch.multinomial(rest.reshape(-1, rest.shape[-1]), n, replacement=True, generator=generator)
    tail = flat.view(*log_p.shape[:-1], n)
    return Sampled(top.indices, top.values, tail, log_p.gather(-1, tail), mass[..., 0])


def sampled_forward_kl(
    student_logits: Tensor, said: Sampled, *, temperature: float = 1.0, control: bool = True
) -> Tensor:
    """An unbiased estimate of KL(teacher || student), [..., V] -> [...].

    Formula: K = forward KL of the head and of the tail as one token (`with_bucket`), which is exact; plus, for how the
    tail is shared out, the mean over the sample of mass * (c * (r - 1) - log r), r = q / p within the tail. The sum of
    r over the tail, weighed by p, is 1, so r - 1 adds nothing in the mean, whatever its weight c, as long as that does
    not depend on the draw: c = 1 where K is at most 0.02 nats, and 0 elsewhere.

    Near the teacher r - 1 takes most of the noise away: no draw is below 0, and at equality value and slope are 0 in
    every single draw, not only in their mean. Far from it r is huge now and then: r - 1 would add far more noise than
    it takes away, a student learns better without it (docs/log.md), and a single draw may be below 0. Without
    ``control`` c is 0 everywhere: unbiased too, but a student that equals its teacher is then pushed about by whatever
    tokens were drawn. Tokens of the tail to which the teacher gives no probability at all are never drawn, and r
    counts them not; that they have mass the bucket says.

    Args:
        student_logits: [..., V].
        said: of the same positions, drawn at the same temperature.
        temperature: in (0, inf).
        control: as above.

    Raises:
        UsageError: other positions, or a temperature that cannot be used.

    Source: Anshumann et al. 2025, arXiv 2503.16870 (the sampled tail).
    """
    _check(student_logits, said)
    log_q = log_probabilities(wide(student_logits), temperature)
    ours, theirs = _bucketed(log_q, said)
    empty = (said.log_mass == -math.inf)[..., None]
    log_r = log_q.gather(-1, said.tail) - ours[..., -1:] - (wide(said.tail_log_p) - theirs[..., -1:])
    log_r = torch.where(empty, 0.0, log_r)
    known = divergences.forward_kl(ours, theirs)
    parts = -log_r
    if control:
        near = (known <= _NEAR)[..., None]
        parts = parts + torch.where(near, log_r, 0.0).exp() - 1.0  # where it is not near, 0
    value: Tensor = known + theirs[..., -1].exp() * parts.mean(-1)
    return value


def with_bucket(divergence: str, student_logits: Tensor, said: Sampled, *, temperature: float = 1.0) -> Tensor:
    """A divergence between the heads, with everything else as one token more: at most the divergence of the whole.

    Args:
        divergence: one of `BUCKETS`, or ``forward_kl``.
        student_logits: [..., V].
        said: of the same positions, drawn at the same temperature.
        temperature: in (0, inf).

    Raises:
        UsageError: another divergence, other positions, or a temperature that cannot be used.
    """
    if divergence not in (*BUCKETS, "forward_kl"):
        raise UsageError(f"wanted one of {', '.join((*BUCKETS, 'forward_kl'))}, got {divergence!r}")
    _check(student_logits, said)
    # log-probabilities are logits of themselves
    value: Tensor = getattr(divergences, divergence)(
        *_bucketed(log_probabilities(wide(student_logits), temperature), said)
    )
    return value


def _bucketed(log_q: Tensor, said: Sampled) -> tuple[Tensor, Tensor]:
    """Log-probabilities of student and teacher, [..., k + 1]: the head, and the tail as one token."""
    inside = torch.zeros_like(log_q, dtype=torch.bool).scatter(-1, said.head, True)
    ours = torch.cat([log_q.gather(-1, said.head), log_tail(log_q, inside)], dim=-1)
    return ours, torch.cat([wide(said.head_log_p), wide(said.log_mass)[..., None]], dim=-1)


def _check(student_logits: Tensor, said: Sampled) -> None:
    if student_logits.shape[:-1] != said.log_mass.shape:
        raise UsageError(
            f"wanted student logits of positions {list(said.log_mass.shape)}, got {list(student_logits.shape)}"
        )
