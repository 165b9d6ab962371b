"""Several answers to one question as one: means of probabilities or of logits, and sources that know different labels.

What sources with other label sets say of all labels together is the cross-entropy method of Vongkulbhisal,
Vinayavekhin, Visentini-Scarzanella 2019, "Unifying heterogeneous classifiers with distillation", arXiv 1904.06062.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from understudy.data.problems import nearest
from understudy.errors import LabelError, UsageError, choices

SPACES = ("probabilities", "logits")
FLOOR = 1e-9  # where label sets differ, no probability counts as less: what relates two sources is never nothing
STEPS = 64  # of Newton's method, which takes up to 45 for sources that are certain to 13 digits


def merge(
    said: Sequence[Tensor],
    *,
    weights: Tensor,
    temperatures: Tensor,
    support: Tensor | None = None,
    space: str = "probabilities",
) -> Tensor:
    """What several sources say together.

    Formula: ``probabilities``: log sum_i w_i softmax(said_i / temperature_i), or `reconcile` where a source does not
    know every label. ``logits``: sum_i w_i said_i / temperature_i. Weights are divided by their sum. One source, or
    the same one several times, gives its own distribution.

    Args:
        said: M tensors of logits, [N, labels that the source knows], in the order of the data's labels.
        weights: [M], above 0.
        temperatures: [M], above 0.
        support: [M, K] bool, the labels that each source knows; None: all of them.
        space: ``probabilities`` or ``logits``.

    Returns:
        fp32 [N, K]; log-probabilities in the space ``probabilities``.

    Raises:
        UsageError: a source with another number of columns than labels that it knows.

    >>> two = [torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 0.0]])]
    >>> same = torch.ones(2)
    >>> merge(two, weights=same, temperatures=same).exp().round(decimals=3)
    tensor([[0.3100, 0.6900]])
    """
    columns = [one.shape[1] for one in said]
    wanted = [max(columns)] * len(said) if support is None else support.sum(1).tolist()
    if columns != wanted:
        raise UsageError(f"wanted {wanted} columns from the members, one for each label that they know, got {columns}")
    shares = (weights / weights.sum()).float()
    cool = [one.float() / temperature for one, temperature in zip(said, temperatures, strict=True)]
    if support is None:
        stacked = torch.stack(cool)  # [M, N, K]
        if space == "logits":
            return (shares[:, None, None] * stacked).sum(0)
        return (shares.log()[:, None, None] + stacked.log_softmax(-1)).logsumexp(0)
    wide = torch.stack([_scattered(one, known) for one, known in zip(cool, support, strict=True)])
    return reconcile(wide.log_softmax(-1), shares, support)


def reconcile(said: Tensor, weights: Tensor, support: Tensor) -> Tensor:
    """The one distribution over all labels that agrees best with sources that each know some of them.

    Formula: argmin over p of sum_i w_i KL(p_i || p restricted to S_i). It is the fixed point of the iteration
    p_k <- (sum_i w_i p_i(k)) / (sum_i w_i [k in S_i] / P(S_i)), P(S) = sum of p over S: a generalised Bradley-Terry
    model. Where the sources are restrictions of one p, it is that p; where all know every label, their mixture.

    Probabilities below 1e-9 count as 1e-9 here. The iteration itself needs about one step per unit of 1 / p_i(shared
    labels), thousands where sources are certain, so its fixed point is found by Newton's method on log P(S_i), which
    is concave and as small as there are sources; a step of Newton's length d goes log(1 + d), which always converges.

    Args:
        said: [M, N, K] log-probabilities, -inf at labels that a source does not know.
        weights: [M], sum 1.
        support: [M, K] bool; connected (see `check_support`).

    Returns:
        fp32 log p, [N, K].

    Source: Vongkulbhisal et al. 2019, arXiv 1904.06062 (which weighs all sources alike); the iteration is Hunter 2004,
    "MM algorithms for generalized Bradley-Terry models", Annals of Statistics 32.
    """
    inside, shares = support[:, None], weights.double()
    said = said.double().clamp(min=math.log(FLOOR)).masked_fill(~inside, -math.inf).log_softmax(-1)
    mass = (shares[:, None, None] * said.exp()).sum(0)  # [N, K], sum_i w_i p_i(k)
    # Labels that the same sources know are one case: there are few such groups however many labels there are.
    patterns, group = torch.unique(support, dim=1, return_inverse=True)
    grouped = mass @ torch.nn.functional.one_hot(group, patterns.shape[1]).double()
    parts = _parts(grouped, shares, patterns)
    return (mass.log() - parts.logsumexp(1)[:, group]).log_softmax(-1).float()


def _parts(mass: Tensor, weights: Tensor, patterns: Tensor) -> Tensor:
    """log(w_i / P(S_i)) where source i knows the group, else -inf: [N, M, G], at the fixed point.

    Args:
        mass: [N, G] what the sources give to each group together.
        weights: [M].
        patterns: [M, G] bool, who knows which group.
    """
    scales = mass.new_zeros(len(mass), len(weights))  # log P(S_i), up to a number that is common to all
    for step in range(STEPS + 1):
        parts = (weights.log() - scales)[:, :, None].masked_fill(~patterns, -math.inf)
        owed = mass[:, None] * parts.softmax(1)  # how the mass of a group is divided among those that know it
        slope = owed.sum(2) - weights
        # The curvature knows nothing of a common shift: 1/M forbids one.
        curve = torch.diag_embed(owed.sum(2)) - owed @ parts.softmax(1).mT + 1 / len(weights)
        move = torch.linalg.solve(curve, slope)
        reach = move.amax(1, keepdim=True) - move.amin(1, keepdim=True)
        if step == STEPS or bool((reach < 1e-9).all()):
            break
        scales = scales + move * torch.where(reach > 1e-6, reach.log1p() / reach.clamp(min=1e-6), 1.0)
    return parts


def check_support(support: Tensor, sources: Sequence[str], labels: Sequence[str] | None = None) -> None:
    """Refuses label sets from which no common distribution follows.

    Args:
        support: [M, K] bool.
        sources: M names.
        labels: K names, for messages; their numbers where None.

    Raises:
        LabelError: a label that no source knows, a source that knows fewer than two, or sources that nothing relates.
    """
    names = [str(name) for name in (labels or range(support.shape[1]))]
    orphans = [names[k] for k in (~support.any(0)).nonzero().flatten().tolist()]
    if orphans:
        raise LabelError(
            f"{len(orphans)} labels are known to no teacher ({', '.join(orphans[:5])}): name a teacher that knows them"
        )
    poor = [name for name, known in zip(sources, support, strict=True) if int(known.sum()) < 2]
    if poor:
        raise LabelError(f'the teacher "{poor[0]}" knows fewer than two labels, and so says nothing')
    reached, todo = {0}, [0]
    while todo:
        shared = (support & support[todo.pop()]).any(1).nonzero().flatten().tolist()
        todo += [i for i in shared if i not in reached]
        reached |= set(shared)
    apart = [name for i, name in enumerate(sources) if i not in reached]
    if apart:
        raise LabelError(
            f'nothing relates what "{sources[0]}" and "{apart[0]}" know: they share no label, directly or through '
            "others, so that no common distribution follows; add a teacher that knows labels of both"
        )


def check_space(space: str, support: Tensor | None) -> None:
    """Raises UsageError for a space that is none, or means of logits that not every source has."""
    if space not in SPACES:
        raise UsageError(f'no space "{space}": {choices(space, SPACES)}')
    if space == "logits" and support is not None:
        raise UsageError(
            "logits of teachers that know different labels have no common origin: join them in the space probabilities"
        )


def known_labels(labels: Sequence[str], names: Sequence[str], *, source: str) -> tuple[bool, ...]:
    """Which of the data's labels a source knows, as a mask.

    >>> known_labels(["rain", "snow"], ["rain", "song", "snow"], source="weather")
    (True, False, True)

    Raises:
        LabelError: a label that the data does not have.
    """
    for label in labels:
        if label not in names:
            raise LabelError(
                f'the teacher "{source}" is said to know "{label}", no label of the data ({nearest(label, names)})'
            )
    return tuple(name in labels for name in names)


def _scattered(logits: Tensor, known: Tensor) -> Tensor:
    """[N, known labels] -> [N, K], -inf elsewhere."""
    wide = logits.new_full((len(logits), len(known)), -math.inf)
    wide[:, known] = logits
    return wide
