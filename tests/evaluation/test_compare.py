"""The comparison against numbers counted by hand or by scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from understudy.errors import DataError, LabelError, NonFiniteError
from understudy.evaluation import Scored, calibrated, compare, disagreements, measure
from understudy.statistics import fit_temperature, softmax

NAMES = ("a", "b", "c", "oos")


def scored(name: str, *, right: float, seed: int, rows: int = 600, sharpness: float = 3.0, **given) -> Scored:
    """A model that prefers the right label on a given share of the rows; the same labels for every model."""
    labels = np.random.default_rng(99).integers(4, size=rows)
    rng = np.random.default_rng(seed)
    wanted = np.where(rng.random(rows) < right, labels, rng.integers(4, size=rows))
    logits = rng.normal(size=(rows, 4)) * 0.3 + sharpness * np.eye(4)[wanted]
    return Scored(name, logits.astype(np.float32), labels, **given)


@pytest.fixture(scope="module")
def cast() -> dict:
    return {
        "teacher": scored("teacher", right=0.95, seed=1),
        "baseline": scored("baseline", right=0.7, seed=2),
        "twin": [scored("twin", right=0.8, seed=s) for s in (3, 4)],
        "student": [scored("student", right=0.88, seed=s) for s in (5, 6)],
        "artefact": scored("artefact", right=0.87, seed=5, threshold=0.6),
    }


def test_comparison_counts_what_it_says(cast: dict) -> None:
    got = compare(**cast, label_names=NAMES, metric="macro_f1")
    labels, teacher, artefact = cast["teacher"].labels, cast["teacher"].predicted, cast["artefact"].predicted

    def f1(predicted: np.ndarray) -> float:
        return f1_score(labels, predicted, average="macro")

    student, twin = (np.mean([f1(s.predicted) for s in cast[who]]) for who in ("student", "twin"))
    assert got["retention"] == pytest.approx(f1(artefact) / f1(teacher))
    assert got["gap_closed"] == pytest.approx((student - twin) / (f1(teacher) - twin))
    assert got["difference"]["value"] == pytest.approx(student - twin)
    assert got["artefact_minus_teacher"]["value"] == pytest.approx(f1(artefact) - f1(teacher))
    assert got["agreement"] == pytest.approx(accuracy_score(teacher, artefact))
    lost = (teacher == labels) & (artefact != labels)
    won = (teacher != labels) & (artefact == labels)
    assert got["negative_flip_rate"] == pytest.approx(lost.mean())
    assert got["positive_flip_rate"] == pytest.approx(won.mean())
    assert got["mcnemar_p"] == pytest.approx(binomtest(int(lost.sum()), int((lost | won).sum())).pvalue)
    kept = cast["artefact"].confidence >= 0.6
    assert got["abstain"] == {
        "threshold": 0.6,
        "coverage": pytest.approx(kept.mean()),
        "accuracy": pytest.approx((artefact == labels)[kept].mean()),
    }
    for name in ("difference", "artefact_minus_teacher"):
        assert got[name]["low"] < got[name]["value"] < got[name]["high"]
    for name in ("retention", "agreement", "negative_flip_rate"):
        assert got["intervals"][name]["low"] < got[name] < got["intervals"][name]["high"]
    assert {"metric", "direction", "ece", "seeds"} <= set(got)
    assert got["seeds"] == 2
    assert got["out_of_scope"] is None
    assert got["in_scope"] is None


def test_per_class_is_adjusted_and_sorted_by_loss(cast: dict) -> None:
    table = compare(**cast, label_names=NAMES)["per_class"]
    labels, teacher, artefact = cast["teacher"].labels, cast["teacher"].correct, cast["artefact"].correct
    assert sorted(line["label"] for line in table) == list(NAMES)
    losses = [line["teacher"] - line["artefact"] for line in table]
    assert losses == sorted(losses, reverse=True)
    raw = []
    for index, name in enumerate(NAMES):
        of_class = labels == index
        line = next(line for line in table if line["label"] == name)
        assert (line["teacher"], line["artefact"]) == pytest.approx(
            (teacher[of_class].mean(), artefact[of_class].mean())
        )
        lost, won = int((teacher & ~artefact & of_class).sum()), int((~teacher & artefact & of_class).sum())
        raw.append(binomtest(lost, lost + won).pvalue)
    expected = dict(zip(NAMES, false_discovery_control(raw), strict=True))
    assert {line["label"]: line["p_value"] for line in table} == pytest.approx(expected)


def test_a_class_without_rows_is_left_out() -> None:
    one = scored("model", right=0.9, seed=0)
    wide = Scored("model", np.pad(one.logits, ((0, 0), (0, 1)), constant_values=-9), one.labels)
    table = compare(
        teacher=wide, baseline=None, twin=[wide], student=[wide], artefact=wide, label_names=(*NAMES, "never")
    )["per_class"]
    assert {line["label"] for line in table} == set(NAMES)


def test_gap_closed_is_null_where_the_teacher_is_no_better(cast: dict) -> None:
    worse = cast | {"teacher": scored("teacher", right=0.5, seed=8)}
    assert compare(**worse, label_names=NAMES)["gap_closed"] is None
    equal = cast | {"teacher": cast["twin"][0], "twin": [cast["twin"][0]] * 2}
    assert compare(**equal, label_names=NAMES)["gap_closed"] is None


def test_out_of_scope(cast: dict) -> None:
    got = compare(**cast, label_names=NAMES, out_of_scope="oos")
    artefact = cast["artefact"]
    outside = artefact.labels == 3
    score = 1 - softmax(artefact.logits)[:, :3].max(axis=1)
    assert got["out_of_scope"]["auroc"]["value"] == pytest.approx(roc_auc_score(outside, score))
    assert got["in_scope"]["value"] == pytest.approx(artefact.correct[~outside].mean())
    assert got["in_scope"]["retention"] == pytest.approx(
        artefact.correct[~outside].mean() / cast["teacher"].correct[~outside].mean()
    )
    assert set(got["in_scope"]["models"]) == {"teacher", "twin", "student", "artefact", "baseline"}
    assert got["out_of_scope"]["rows"] + got["in_scope"]["rows"] == 600
    with pytest.raises(LabelError, match='did you mean "oos"'):
        compare(**cast, label_names=NAMES, out_of_scope="oss")


def test_a_test_split_without_out_of_scope_rows_has_no_auroc(cast: dict) -> None:
    inside = {
        name: [
            Scored(s.name, s.logits[s.labels < 3], s.labels[s.labels < 3])
            for s in (who if isinstance(who, list) else [who])
        ]
        for name, who in cast.items()
    }
    flat = {name: who if name in ("twin", "student") else who[0] for name, who in inside.items()}
    got = compare(**flat, label_names=NAMES, out_of_scope="oos")
    assert got["out_of_scope"]["auroc"] is None
    assert got["in_scope"]["value"] == pytest.approx(flat["artefact"].correct.mean())
    assert got["in_scope"]["retention"] == pytest.approx(got["retention"])


def test_everything_is_json(cast: dict) -> None:
    got = compare(**cast, label_names=NAMES, out_of_scope="oos", metric="balanced_accuracy")
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    block = measure(cast["artefact"])
    assert json.loads(json.dumps(block, allow_nan=False)) == block


def test_a_teacher_that_is_never_right_has_no_retention(cast: dict) -> None:
    labels = cast["teacher"].labels
    hopeless = Scored("teacher", np.eye(4)[(labels + 1) % 4], labels)
    got = compare(**(cast | {"teacher": hopeless}), label_names=NAMES)
    assert got["retention"] is None
    assert got["intervals"]["retention"] is None
    assert got["gap_closed"] is None


def test_models_must_have_seen_the_same_rows(cast: dict) -> None:
    reversed_rows = Scored("student", cast["teacher"].logits[::-1], cast["teacher"].labels[::-1])
    with pytest.raises(DataError, match="student and teacher were scored on other rows"):
        compare(**(cast | {"student": [reversed_rows] * 2}), label_names=NAMES)
    with pytest.raises(DataError, match="scores 4 labels, the data has 3"):
        compare(**cast, label_names=NAMES[:3])
    with pytest.raises(DataError, match="against the twin"):
        compare(**(cast | {"twin": []}), label_names=NAMES)


def test_calibration_is_fitted_on_validation_only() -> None:
    validation, test = scored("m", right=0.8, seed=1, sharpness=9), scored("m", right=0.8, seed=2, sharpness=9)
    model = calibrated(
        "m",
        test.logits,
        test.labels,
        validation_logits=validation.logits,
        validation_labels=validation.labels,
        target_accuracy=0.83,
    )
    assert model.temperature == pytest.approx(fit_temperature(validation.logits, validation.labels))
    block = measure(model)
    assert block["ece_after"] < 0.5 * block["ece_before"]
    assert block["temperature"] == model.temperature
    shuffled = calibrated(
        "m", test.logits, test.labels[::-1], validation_logits=validation.logits, validation_labels=validation.labels
    )
    assert shuffled.temperature == model.temperature


def test_scores_that_cannot_be_used_are_refused() -> None:
    good = np.zeros((3, 2))
    with pytest.raises(NonFiniteError, match="teacher: logits of 1 rows are not finite, first in row 1"):
        Scored("teacher", np.array([[0, 1], [np.nan, 0], [1, 0]]), np.array([0, 1, 0]))
    with pytest.raises(NonFiniteError, match="first in row 0"):
        Scored("teacher", np.full((3, 2), -np.inf), np.array([0, 1, 0]))
    with pytest.raises(DataError, match="have no label"):
        Scored("teacher", good, np.array([0, -1, 0]))
    with pytest.raises(DataError, match="wanted logits"):
        Scored("teacher", good, np.array([0, 1, 2]))
    assert Scored("teacher", np.array([[0.0, -np.inf]]), np.array([0])).confidence.tolist() == [1.0]


def test_disagreements_are_the_confident_ones(cast: dict) -> None:
    rows = disagreements(cast["teacher"], cast["artefact"], most=5)
    differ = cast["teacher"].predicted != cast["artefact"].predicted
    least = np.minimum(cast["teacher"].confidence, cast["artefact"].confidence)
    assert len(rows) == 5
    assert differ[rows].all()
    assert least[rows].min() >= np.sort(least[differ])[::-1][4]
