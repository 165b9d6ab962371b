"""Builders of terms: what to match, with which weight. The mathematics is in `divergences` and `distances`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from understudy.errors import UsageError, choices
from understudy.objectives import divergences
from understudy.objectives.distances import squared_error
from understudy.objectives.numerics import number, select
from understudy.objectives.term import ZERO, Needs, Term, Weight, support_of, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["hard_labels", "logit_mse", "shorthand", "soft_labels"]

Divergence = Callable[..., Tensor]
_LOGITS = frozenset({"logits"})
# Distances that shrink with 1 / temperature rather than 1 / temperature^2 as the distributions flatten.
_FIRST_ORDER = (divergences.total_variation, divergences.uld)


def soft_labels(
    temperature: float = 1.0,
    weight: Weight = 1.0,
    *,
    divergence: str | Divergence = "forward_kl",
    per: str = "examples",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """The student's softened distribution must be the teacher's.

    Formula: temperature^2 * divergence(student.logits, teacher.logits, temperature). The factor keeps the size of the
    gradient, so that a weight means the same at every temperature; total variation and ULD, which are of first order,
    take temperature instead. 0 with gradient 0 at equality.

    Args:
        temperature: in (0, inf).
        weight: at least 0, or a schedule.
        divergence: a name of `understudy.objectives.divergences`, or ``(student, teacher, *, temperature)`` -> [...];
            one with settings is a partial: ``partial(jensen_shannon, beta=0.1)``.
        per: the mask that is counted: ``examples`` for logits [N, K], ``tokens`` for [N, L, K].
        of: the output that learns.
        against: the source that teaches; where it knows only some labels, both are renormalised on those.
        name: how logs call the term.

    >>> soft_labels(temperature=4.0, weight=0.7).formula
    'temperature^2 * forward_kl(student.logits, teacher.logits), temperature = 4'

    Raises:
        UsageError: temperature, weight or divergence cannot be used.

    Source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531.
    """
    number("temperature", temperature)
    function = _divergence(divergence)
    called, order = order_of(function)
    factor = "temperature" if order == 1 else "temperature^2"
    return Term(
        name or title("soft_labels", of, against),
        partial(_soft_labels, divergence=function, temperature=temperature, factor=float(temperature) ** order),
        weight,
        per=per,
        needs=Needs(_LOGITS, _LOGITS),
        of=of,
        against=against,
        formula=f"{factor} * {called}({of}.logits, {against}.logits), temperature = {temperature:g}",
        source="Hinton, Vinyals, Dean 2015, arXiv 1503.02531",
    )


def hard_labels(weight: Weight = 1.0, *, smoothing: float = 0.0, of: str = "student", name: str | None = None) -> Term:
    """The student must say the label of the data; rows without one (label -1, mask 0) do not count.

    Formula: cross_entropy(student.logits, labels), class weights in the mask ``labelled``. At least 0; no point of
    equality.

    >>> hard_labels(0.3).per
    'labelled'

    Raises:
        UsageError: weight is negative, or smoothing is not in [0, 1).

    Source: smoothing is Szegedy et al. 2016, arXiv 1512.00567.
    """
    number("smoothing", smoothing, high=1.0, closed=True)
    return Term(
        name or title("hard_labels", of, "labels", usual="labels"),
        partial(_hard_labels, smoothing=smoothing),
        weight,
        per="labelled",
        needs=Needs(learner=_LOGITS),
        of=of,
        against="labels",
        formula=f"cross_entropy({of}.logits, labels)" + (f", smoothing = {smoothing:g}" if smoothing else ""),
        source="Szegedy et al. 2016, arXiv 1512.00567 (smoothing)",
    )


def logit_mse(
    weight: Weight = 1.0,
    *,
    per: str = "examples",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """The student's logits must be the teacher's, offset and all: no temperature to choose.

    Formula: 1/K sum_k (student.logits - teacher.logits)^2. At least 0; 0 with gradient 0 at equality.

    >>> logit_mse(of="exit.0", against="self").name
    'logit_mse/exit-0/self'

    Raises:
        UsageError: weight is negative.

    Source: Ba, Caruana 2014, arXiv 1312.6184; Kim et al. 2021, arXiv 2105.08919.
    """
    return Term(
        name or title("logit_mse", of, against),
        _logit_mse,
        weight,
        per=per,
        needs=Needs(_LOGITS, _LOGITS),
        of=of,
        against=against,
        formula=f"mean over labels of ({of}.logits - {against}.logits)^2",
        source="Ba, Caruana 2014, arXiv 1312.6184; Kim et al. 2021, arXiv 2105.08919",
    )


def shorthand(alpha: float, temperature: float) -> list[Term]:
    """The two-dial objective of the command line: alpha * hard + (1 - alpha) * temperature^2 * KL.

    A term of weight 0 (alpha 0 or 1) is left out. The factor temperature^2 is there for every alpha.

    >>> [(term.name, term.weight) for term in shorthand(0.25, 4.0)]
    [('soft_labels', 0.75), ('hard_labels', 0.25)]

    Raises:
        UsageError: alpha is not in [0, 1], or temperature not in (0, inf).
    """
    if alpha != 1:
        number("alpha (the weight of the hard labels, 1 allowed)", alpha, high=1.0, closed=True)
    terms = [soft_labels(temperature, 1.0 - alpha), hard_labels(float(alpha))]
    return [term for term in terms if term.weight]


def _soft_labels(
    outputs: Outputs, targets: Targets, batch: Batch, *, divergence: Divergence, temperature: float, factor: float
) -> Tensor:
    student, teacher, support = outputs["logits"], targets["logits"], support_of(targets)
    if support is not None:
        student, teacher = select(student, teacher, support)
    value = divergence(student, teacher, temperature=temperature)
    return value if factor == 1.0 else factor * value


def _hard_labels(outputs: Outputs, targets: Targets, batch: Batch, *, smoothing: float) -> Tensor:
    if batch.labels is None:
        raise UsageError("hard_labels: wanted a batch with labels (-1 where a row has none), got a batch without")
    return divergences.cross_entropy(outputs["logits"], batch.labels, smoothing=smoothing)


def _logit_mse(outputs: Outputs, targets: Targets, batch: Batch) -> Tensor:
    return squared_error(outputs["logits"], targets["logits"], support=support_of(targets))


def order_of(divergence: Divergence) -> tuple[str, int]:
    """What a divergence is called, and by which power of the temperature its gradient shrinks."""
    plain: Any = getattr(divergence, "func", divergence)
    return getattr(plain, "__name__", type(plain).__name__), 1 if plain in _FIRST_ORDER else 2


def _divergence(divergence: str | Divergence) -> Divergence:
    if callable(divergence):
        return divergence
    # cross_entropy reads labels, and the top k needs its k: neither is a divergence by name alone.
    known = [name for name in divergences.__all__ if name not in ("cross_entropy", "forward_kl_top_k")]
    if divergence not in known:
        raise UsageError(f"wanted a divergence, got {divergence!r}: {choices(divergence, known)}")
    function: Divergence = getattr(divergences, divergence)
    return function


LISTED: tuple[tuple[Term, str], ...] = (
    (hard_labels(), "none: 0 only for a certain and right student"),
    (logit_mse(), ZERO),
    (soft_labels(), ZERO),
)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
