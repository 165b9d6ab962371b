"""Layers that must say what layers of the teacher say: hidden states, embeddings, hints, the first position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.objectives.distances import cosine_distance, squared_error
from understudy.objectives.features.layers import Layers, Pairs, bridges, counted, meet, needed, paired, shown
from understudy.objectives.term import ZERO, Term, Weight, title
from understudy.records import Batch, Outputs, Targets

__all__ = ["embeddings", "hidden_states", "hints", "patient"]

Distance = Callable[[Tensor, Tensor], Tensor]
_DISTANCES: dict[str, tuple[Distance, str]] = {
    "cosine": (cosine_distance, "mean over layers of 1 - cos(connector({of}.layer), {against}.layer)"),
    "squared": (squared_error, "mean over layers and width of (connector({of}.layer) - {against}.layer)^2"),
}


def hidden_states(
    layers: Layers,
    weight: Weight = 1.0,
    *,
    distance: str = "squared",
    per: str = "tokens",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """Layers of the student must say what layers of the teacher say, position by position.

    Formula: mean over pairs of 1/D sum_d (connector(student.layer) - teacher.layer)^2, or of 1 - cos of the two. The
    connector is a linear map where the widths differ, and nothing where they are equal; then, at least 0, and 0 with
    gradient 0 at equality.

    Args:
        layers: the student's layer -> the teacher's, as numbers (hidden states), signals or module paths; both see the
            same positions. `layer_map` makes one.
        weight: at least 0, or a schedule; of the mean, so that it does not grow with the number of pairs.
        distance: ``squared``, or ``cosine`` where only the direction is to be learnt.
        per: ``tokens`` for layers [N, L, D]; ``examples`` for [N, D], and for [N, L, D] without padding (patches of an
            image), where positions are averaged.
        of: the output that learns.
        against: the source that teaches.
        name: how logs call the term.

    >>> sorted(hidden_states({1: 3, "encoder.layer.1": "hidden.6"}).needs.learner)
    ['hidden.1', 'module:encoder.layer.1']

    Raises:
        UsageError: no pairs, an unknown distance, weight is negative, or (when it is computed) positions that differ.

    Source: Jiao et al. 2020 (TinyBERT), arXiv 1909.10351, which adds the layers up; the cosine is of Sanh et al. 2019
    (DistilBERT), arXiv 1910.01108.
    """
    if distance not in _DISTANCES:
        raise UsageError(f"hidden_states: wanted a distance, got {distance!r}: {choices(distance, _DISTANCES)}")
    sources = {
        "squared": "Jiao et al. 2020 (TinyBERT), arXiv 1909.10351",
        "cosine": "Sanh et al. 2019 (DistilBERT), arXiv 1910.01108",
    }
    term = _matching("hidden_states", layers, weight, distance, per, of, against, name)
    return replace(term, source=sources[distance])


def embeddings(
    weight: Weight = 1.0,
    *,
    student: str = "hidden.0",
    teacher: str = "hidden.0",
    per: str = "tokens",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """What goes into the student's first layer must be what goes into the teacher's: `hidden_states` of layer 0.

    Formula: 1/D sum_d (connector(student) - teacher)^2 at every token. At least 0; 0 with gradient 0 at equality.

    Args:
        weight: at least 0, or a schedule.
        student: the signal of its embeddings, [N, L, D].
        teacher: the signal of its.
        per, of, against, name: as in `hidden_states`.

    >>> embeddings().needs.source
    frozenset({'hidden.0'})

    Raises:
        UsageError: weight is negative, or (when it is computed) positions that differ.

    Source: Jiao et al. 2020 (TinyBERT), arXiv 1909.10351, section 3.
    """
    term = _matching("embeddings", {student: teacher}, weight, "squared", per, of, against, name)
    return replace(term, source="Jiao et al. 2020 (TinyBERT), arXiv 1909.10351")


def hints(
    layers: Layers,
    weight: Weight = 1.0,
    *,
    per: str = "examples",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """The student's guided layers must say what the teacher's hint layers say: feature maps above all.

    Formula: mean over pairs, channels and positions of (connector(student.layer) - teacher.layer)^2. The connector is a
    1x1 convolution for maps [N, C, H, W] and a linear map for [N, D] and [N, L, D], where the widths differ, and
    nothing where they are equal; then, at least 0, and 0 with gradient 0 at equality. Of two maps of different sizes
    the larger is average-pooled to the size of the smaller.

    Args:
        layers: the student's layer -> the teacher's, as numbers, signals or module paths.
        weight: at least 0, or a schedule; of the mean over pairs.
        per: ``examples`` (one number for each row; for [N, L, D] only without padding, as of the patches of an image),
            or ``tokens`` for [N, L, D] of text.
        of, against, name: as in `hidden_states`.

    >>> hints({"layer2": "layer3"}).per
    'examples'

    Raises:
        UsageError: no pairs, weight is negative, or (when it is computed) positions that differ, or a padded sequence
            of which padding would count.

    Source: Romero et al. 2015 (FitNets), arXiv 1412.6550, section 2.2, with these departures: a mean where it has half
    the sum, a regressor of 1x1 where it has one large enough to bring a larger map down, and none for equal widths.
    """
    term = _matching("hints", layers, weight, "squared", per, of, against, name)
    return replace(term, source="Romero et al. 2015 (FitNets), arXiv 1412.6550")


def patient(
    layers: Layers,
    weight: Weight = 1.0,
    *,
    per: str = "examples",
    of: str = "student",
    against: str = "teacher",
    name: str | None = None,
) -> Term:
    """The first position ([CLS]) of several layers must point where the teacher's points.

    Formula: mean over pairs of |u(connector(student[:, 0])) - u(teacher[:, 0])|^2, u(x) = x / |x|. In [0, 4]. The
    connector is a linear map where the widths differ, and nothing where they are equal; then 0 with gradient 0 at
    equality. A vector of zeros stays one.

    Args:
        layers: the student's layer -> the teacher's, [N, L, D]; lengths may differ. Padding is on the right.
        weight: at least 0, or a schedule; of the mean over pairs.
        per, of, against, name: as in `hidden_states`; ``labelled`` is the other mask that fits.

    >>> patient({1: 2, 2: 4}).needs.learner == {"hidden.1", "hidden.2"}
    True

    Raises:
        UsageError: no pairs, weight is negative, or (when it is computed) layers that are not [N, L, D].

    Source: Sun et al. 2019 (PKD), arXiv 1908.09355, section 3, which adds the layers up and has no connector: its
    student is as wide as its teacher.
    """
    pairs = paired("patient", layers)
    return Term(
        name or title("patient", of, against),
        partial(_patient, pairs=pairs),
        weight,
        per=per,
        needs=needed(pairs),
        of=of,
        against=against,
        connector=partial(bridges, pairs=pairs),
        formula=f"mean over layers of |u(connector({of}.layer[:, 0])) - u({against}.layer[:, 0])|^2, u(x) = x / |x|: "
        + shown(layers),
        source="Sun et al. 2019 (PKD), arXiv 1908.09355",
    )


def _matching(
    kind: str, layers: Layers, weight: Weight, distance: str, per: str, of: str, against: str, name: str | None
) -> Term:
    pairs = paired(kind, layers)
    function, formula = _DISTANCES[distance]
    return Term(
        name or title(kind, of, against),
        partial(_matched, kind=kind, pairs=pairs, distance=function, per=per),
        weight,
        per=per,
        needs=needed(pairs),
        of=of,
        against=against,
        connector=partial(bridges, pairs=pairs),
        formula=f"{formula.format(of=of, against=against)}: {shown(layers)}",
    )


def _matched(
    outputs: Outputs,
    targets: Targets,
    batch: Batch,
    *,
    kind: str,
    pairs: Pairs,
    distance: Distance,
    per: str,
    connector: nn.Module | None = None,
) -> Tensor:
    met = meet(kind, outputs, targets, pairs, connector)
    return torch.stack([counted(kind, distance(student, teacher), batch, per) for student, teacher in met]).mean(dim=0)


def _patient(
    outputs: Outputs, targets: Targets, batch: Batch, *, pairs: Pairs, connector: nn.Module | None = None
) -> Tensor:
    met = meet("patient", outputs, targets, pairs, connector, read=_first)
    return torch.stack([2.0 * cosine_distance(student, teacher) for student, teacher in met]).mean(dim=0)


def _first(layer: Tensor) -> Tensor:
    if layer.ndim != 3:
        raise UsageError(
            f"patient: wanted layers [N, L, D], of which it reads the first position, got shape {list(layer.shape)}"
        )
    return layer[:, 0]


LISTED: tuple[tuple[Term, str], ...] = (
    (embeddings(), f"{ZERO} (equal widths)"),
    (hidden_states({"STUDENT.LAYER": "TEACHER.LAYER"}), f"{ZERO} (equal widths)"),
    (hints({"STUDENT.LAYER": "TEACHER.LAYER"}), f"{ZERO} (equal widths)"),
    (patient({"STUDENT.LAYER": "TEACHER.LAYER"}), f"{ZERO} (equal widths)"),
)
"""An example of every term here, and its value at equality: what ``understudy objectives`` lists."""

FORMULAS: tuple[tuple[str, str, str, str], ...] = (
    ("cosine_distance", "1 - cos(student, teacher)", ZERO, "Sanh et al. 2019 (DistilBERT), arXiv 1910.01108"),
)
"""Plain functions: name, formula, value at equality, source."""
