"""Divergences between two sets of logits: plain functions, one number per position, in nats, fp32 or better.

``(student_logits, teacher_logits, *, temperature=1.0)``, both [..., K] -> [...]. P = softmax(teacher / temperature) and
Q = softmax(student / temperature). The factor temperature^2 is *not* here: terms carry it. -inf marks a label that does
not exist (a padded vocabulary) and 0 * inf is 0. ``support`` (bool, [K]) marks the labels that the teacher knows: both
distributions are renormalised on it. No gradient ever reaches the teacher.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy.errors import UsageError, choices
from understudy.objectives.numerics import (
    check_labels,
    expectation,
    labels_out_of_range,
    log_mixture,
    log_probabilities,
    log_tail,
    number,
    pair,
    wide,
)

__all__ = [
    "cross_entropy",
    "forward_kl",
    "forward_kl_top_k",
    "jensen_shannon",
    "reverse_kl",
    "skew_forward_kl",
    "skew_reverse_kl",
    "total_variation",
    "uld",
]

Tail = Literal["bucket", "truncate", "teacher", "both"]


class _ForwardKL(torch.autograd.Function):
    """KL(P || Q) as one node of the graph: works in place and keeps Q - P, one tensor of the logits' size, not five.

    With ``spent`` the logits themselves are that place.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float, spent: bool) -> Tensor:
        shift: Tensor | float = 0.0
        if spent:
            q, own, q_sum = _softened_(student.detach(), temperature)
            p, theirs, p_sum = _softened_(teacher, temperature)
            parts, shift = theirs.sub_(own).mul_(p), (q_sum / p_sum).log_()[..., 0]
        else:
            log_q, log_p = log_probabilities(student, temperature), log_probabilities(teacher, temperature)
            p = log_p.exp()
            parts, q = log_p.sub_(log_q).mul_(p), log_q.exp_()
        if ctx.needs_input_grad[0]:
            ctx.temperature, ctx.spent = temperature, spent
            ctx.save_for_backward(q.sub_(p))
        value = parts.sum(dim=-1) + shift
        # 0 * inf where a label does not exist. A look costs less than the repair on a CPU, elsewhere it would stall.
        if value.device.type != "cpu" or not math.isfinite(value.sum()):
            value = parts.masked_fill_(p == 0, 0.0).sum(dim=-1) + shift
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        if torch.is_grad_enabled():  # create_graph=True: the slope below is a constant, so a second one would be wrong
            raise UsageError(
                "forward_kl can be differentiated once: use skew_forward_kl(..., skew=0.0), the same formula"
            )
        (difference,) = ctx.saved_tensors
        slope = (gradient / ctx.temperature)[..., None]
        return difference.mul_(slope) if ctx.spent else difference * slope, None, None, None


def _softened_(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """softmax(logits / temperature), the same logits less their largest, in their own memory, and the sum [..., 1] of
    the exponentials of these."""
    if temperature != 1.0:
        logits.div_(temperature)
    logits.sub_(logits.amax(dim=-1, keepdim=True))
    shares = logits.exp()
    total = shares.sum(dim=-1, keepdim=True)
    return shares.div_(total), logits, total


def _logs(student: Tensor, teacher: Tensor, temperature: float, support: Tensor | None) -> tuple[Tensor, Tensor]:
    """log Q and log P."""
    student, teacher = pair(student, teacher, support=support)
    return log_probabilities(student, temperature), log_probabilities(teacher, temperature)


def forward_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    support: Tensor | None = None,
    spent: bool = False,
) -> Tensor:
    """KL(teacher || student): the student must cover everything that the teacher finds possible.

    Formula: sum_k P_k (log P_k - log Q_k). At least 0; 0 with gradient 0 at equality; infinite where the student
    excludes (-inf) a label that the teacher allows. Its gradient is written out, (Q - P) / temperature, and can
    be taken once; ``skew_forward_kl(..., skew=0.0)`` is the same function for whoever needs a second derivative.

    ``spent`` says that nobody reads the logits again: their memory is worked in, and they mean nothing afterwards.

    >>> forward_kl(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]))
    tensor(1.1504)

    Raises:
        UsageError: temperature is not in (0, inf), or the shapes differ.

    Source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531.
    """
    number("temperature", temperature)
    student, teacher = pair(student_logits, teacher_logits, support=support)
    value: Tensor = _ForwardKL.apply(student, teacher, temperature, spent)
    return value


def reverse_kl(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, support: Tensor | None = None
) -> Tensor:
    """KL(student || teacher): the student must stay within what the teacher finds possible.

    Formula: sum_k Q_k (log Q_k - log P_k). At least 0; 0 with gradient 0 at equality; infinite where the teacher
    excludes (-inf) a label that the student allows.

    >>> reverse_kl(torch.tensor([0.5, -1.0, 0.0]), torch.zeros(3))
    tensor(0.1458)

    Raises:
        UsageError: temperature is not in (0, inf), or the shapes differ.

    Source: Gu et al. 2024 (MiniLLM), arXiv 2306.08543.
    """
    log_q, log_p = _logs(student_logits, teacher_logits, temperature, support)
    return expectation(log_q, log_q - log_p)


def jensen_shannon(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    support: Tensor | None = None,
) -> Tensor:
    """Generalised Jensen-Shannon divergence: bounded, between forward and reverse KL in what it punishes.

    Formula: beta KL(P || M) + (1 - beta) KL(Q || M), M = beta P + (1 - beta) Q. In [0, log 2]; 0 with gradient 0 at
    equality. beta is in (0, 1), both ends out: the formula tends to 0 there, and libraries that define the ends as the
    two KLs jump (0.097 at beta 0.1, 1.150 at "beta 0", same logits). Ask for `forward_kl` or `reverse_kl` by name.

    >>> jensen_shannon(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]), beta=0.1)
    tensor(0.0971)

    Raises:
        UsageError: beta is not in (0, 1), temperature is not in (0, inf), or the shapes differ.

    Source: Agarwal et al. 2024 (GKD), arXiv 2306.13649.
    """
    number("beta (its ends are discontinuous: use forward_kl or reverse_kl there)", beta, high=1.0)
    log_q, log_p = _logs(student_logits, teacher_logits, temperature, support)
    log_m = log_mixture(log_p, log_q, beta)
    return beta * expectation(log_p, log_p - log_m) + (1.0 - beta) * expectation(log_q, log_q - log_m)


def skew_forward_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    skew: float = 0.1,
    temperature: float = 1.0,
    support: Tensor | None = None,
) -> Tensor:
    """Forward KL against a mixture with the teacher itself: finite whatever the student excludes.

    Formula: KL(P || skew P + (1 - skew) Q). In [0, -log skew]; 0 with gradient 0 at equality; skew 0 is `forward_kl`.

    >>> skew_forward_kl(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]))
    tensor(0.8299)

    Raises:
        UsageError: skew is not in [0, 1), temperature is not in (0, inf), or the shapes differ.

    Source: Ko et al. 2024 (DistiLLM), arXiv 2402.03898.
    """
    number("skew", skew, high=1.0, closed=True)
    log_q, log_p = _logs(student_logits, teacher_logits, temperature, support)
    return expectation(log_p, log_p - log_mixture(log_p, log_q, skew))


def skew_reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    skew: float = 0.1,
    temperature: float = 1.0,
    support: Tensor | None = None,
) -> Tensor:
    """Reverse KL against a mixture with the student itself: finite whatever the teacher excludes.

    Formula: KL(Q || skew Q + (1 - skew) P). In [0, -log skew]; 0 with gradient 0 at equality; skew 0 is `reverse_kl`.

    >>> skew_reverse_kl(torch.tensor([0.5, -1.0, 0.0]), torch.zeros(3))
    tensor(0.1201)

    Raises:
        UsageError: skew is not in [0, 1), temperature is not in (0, inf), or the shapes differ.

    Source: Ko et al. 2024 (DistiLLM), arXiv 2402.03898.
    """
    number("skew", skew, high=1.0, closed=True)
    log_q, log_p = _logs(student_logits, teacher_logits, temperature, support)
    return expectation(log_q, log_q - log_mixture(log_q, log_p, skew))


def total_variation(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, support: Tensor | None = None
) -> Tensor:
    """The most by which the two can differ about any event.

    Formula: 1/2 sum_k |P_k - Q_k|. In [0, 1]; 0 with gradient 0 at equality (a kink: the gradient does not shrink
    towards it, and it vanishes for a confident student that is wrong).

    >>> total_variation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]))
    tensor(0.5752)

    Raises:
        UsageError: temperature is not in (0, inf), or the shapes differ.

    Source: Wen et al. 2023 (f-distill), arXiv 2307.15190.
    """
    log_q, log_p = _logs(student_logits, teacher_logits, temperature, support)
    return 0.5 * (log_q.exp() - log_p.exp()).abs().sum(dim=-1)


def uld(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Universal logit distance: compares the shapes of two distributions whose labels do not correspond.

    Formula: sum_k |sort(P)_k - sort(Q)_k|, sorted downwards, the shorter one padded with 0. In [0, 2]; 0 with gradient
    0 at equality, and 0 as well for any permutation of the labels: the last axes may differ in size and meaning.

    >>> uld(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0, -math.inf]))
    tensor(0.)

    Raises:
        UsageError: temperature is not in (0, inf), or the shapes before the last axis differ.

    Source: Boizard et al. 2024, arXiv 2402.12030.
    """
    if not student_logits.ndim or student_logits.shape[:-1] != teacher_logits.shape[:-1]:
        raise UsageError(
            f"wanted student and teacher logits of the same positions, "
            f"got shapes {list(student_logits.shape)} and {list(teacher_logits.shape)}"
        )
    log_q = log_probabilities(wide(student_logits), temperature)
    log_p = log_probabilities(wide(teacher_logits.detach()), temperature)
    q, p = (log.exp().sort(dim=-1, descending=True).values for log in (log_q, log_p))
    longest = max(q.shape[-1], p.shape[-1])
    q, p = (torch.nn.functional.pad(x, (0, longest - x.shape[-1])) for x in (q, p))
    return (q - p).abs().sum(dim=-1)


def forward_kl_top_k(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    k: int,
    tail: Tail = "bucket",
    temperature: float = 1.0,
    support: Tensor | None = None,
) -> Tensor:
    """Forward KL on the teacher's k likeliest labels, with everything else as one label more.

    Formula: sum over the top k of P (log P - log Q) + P_rest (log P_rest - log Q_rest). At least 0, at most
    `forward_kl`; 0 with gradient 0 at equality; k of all labels is `forward_kl`.

    ``tail`` chooses what happens to the rest. The others exist to reproduce published losses; each has a flaw:

    * ``"bucket"``: as above. Blind only to how the rest is shared out.
    * ``"truncate"``: the rest is dropped. Can be negative, and at equality the gradient is not 0: the student learns to
      pile its mass on the top k (on 200 labels the true KL at its optimum was 5.59, against 0.21 for the bucket).
    * ``"teacher"``: P renormalised on the top k, Q not. The same flaw; at equality it is -log(P's mass on the top k).
    * ``"both"``: both renormalised. 0 with gradient 0 at equality, but blind to how much mass the rest has (0.71).

    >>> student, teacher = torch.tensor([0.5, -1.0, 0.0]), torch.zeros(3)
    >>> forward_kl_top_k(student, teacher, k=2), forward_kl_top_k(student, teacher, k=2, tail="truncate")
    (tensor(0.1722), tensor(0.1703))

    Raises:
        UsageError: k is not an integer of at least 1, or tail is unknown; temperature or shapes as in `forward_kl`.

    Source: Anshumann et al. 2025, arXiv 2503.16870 (on the bias of truncation).
    """
    if not isinstance(k, int) or k < 1:
        raise UsageError(f"wanted k as an integer of at least 1, got {k!r}")
    if tail not in get_args(Tail):
        raise UsageError(f"wanted a treatment of the tail, got {tail!r}: {choices(tail, get_args(Tail))}")
    log_q, log_p = _logs(student_logits, teacher_logits, temperature, support)
    top = log_p.topk(min(k, log_p.shape[-1]), dim=-1).indices
    head_q, head_p = log_q.gather(-1, top), log_p.gather(-1, top)
    if tail == "bucket":
        head = torch.zeros_like(log_p, dtype=torch.bool).scatter(-1, top, True)
        head_q = torch.cat([head_q, log_tail(log_q, head)], dim=-1)
        head_p = torch.cat([head_p, log_tail(log_p, head)], dim=-1)
    if tail in ("teacher", "both"):
        head_p = torch.log_softmax(head_p, dim=-1)
    if tail == "both":
        head_q = torch.log_softmax(head_q, dim=-1)
    return expectation(head_p, head_p - head_q)


def cross_entropy(student_logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """What a label costs the student: logits [..., K] and labels [...] (int) -> [...], in nats.

    Formula: -(1 - smoothing) log Q_label - smoothing * mean_k log Q_k, the mean over labels that exist (not -inf).
    At least 0; no point of equality: 0 only for a certain and right student without smoothing.
    A label of -1 means that there is none, and costs 0 with gradient 0.

    >>> cross_entropy(torch.zeros(2, 4), torch.tensor([3, -1]))
    tensor([1.3863, 0.0000])

    Raises:
        UsageError: labels of another shape or kind, or outside -1 .. K - 1 (on an accelerator torch's own assertion
            says the latter: looking would stall the step); smoothing is not in [0, 1).

    Source: smoothing is Szegedy et al. 2016, arXiv 1512.00567.
    """
    number("smoothing", smoothing, high=1.0, closed=True)
    check_labels(student_logits, labels)
    labels_of_student = student_logits.shape[-1]
    logits, chosen = wide(student_logits).reshape(-1, labels_of_student), labels.reshape(-1).long()
    try:
        cost = F.cross_entropy(logits, chosen, reduction="none", ignore_index=-1)
    except IndexError:
        raise UsageError(labels_out_of_range(student_logits, labels)) from None
    if smoothing:
        log_q = log_probabilities(logits, 1.0)
        exists = log_q != -math.inf
        even = -log_q.masked_fill(~exists, 0.0).sum(dim=-1) / exists.sum(dim=-1)
        cost = (1.0 - smoothing) * cost + smoothing * even.masked_fill(chosen < 0, 0.0)
    return cost.view(labels.shape)
