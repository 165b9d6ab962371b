"""Terms on the tokens of a language model, whose logits never exist all at once: hidden states and heads in.

A model that is asked for ``states`` and ``head`` gives its hidden states [N, P, H] where something is to be said, and
the weights [V, H] of its head. Logits of a few positions at a time are made of them (`understudy.objectives.tiles`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from understudy.errors import UsageError, choices
from understudy.objectives import divergences
from understudy.objectives.numerics import number
from understudy.objectives.responses.labels import Divergence, _divergence, order_of
from understudy.objectives.sampled import BUCKETS, Sampled, sampled_forward_kl, with_bucket
from understudy.objectives.term import ZERO, Needs, Term, Weight, title
from understudy.objectives.tiles import in_tiles
from understudy.records import Batch, Outputs, Targets

__all__ = ["hard_tokens", "sampled_tokens", "soft_tokens"]

_HEAD = frozenset({"states", "head"})
_SAMPLE = ("sample.head", "sample.head_log_p", "sample.tail", "sample.tail_log_p", "sample.log_mass")
_TEMPERATURE, _VOCABULARY = "sample.temperature", "sample.vocabulary"


def soft_tokens(
    temperature: float = 1.0,
    weight: Weight = 1.0,
    *,
    divergence: str | Divergence = "forward_kl",
    per: str = "words",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """`soft_labels` of every token that counts, from hidden states and heads.

    Formula: temperature^2 * divergence(student, teacher, temperature) of softmax(states @ head.T / temperature); of
    first order (total variation, ULD) temperature instead. 0 with gradient 0 at equality. Where one head has more rows
    than the other they are padding behind the tokens that both have (one tokenizer, sizes rounded up): these do not
    exist, neither for student nor for teacher.

    Args:
        temperature: in (0, inf).
        weight: at least 0, or a schedule.
        divergence: a name of `understudy.objectives.divergences`, or ``(student, teacher, *, temperature)`` -> [...].
        per: the mask that is counted, [N, P].
        of: the output that learns.
        against: the source that teaches.
        name: how logs call the term.

    >>> soft_tokens(divergence="reverse_kl").formula
    'temperature^2 * reverse_kl(student.states @ student.head, teacher.states @ teacher.head), temperature = 1'

    Raises:
        UsageError: temperature, weight or divergence cannot be used.

    Source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531.
    """
    number("temperature", temperature)
    function = _divergence(divergence)
    called, order = order_of(function)
    factor = "temperature" if order == 1 else "temperature^2"
    both = ", ".join(f"{one}.states @ {one}.head" for one in (of, against))
    return Term(
        name or title("soft_tokens", of, against),
        partial(_soft, divergence=function, temperature=temperature, factor=float(temperature) ** order, per=per),
        weight,
        per=per,
        needs=Needs(_HEAD, _HEAD),
        of=of,
        against=against,
        formula=f"{factor} * {called}({both}), temperature = {temperature:g}",
        source="Hinton, Vinyals, Dean 2015, arXiv 1503.02531",
    )


def hard_tokens(weight: Weight = 1.0, *, of: str = "student", name: str | None = None) -> Term:
    """The student must say the token that comes next; label -1 and mask 0 do not count.

    Formula: cross_entropy(states @ head.T, labels). At least 0; no point of equality.

    >>> hard_tokens(0.3).per
    'labelled'

    Raises:
        UsageError: weight is negative.

    Source: without the logits of a batch: Wijmans et al. 2024, arXiv 2411.09009.
    """
    return Term(
        name or title("hard_tokens", of, "labels", usual="labels"),
        _hard,
        weight,
        per="labelled",
        needs=Needs(learner=_HEAD),
        of=of,
        against="labels",
        formula=f"cross_entropy({of}.states @ {of}.head, labels)",
        source="Wijmans et al. 2024, arXiv 2411.09009 (in tiles)",
    )


def sampled_tokens(
    weight: Weight = 1.0,
    *,
    divergence: str = "forward_kl",
    per: str = "words",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """`soft_tokens` of a teacher of whom a head and a sample of the tail were stored, at the temperature of then.

    Formula: temperature^2 * divergence (total variation: temperature). Forward KL is unbiased, value and gradient, with
    a control variate: 0 with gradient 0 at equality in every draw (`objectives.sampled.sampled_forward_kl`). The others
    take the tail as one token and are lower bounds (`objectives.sampled.with_bucket`); 0 with gradient 0 at equality.

    Args:
        weight: at least 0, or a schedule.
        divergence: forward_kl, reverse_kl, jensen_shannon, skew_forward_kl, skew_reverse_kl or total_variation.
        per: the mask that is counted, [N, P].
        of: the output that learns.
        against: the source that teaches (`teachers.StoredTokens`).
        name: how logs call the term.

    >>> sampled_tokens().name
    'sampled_tokens'

    Raises:
        UsageError: weight or divergence cannot be used.

    Source: Anshumann et al. 2025, arXiv 2503.16870 (the sampled tail).
    """
    known = ("forward_kl", *BUCKETS)
    if divergence not in known:
        raise UsageError(
            f"wanted a divergence that a sample can give, got {divergence!r}: {choices(divergence, known)}"
        )
    factor = "temperature" if divergence == "total_variation" else "temperature^2"
    how = "tail sampled" if divergence == "forward_kl" else "tail as one token"
    return Term(
        name or title("sampled_tokens", of, against),
        partial(_sampled, divergence=divergence, per=per),
        weight,
        per=per,
        needs=Needs(_HEAD, frozenset({*_SAMPLE, _TEMPERATURE, _VOCABULARY})),
        of=of,
        against=against,
        formula=f"{factor} * {divergence}({of}.states @ {of}.head, {against}.sample), {how}",
        source="Anshumann et al. 2025, arXiv 2503.16870",
    )


def _soft(
    outputs: Outputs, targets: Targets, batch: Batch, *, divergence: Any, temperature: float, factor: float, per: str
) -> Tensor:
    head, theirs = outputs["head"], targets["head"]
    common = min(len(head), len(theirs))
    if len(head) != common:
        head = head[:common]  # only where it must be: the gradient of a part is a whole head of zeros more
    spent = {"spent": True} if divergence is divergences.forward_kl else {}  # the logits of a tile are nobody else's
    value = in_tiles(
        partial(divergence, temperature=temperature, **spent),
        outputs["states"],
        head,
        against=(targets["states"], theirs[:common]),
        mask=batch.masks[per],
    )
    return value if factor == 1.0 else factor * value


def _hard(outputs: Outputs, targets: Targets, batch: Batch) -> Tensor:
    if batch.labels is None:
        raise UsageError("hard_tokens: wanted a batch with the tokens that come next, got a batch without labels")
    return in_tiles(
        divergences.cross_entropy, outputs["states"], outputs["head"], batch.labels, mask=batch.masks["labelled"]
    )


def _sampled(outputs: Outputs, targets: Targets, batch: Batch, *, divergence: str, per: str) -> Tensor:
    temperature, size = float(targets[_TEMPERATURE].detach()), int(targets[_VOCABULARY].detach())
    head = outputs["head"] if len(outputs["head"]) == size else outputs["head"][:size]  # less what only fills it up

    def value(logits: Tensor, *said: Tensor) -> Tensor:
        if divergence == "forward_kl":
            return sampled_forward_kl(logits, Sampled(*said), temperature=temperature)
        return with_bucket(divergence, logits, Sampled(*said), temperature=temperature)

    stored = [targets[name] for name in _SAMPLE]
    found = in_tiles(value, outputs["states"], head, *stored, mask=batch.masks[per])
    return temperature ** (1 if divergence == "total_variation" else 2) * found


LISTED: tuple[tuple[Term, str], ...] = (
    (hard_tokens(), "none: 0 only for a certain and right student"),
    (sampled_tokens(), ZERO),
    (soft_tokens(), ZERO),
)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
