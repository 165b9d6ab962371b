"""The rule of the verdict, and real planted cases: small linear models on handwritten digits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from understudy.errors import UsageError
from understudy.evaluation import Facts, decide, gate, verdict
from understudy.statistics import METRICS, Interval
from understudy.statistics.metrics import ClassMetric


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.002, "BEATS"),  # above 0 counts before the margin does
        (0.0, 0.004, "NO GAIN"),
        (-0.005, 0.005, "NO GAIN"),
        (-0.004, 0.006, "INCONCLUSIVE"),
        (-0.02, 0.02, "INCONCLUSIVE"),
        (0.0, 0.02, "INCONCLUSIVE"),
        (-0.006, 0.0, "INCONCLUSIVE"),
        (-0.02, -0.001, "HARMS"),
    ],
)
def test_the_rule(low: float, high: float, expected: str) -> None:
    assert decide(Interval((low + high) / 2, low, high), margin=0.005) == expected


class Planted:
    """Digits, with rows to train on, rows to measure on, and models that are fitted for real."""

    def __init__(self) -> None:
        pixels, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))
        pixels, labels = pixels[order] / 16, labels[order]
        self.train, self.train_labels = pixels[:900], labels[:900]
        self.test, self.test_labels = pixels[900:], labels[900:]

    def fit(self, labels: np.ndarray, rows: int, columns: slice = slice(None)) -> LogisticRegression:
        return LogisticRegression(C=1.0, max_iter=200).fit(self.train[:rows, columns], labels[:rows])

    def score(self, model: LogisticRegression, columns: slice = slice(None)) -> float:
        return float(model.score(self.test[:, columns], self.test_labels))

    def verdict(self, student: LogisticRegression, twin: LogisticRegression, teacher: LogisticRegression, **given):
        columns = given.pop("columns", slice(None))
        rows = given.pop("rows", len(self.test))
        facts = Facts(
            teacher=self.score(teacher),
            retention=self.score(student, columns) / self.score(teacher),
            label_agreement=float(teacher.score(self.train, self.train_labels)),
            student_on_train=float(student.score(self.train[:, columns], self.train_labels)),
            **given,
        )
        test = self.test[:rows, columns]
        return verdict(student.predict(test), twin.predict(test), self.test_labels[:rows], facts=facts)


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


def test_a_good_teacher_beats(planted: Planted) -> None:
    """The twin has 60 labels; the student has what the teacher says of 900 rows."""
    teacher = planted.fit(planted.train_labels, 900)
    student, twin = planted.fit(teacher.predict(planted.train), 900), planted.fit(planted.train_labels, 60)
    said = planted.verdict(student, twin, teacher)
    assert said["distillation"] == "BEATS"
    assert said["difference"]["low"] > 0
    assert "One seed" in said["why"]
    assert "distilling helped" in said["why"]
    assert said["next"].startswith("Ship the artefact")


def test_shuffled_labels_harm_and_the_advice_names_the_teacher(planted: Planted) -> None:
    shuffled = np.random.default_rng(1).permutation(planted.train_labels)
    teacher = planted.fit(shuffled, 900)
    student, twin = planted.fit(teacher.predict(planted.train), 900), planted.fit(planted.train_labels, 900)
    said = planted.verdict(student, twin, teacher)
    assert said["distillation"] == "HARMS"
    assert "contradicts the labels" in said["next"]
    assert "label order" in said["next"]


def test_a_teacher_worse_than_the_twin_is_not_worth_it(planted: Planted) -> None:
    teacher = planted.fit(planted.train_labels, 40)
    student, twin = planted.fit(teacher.predict(planted.train), 900), planted.fit(planted.train_labels, 900)
    said = planted.verdict(student, twin, teacher)
    assert said["distillation"] == "HARMS"
    assert "not worth it here, because the teacher" in said["next"]


def test_a_student_too_small_is_told_to_grow(planted: Planted) -> None:
    three_pixels = slice(18, 21)
    teacher = planted.fit(planted.train_labels, 900)
    twin = planted.fit(planted.train_labels, 900, three_pixels)
    student = planted.fit(teacher.predict(planted.train), 900, three_pixels)
    said = planted.verdict(student, twin, teacher, columns=three_pixels, order_aware=False)
    assert said["distillation"] in ("NO GAIN", "INCONCLUSIVE")
    assert "larger student" in said["next"]
    assert "ceiling" in said["next"]
    assert "cut" in said["next"]


def test_forty_rows_do_not_decide(planted: Planted) -> None:
    teacher = planted.fit(planted.train_labels, 900)
    student, twin = planted.fit(teacher.predict(planted.train), 900), planted.fit(planted.train_labels, 300)
    said = planted.verdict(student, twin, teacher, rows=40)
    assert said["distillation"] == "INCONCLUSIVE"
    assert "more test rows" in said["next"]


def test_forty_rows_of_equal_models_hardly_ever_decide() -> None:
    """Truth: no difference. Whatever is claimed on 40 rows is luck."""
    outcomes = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        wrong = rng.random((2, 40)) < 0.1
        outcomes.append(
            verdict(wrong[0], wrong[1], np.zeros(40, int), facts=Facts(teacher=0.95), seed=seed, draws=300)[
                "distillation"
            ]
        )
    assert outcomes.count("INCONCLUSIVE") >= 190


def right(rows: int, wrong: int, offset: int = 0) -> np.ndarray:
    """Predictions of label 0 that are wrong on some rows."""
    predicted = np.zeros(rows, int)
    predicted[offset : offset + wrong] = 1
    return predicted


LABELS = np.zeros(5000, int)


@pytest.mark.parametrize(
    ("student_wrong", "twin_wrong", "facts", "outcome", "advice"),
    [
        (500, 250, Facts(teacher=0.98, temperature=4.0), "HARMS", "Try --temperature 1 (it was 4)"),
        (500, 250, Facts(teacher=0.98, alpha=0.1), "HARMS", "--alpha 0.5"),
        (500, 250, Facts(teacher=0.98, alpha=0.9), "HARMS", "not worth it here"),
        (250, 250, Facts(teacher=0.98), "NO GAIN", "Add unlabelled text"),
        (250, 250, Facts(teacher=0.98, unlabelled_rows=9, inputs="images"), "NO GAIN", "not worth it here"),
        (250, 250, Facts(teacher=0.96, baseline=0.955), "NO GAIN", "hardly better than baseline"),
        (250, 400, Facts(teacher=0.98, label_agreement=0.7), "BEATS", "look at those labels"),
        (250, 400, Facts(teacher=0.98, retention=0.9, student_on_train=0.999), "BEATS", "add unlabelled text"),
        (250, 400, Facts(teacher=0.98, retention=0.9, student_on_train=0.955), "BEATS", "ceiling"),
        (250, 400, Facts(teacher=0.98, retention=0.9), "BEATS", "larger student"),
        (250, 400, Facts(teacher=0.98, baseline=0.96, baseline_name="linear SVM"), "BEATS", "shipping linear SVM"),
    ],
)
def test_advice(student_wrong: int, twin_wrong: int, facts: Facts, outcome: str, advice: str) -> None:
    said = verdict(right(5000, student_wrong), right(5000, twin_wrong), LABELS, facts=facts)
    assert (said["distillation"], advice in said["next"]) == (outcome, True), said["next"]
    assert said["next"].endswith(".")
    assert said["next"].count(". ") == 0


def test_a_failed_gate_is_the_next_thing_and_is_kept() -> None:
    gates = [gate("max_mb", 10, 4.2, at_most=True), gate("max_ms", 5, 7.5, at_most=True)]
    said = verdict(right(5000, 250), right(5000, 400), LABELS, facts=Facts(teacher=0.98), gates=gates)
    assert said["gates"] == gates
    assert '"max_ms"' in said["next"]
    assert "7.5" in said["next"]


def test_gates() -> None:
    assert gate("floor", 0.9, 0.9, at_least=True) == {"name": "floor", "limit": 0.9, "value": 0.9, "passed": True}
    assert gate("max_ms", 5, 5.001, at_most=True)["passed"] is False
    assert gate("max_ms", 5, float("nan"), at_most=True) == {
        "name": "max_ms",
        "limit": 5.0,
        "value": None,
        "passed": False,
    }
    assert gate("max_ms", 5, None, at_most=True)["passed"] is False
    with pytest.raises(UsageError, match="exactly one"):
        gate("max_ms", 5, 1)


def test_several_seeds_are_said_and_used() -> None:
    students = np.stack([right(5000, 250), right(5000, 240), right(5000, 260)])
    twins = np.stack([right(5000, 400), right(5000, 390), right(5000, 410)])
    said = verdict(students, twins, LABELS, facts=Facts(teacher=0.98))
    assert said["seeds"] == 3
    assert "3 seeds" in said["why"]
    assert said["distillation"] == "BEATS"
    shaky = np.stack([right(5000, 100), right(5000, 390), right(5000, 700)])
    assert verdict(shaky, twins, LABELS, facts=Facts(teacher=0.98))["distillation"] == "INCONCLUSIVE"


def test_a_metric_that_should_fall_turns_the_verdict() -> None:
    error = ClassMetric(
        "error",
        "lower",
        of_counts=lambda hits, support, predicted: 1 - METRICS["accuracy"].of_counts(hits, support, predicted),
    )
    said = verdict(right(5000, 250), right(5000, 400), LABELS, facts=Facts(teacher=0.02), metric=error)
    assert said["distillation"] == "BEATS"
    assert said["difference"]["value"] == pytest.approx(-0.03)


def test_the_answer_is_json_and_repeats() -> None:
    given = {"facts": Facts(teacher=0.98), "metric": "macro_f1", "seed": 3}
    first = verdict(right(300, 25), right(300, 40), LABELS[:300], **given)
    assert json.dumps(first, allow_nan=False) == json.dumps(
        verdict(right(300, 25), right(300, 40), LABELS[:300], **given), allow_nan=False
    )
    with pytest.raises(UsageError, match="margin"):
        verdict(right(9, 1), right(9, 2), LABELS[:9], facts=Facts(teacher=1.0), margin=float("nan"))
