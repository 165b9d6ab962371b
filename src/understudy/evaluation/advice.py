"""``verdict.next``: one sentence of advice, drawn from the measurements. The first rule that holds speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy import wording
from understudy.statistics import Interval, Metric
from understudy.wording import percent

_NEAR = 0.01  # a teacher this close to the best baseline has nothing to hand on
_BLURRED = 0.04  # an interval this wide tells nothing, whatever else was measured
_CEILING = 0.02  # a student this close to its training score has learnt all it can hold
_LOOK_AT = {
    "label": "the classes that lost most",
    "labels": "the labels that lost most",
    "score": "the rows where it is farthest from the teacher",
    "span": "the questions whose answers moved",
    "vector": "the texts whose neighbours changed most",
    "masked": "what it is worth once it is fine-tuned",
    "next": "what it writes",
}


@dataclass(frozen=True)
class Facts:
    """What the run knows beside student and twin. None: not measured. Scores are the primary metric, in [0, 1].

    Attributes:
        teacher: on test.
        baseline: of the best baseline on test.
        baseline_name: what that baseline is.
        retention: of the artefact.
        retention_target: below it the student counts as too small.
        label_agreement: share of labelled training rows on which the teacher says what the label says.
        student_on_train: of the student on (a sample of) its training rows.
        temperature: of the soft labels.
        alpha: weight of the hard labels.
        unlabelled_rows: that took part in training.
        order_aware: whether the student sees the order of words or the place of pixels; None where that means nothing.
        inputs: what the rows are, for the sentence: ``"text"``, ``"pairs of texts"``, ``"rows"`` or ``"images"``.
    """

    teacher: float
    baseline: float | None = None
    baseline_name: str = "baseline"
    retention: float | None = None
    retention_target: float = 0.97
    label_agreement: float | None = None
    student_on_train: float | None = None
    temperature: float = 1.0
    alpha: float | None = None
    unlabelled_rows: int = 0
    order_aware: bool | None = None
    inputs: str = "text"


@dataclass(frozen=True)
class Measured:
    """Student and twin as the verdict saw them."""

    outcome: str
    metric: Metric
    student: float
    twin: float
    difference: Interval
    margin: float
    rows: int

    def said(self, value: float) -> str:
        """A value of the metric, as a sentence has it."""
        return wording.measured(self.metric.name, value)


def advice(measured: Measured, facts: Facts, gates: Sequence[dict[str, Any]] = ()) -> str:
    """One sentence."""
    if measured.outcome == "INCONCLUSIVE" and measured.difference.high - measured.difference.low > _BLURRED:
        return _more_rows(measured)
    return (
        _about_the_teacher(measured, facts)
        or _about_gates(gates)
        or (_about_harm(measured, facts) if measured.outcome == "HARMS" else None)
        or _about_size(measured, facts)
        or _about_the_outcome(measured, facts)
    )


def _about_the_teacher(measured: Measured, facts: Facts) -> str | None:
    gain, said = measured.metric.gain, measured.said
    # A share of rows says something beside a metric of rows; that all of several labels are right is rare anyway.
    agreement = facts.label_agreement if measured.metric.answer == "label" else None
    if measured.outcome != "BEATS" and gain(facts.teacher, measured.twin) <= 0:
        if agreement is not None and agreement < (0.5 if facts.baseline is None else facts.baseline):
            return (
                f"The teacher contradicts the labels of {percent(1 - agreement)} of the training rows and scores no "
                f"better than the twin ({said(facts.teacher)} against {said(measured.twin)}): "
                "check the label order or fine-tune the teacher on this data before distilling again."
            )
        return (
            f"Distilling is not worth it here, because the teacher ({said(facts.teacher)}) is no better than the "
            f"same student without it ({said(measured.twin)}): ship the twin or bring a better teacher."
        )
    if facts.baseline is not None and gain(facts.teacher, facts.baseline) < _NEAR:
        better = "hardly" if gain(facts.teacher, facts.baseline) > 0 else "no"
        return (
            f"Distilling is not worth it here, because the teacher ({said(facts.teacher)}) is {better} better than "
            f"{facts.baseline_name} ({said(facts.baseline)}): ship that, or bring a better teacher."
        )
    # Accuracy alone compares with a share of rows; a teacher agrees with labels it was trained on more often than that.
    if agreement is not None and measured.metric.name == "accuracy" and agreement < facts.teacher - 0.05:
        return (
            f"The teacher is right on {percent(facts.teacher)} of the test rows but contradicts the labels of "
            f"{percent(1 - agreement)} of the training rows: look at those labels, or trust them less (lower --alpha)."
        )
    return None


def _about_gates(gates: Sequence[dict[str, Any]]) -> str | None:
    failed = [gate for gate in gates if not gate["passed"]]
    if not failed:
        return None
    first = failed[0]
    got = "not measured" if first["value"] is None else f"{first['value']:.4g}"
    return f'Mend the gate "{first["name"]}" before shipping: its limit is {first["limit"]:.4g}, measured was {got}.'


def _about_harm(measured: Measured, facts: Facts) -> str:
    if facts.temperature > 1:
        return (
            f"Try --temperature 1 (it was {facts.temperature:g}): a small student often cannot follow "
            "the tail of a softened teacher."
        )
    if facts.alpha is not None and facts.alpha < 0.5:
        own = "scores of the data" if measured.metric.answer == "score" else "labels"
        return f"Give the {own} more weight (--alpha 0.5, it was {facts.alpha:g}), or ship the twin."
    return "Distilling is not worth it here, because the student does better without this teacher: ship the twin."


def _about_size(measured: Measured, facts: Facts) -> str | None:
    """A student too far below the teacher: too small, or short of rows."""
    if facts.retention is None or facts.retention >= facts.retention_target:
        return None
    short = f"The artefact keeps {percent(facts.retention)} of the teacher, less than {percent(facts.retention_target)}"
    on_train, gain = facts.student_on_train, measured.metric.gain
    if on_train is not None and gain(on_train, measured.student) > _CEILING and gain(on_train, facts.teacher) >= 0:
        return (
            f"{short}, although the student reaches {measured.said(on_train)} on its training rows: "
            f"add unlabelled {facts.inputs} for the teacher to label."
        )
    ceiling = (
        ""
        if on_train is None
        else f" and the student is at its ceiling ({measured.said(on_train)} on its training rows)"
    )
    larger = (
        "a larger student"
        if facts.order_aware is not False
        else "a larger student, or a family that sees order (gru, conv, cut)"
    )
    return f"{short}{ceiling}: try {larger}."


def _about_the_outcome(measured: Measured, facts: Facts) -> str:
    if measured.outcome == "INCONCLUSIVE":
        return _more_rows(measured)
    if facts.baseline is not None and measured.metric.gain(measured.student, facts.baseline) <= 0:
        return (
            f"Consider shipping {facts.baseline_name} ({measured.said(facts.baseline)}): "
            f"the student ({measured.said(measured.student)}) is no better."
        )
    if measured.outcome == "BEATS":
        where = _LOOK_AT.get(measured.metric.answer, "what it lost most of")
        return f"Ship the artefact, and look at {where} before you do."
    if facts.unlabelled_rows == 0:
        return (
            f"Add unlabelled {facts.inputs} for the teacher to label: "
            "on the labelled rows alone the student learns as much without it."
        )
    return "Distilling is not worth it here, because the same student gets as far without the teacher: ship the twin."


def _more_rows(measured: Measured) -> str:
    """How many test rows would decide, if the difference stayed what it is: the width shrinks with their root."""
    size, half = abs(measured.difference.value), (measured.difference.high - measured.difference.low) / 2
    target = max(size, measured.margin - size, 1e-6)
    needed = int(float(f"{measured.rows * max(1.0, half / target) ** 2:.2g}"))
    if needed > 1_000_000:
        return "The difference is too small to be found with any test split of sensible size: choose by cost."
    return (
        f"Evaluate on more test rows: {measured.rows:,} cannot decide a difference of this size, about {needed:,} can."
    )
