"""Relations between the rows of a batch: how examples lie to each other, so that widths may differ without a connector.

Every term here is coupled: a row's value depends on the other rows that count. Those that do not are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy.errors import UsageError
from understudy.objectives.distances import unit
from understudy.objectives.numerics import number, wide
from understudy.objectives.term import ZERO, Needs, Term, Weight, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["correlation_congruence", "rkd_angle", "rkd_distance", "similarity_preserving"]

# (features [N, D], which rows count [N]) -> how the rows lie to each other, [N, N] or [N, N, N]
Relation = Callable[[Tensor, Tensor], Tensor]


def rkd_distance(
    student: str = "features",
    teacher: str = "features",
    weight: Weight = 1.0,
    *,
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """Rows must be as far from each other as they are for the teacher, in units of the mean distance.

    Formula: of row i, 1/N sum_j smooth_l1(d_ij(student) - d_ij(teacher)), d_ij = |x_i - x_j| / mean of the positive
    distances. At least 0; 0 with gradient 0 at equality, for one row, and for two (both are at the mean distance).

    Args:
        student: the student's signal, [N, ...], flattened.
        teacher: the teacher's signal, [N, ...], of any width.
        weight: at least 0, or a schedule.
        of: the output that learns.
        against: the source that teaches.
        name: how logs call the term.

    >>> rkd_distance("module:body", "features").coupled
    True

    Raises:
        UsageError: weight is negative, or (when it is computed) the numbers of rows differ.

    Source: Park et al. 2019, arXiv 1904.05068, equations 5 to 8; as in the authors' code, the mean is over all N^2
    pairs, the N of a row with itself (0) included, and gradient flows through the mean distance.
    """
    formula = "mean over pairs of smooth_l1(d({of}.{student}) - d({against}.{teacher})), d = distance / mean distance"
    return _term(
        "rkd_distance", (_distances, F.smooth_l1_loss), (student, teacher), weight, of, against, name, formula,
        "Park et al. 2019, arXiv 1904.05068",
    )  # fmt: skip


def rkd_angle(
    student: str = "features",
    teacher: str = "features",
    weight: Weight = 1.0,
    *,
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """Three rows must form the angles that they form for the teacher.

    Formula: of row i, 1/N^2 sum_jk smooth_l1(a_ijk(student) - a_ijk(teacher)), a_ijk the cosine at i between the
    directions to j and to k (0 where j or k lies on i). At least 0; 0 with gradient 0 at equality and for one or two
    rows. Memory grows with N^3 + N^2 D: meant for up to 128 rows at once (N^3 alone is 8 MB there).

    Args:
        student: the student's signal, [N, ...], flattened.
        teacher: the teacher's signal, [N, ...], of any width.
        weight: at least 0, or a schedule; the paper gives it twice that of `rkd_distance`.
        of: the output that learns.
        against: the source that teaches.
        name: how logs call the term.

    >>> rkd_angle(weight=2.0).name
    'rkd_angle'

    Raises:
        UsageError: weight is negative, or (when it is computed) the numbers of rows differ.

    Source: Park et al. 2019, arXiv 1904.05068, equations 9 to 10; as in the authors' code, the mean is over all N^3
    triplets, degenerate ones included.
    """
    formula = "mean over triplets of smooth_l1(cosine({of}.{student}) - cosine({against}.{teacher}))"
    return _term(
        "rkd_angle", (_angles, F.smooth_l1_loss), (student, teacher), weight, of, against, name, formula,
        "Park et al. 2019, arXiv 1904.05068",
    )  # fmt: skip


def similarity_preserving(
    student: str = "features",
    teacher: str = "features",
    weight: Weight = 1.0,
    *,
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """Rows that excite the teacher alike must excite the student alike.

    Formula: of row i, 1/N sum_j (G_ij(student) - G_ij(teacher))^2, G = A A^T with rows of L2 length 1, A the flattened
    activations; the mean over rows is |G(student) - G(teacher)|_F^2 / N^2. At least 0; 0 with gradient 0 at equality.

    Args:
        student: the student's signal, [N, ...], flattened.
        teacher: the teacher's signal, [N, ...], of any width.
        weight: at least 0, or a schedule; the paper takes 3000 beside a cross-entropy.
        of: the output that learns.
        against: the source that teaches.
        name: how logs call the term.

    >>> similarity_preserving("module:layer4", "module:layer4").needs.source
    frozenset({'module:layer4'})

    Raises:
        UsageError: weight is negative, or (when it is computed) the numbers of rows differ.

    Source: Tung, Mori 2019, arXiv 1907.09682, equations 1 to 4.
    """
    formula = "|G({of}.{student}) - G({against}.{teacher})|_F^2 / N^2, G = A A^T with rows of length 1"
    return _term(
        "similarity_preserving", (_similarities, F.mse_loss), (student, teacher), weight, of, against, name, formula,
        "Tung, Mori 2019, arXiv 1907.09682",
    )  # fmt: skip


def correlation_congruence(
    student: str = "features",
    teacher: str = "features",
    weight: Weight = 1.0,
    *,
    gamma: float = 0.4,
    order: int | None = 2,
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """Rows must correlate as they do for the teacher, under a Gaussian kernel.

    Formula: of row i, 1/N sum_j (C_ij(student) - C_ij(teacher))^2, C_ij = exp(-2 gamma) sum_{p <= order}
    (2 gamma)^p / p! cos_ij^p, the Taylor series of exp(-gamma |x_i - x_j|^2) for rows x of L2 length 1; the mean over
    rows is |C(student) - C(teacher)|_F^2 / N^2. At least 0; 0 with gradient 0 at equality.

    Args:
        student: the student's signal, [N, ...], flattened.
        teacher: the teacher's signal, [N, ...], of any width.
        weight: at least 0, or a schedule.
        gamma: sharpness of the kernel, in (0, inf).
        order: of the Taylor series, at least 1; None for the Gaussian itself.
        of: the output that learns.
        against: the source that teaches.
        name: how logs call the term.

    >>> correlation_congruence(gamma=0.5, order=None).formula.endswith("gamma = 0.5, order = inf")
    True

    Raises:
        UsageError: weight, gamma or order is out of range, or (when it is computed) the numbers of rows differ.

    Source: Peng et al. 2019, arXiv 1904.01802, equations 6 to 12, gamma 0.4 and order 2 being theirs. Their bilinear
    and MMD kernels are not here, nor the layer that brings both features to one width, which nothing here needs.
    """
    number("gamma", gamma)
    if order is not None and (not isinstance(order, int) or isinstance(order, bool) or order < 1):
        raise UsageError(f"wanted order as a whole number of at least 1, or None for the exact kernel, got {order!r}")
    formula = "|C({of}.{student}) - C({against}.{teacher})|_F^2 / N^2, C = Gaussian kernel of rows of length 1, "
    formula += f"gamma = {gamma:g}, order = {order or math.inf}"
    relation = partial(_correlations, gamma=gamma, order=order)
    return _term(
        "correlation_congruence", (relation, F.mse_loss), (student, teacher), weight, of, against, name, formula,
        "Peng et al. 2019, arXiv 1904.01802",
    )  # fmt: skip


def products(first: Tensor, second: Tensor) -> Tensor:
    """Every vector of ``first`` times every one of ``second``: [..., A, D] and [..., B, D] -> [..., A, B].

    In the precision that it is given: autocast would round the factors to bf16.
    """
    with torch.autocast(first.device.type, enabled=False):
        return first @ second.transpose(-1, -2)


def _term(
    kind: str,
    compared: tuple[Relation, Callable[..., Tensor]],
    signals: tuple[str, str],
    weight: Weight,
    of: str,
    against: str,
    name: str | None,
    formula: str,
    source: str,
) -> Term:
    student, teacher = signals
    relation, error = compared
    return Term(
        name or title(kind, of, against),
        partial(_value, student=student, teacher=teacher, relation=relation, error=error),
        weight,
        needs=Needs(frozenset({student}), frozenset({teacher})),
        of=of,
        against=against,
        coupled=True,
        formula=formula.format(of=of, against=against, student=student, teacher=teacher),
        source=source,
    )


def _value(
    outputs: Outputs,
    targets: Targets,
    batch: Batch,
    *,
    student: str,
    teacher: str,
    relation: Relation,
    error: Callable[..., Tensor],
) -> Tensor:
    """Of each row, the mean error over the rows (pairs of rows) that count; 0 of a row that does not."""
    own, theirs = wide(outputs[student]), wide(targets[teacher].detach())
    counted = batch.masks["examples"] != 0
    if not len(own) == len(theirs) == len(counted):
        raise UsageError(
            f"wanted student {student} and teacher {teacher} with one row for each of the {len(counted)} examples, "
            f"got shapes {list(own.shape)} and {list(theirs.shape)}"
        )
    errors = error(relation(own.flatten(1), counted), relation(theirs.flatten(1), counted), reduction="none")
    others = counted.sum().clamp(min=1) ** (errors.ndim - 1)
    return torch.where(_among(counted, errors.ndim), errors, 0.0).flatten(1).sum(dim=1) / others


def _among(counted: Tensor, axes: int) -> Tensor:
    """True where the rows of all axes count: [N] -> [N, N, ...]."""
    mask = counted
    for _ in range(axes - 1):
        mask = mask[..., None] & counted
    return mask


def _distances(features: Tensor, counted: Tensor) -> Tensor:
    # Not by |x|^2 + |y|^2 - 2xy, which cancels; and a distance of 0 has gradient 0 here.
    apart = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    positive = _among(counted, 2) & (apart > 0)
    mean = torch.where(positive, apart, 0.0).sum() / positive.sum().clamp(min=1)
    return apart / torch.where(mean == 0, 1.0, mean)


def _angles(features: Tensor, counted: Tensor) -> Tensor:
    directions = unit(features[None] - features[:, None])  # [i, j]: from i to j
    return products(directions, directions)


def _similarities(features: Tensor, counted: Tensor) -> Tensor:
    return unit(torch.where(_among(counted, 2), products(features, features), 0.0))


def _correlations(features: Tensor, counted: Tensor, *, gamma: float, order: int | None) -> Tensor:
    rows = unit(features)
    cosines = products(rows, rows)
    if order is None:
        return (2 * gamma * (cosines - 1)).exp()
    terms = [(2 * gamma) ** p / math.factorial(p) * cosines**p for p in range(1, order + 1)]
    return math.exp(-2 * gamma) * (1 + torch.stack(terms).sum(dim=0))


LISTED: tuple[tuple[Term, str], ...] = (
    (correlation_congruence(), ZERO),
    (rkd_angle(), ZERO),
    (rkd_distance(), ZERO),
    (similarity_preserving(), ZERO),
)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""
