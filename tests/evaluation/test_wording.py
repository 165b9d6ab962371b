"""The sentences read right whatever is measured: shares in per cent, correlations as they are, both in points."""

from __future__ import annotations

import re

import numpy as np
import pytest

from understudy.evaluation import Facts, verdict


def scores(noise: float, rows: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    truth = np.random.default_rng(0).normal(size=rows)
    return truth, truth + noise * np.random.default_rng(seed + 1).normal(size=rows)


def several(wrong: float, rows: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    truth = (np.random.default_rng(0).random((rows, 5)) < 0.3).astype(np.int64)
    flipped = np.random.default_rng(seed + 1).random(truth.shape) < wrong
    return truth, np.where(flipped, 1 - truth, truth)


def test_a_correlation_is_no_share() -> None:
    truth, student = scores(0.3)
    _, twin = scores(0.5, seed=1)
    said = verdict(student, twin, truth, facts=Facts(teacher=0.97, baseline=0.6), metric="spearman")
    assert said["distillation"] == "BEATS"
    assert re.match(r"The student reaches a Spearman correlation of 0\.9\d\d, its twin without the teacher 0\.8\d\d: "
                    r"\+\d\.\d\d points \(hundredths; 95 % interval ", said["why"])  # fmt: skip
    assert (
        said["next"] == "Ship the artefact, and look at the rows where it is farthest from the teacher before you do."
    )
    assert "class" not in said["next"]


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        (Facts(teacher=0.965, baseline=0.962), "the teacher (0.965) is hardly better than baseline (0.962)"),
        (Facts(teacher=0.95, baseline=0.962), "the teacher (0.950) is no better than baseline (0.962)"),
        (Facts(teacher=0.99, alpha=0.1), "Give the scores of the data more weight (--alpha 0.5"),
    ],
)
def test_advice_about_scores(facts: Facts, advice: str) -> None:
    truth, student = scores(0.5)
    _, twin = scores(0.4, seed=1)
    said = verdict(student, twin, truth, facts=facts, metric="pearson")
    assert said["distillation"] == "HARMS"
    assert advice in said["next"]
    assert "%" not in said["next"]


def test_advice_about_too_few_pairs() -> None:
    truth, student = scores(0.4)
    _, twin = scores(0.6, seed=1)
    facts = Facts(teacher=0.99, retention=0.93, student_on_train=0.995, inputs="pairs of texts")
    said = verdict(student, twin, truth, facts=facts, metric="pearson")["next"]
    assert said == (
        "The artefact keeps 93.0 % of the teacher, less than 97.0 %, although the student reaches 0.995 on its "
        "training rows: add unlabelled pairs of texts for the teacher to label."
    )


def test_several_labels_have_an_f1_in_per_cent_and_no_classes() -> None:
    truth, student = several(0.05)
    _, twin = several(0.08, seed=1)
    said = verdict(
        student[None], twin[None], truth, facts=Facts(teacher=0.98, label_agreement=0.4), metric="labels_micro_f1"
    )
    assert re.match(
        r"The student reaches \d\d\.\d % micro F1, its twin without the teacher \d\d\.\d %: \+", said["why"]
    )
    assert said["next"] == "Ship the artefact, and look at the labels that lost most before you do."
    worse = verdict(
        twin[None], student[None], truth, facts=Facts(teacher=0.8, label_agreement=0.4), metric="labels_micro_f1"
    )
    assert "contradicts" not in worse["next"], "that all of several labels are right is rare anyway"
