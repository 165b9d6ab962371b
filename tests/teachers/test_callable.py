"""Any callable as a teacher: functions of raw rows and scikit-learn estimators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC
from torch import nn

from understudy import teachers
from understudy.data import Examples
from understudy.errors import LabelError, StoreError, TeacherError, UsageError
from understudy.statistics import softmax
from understudy.targets import Store
from understudy.teachers import Live, Loaded

Texts = Callable[..., tuple[list[str], list[int]]]
ROWS = {"text": ["card", "rain", "song"]}


def keywords(rows: list[dict[str, Any]]) -> np.ndarray:
    """Probabilities of two labels, from the length of a text."""
    p = np.array([1 / (1 + len(row["text"])) for row in rows])
    return np.stack([p, 1 - p], 1)


def pipeline(classifier: Any, tiny_texts: Texts, names: Any) -> Any:
    texts, ids = tiny_texts(240, seed=0)
    return make_pipeline(TfidfVectorizer(), classifier).fit(texts, [names[i] for i in ids])


def test_probabilities_become_their_logarithms() -> None:
    teacher = teachers.function(keywords, name="keywords", fingerprint="1")
    said = teacher.scores(ROWS)
    assert said.dtype == np.float32
    np.testing.assert_allclose(np.exp(said), [[0.2, 0.8], [0.2, 0.8], [0.2, 0.8]], rtol=1e-6)
    certain = teachers.function(lambda rows: [[1.0, 0.0]] * len(rows), fingerprint="1").scores(ROWS)
    np.testing.assert_allclose(certain, [[0.0, np.log(1e-7)]] * 3, rtol=1e-6)  # finite, so that it can be learnt
    assert teacher.description == "keywords"
    assert "a function (keywords) that gives probabilities" in teacher.notes[0]


def test_rows_are_asked_in_order_and_in_batches() -> None:
    calls: list[int] = []

    def score(rows: list[dict[str, Any]]) -> np.ndarray:
        calls.append(len(rows))
        assert set(rows[0]) == {"text", "title"}
        return np.array([[len(row["text"]), len(row["title"])] for row in rows], float)

    teacher = teachers.function(score, returns="logits", fields=("text", "title"), fingerprint="1", batch_size=4)
    inputs = {"text": ["x" * i for i in range(10)], "title": ["y" * (20 - i) for i in range(10)], "image": [b""] * 10}
    np.testing.assert_array_equal(teacher.scores(inputs), [[i, 20 - i] for i in range(10)])
    assert calls == [4, 4, 2]
    np.testing.assert_array_equal(teacher.scorer(inputs)([7, 2])["logits"], [[7, 13], [2, 18]])
    assert teacher.scores({"text": [], "title": []}).shape == (0, 0)


@pytest.mark.parametrize(
    ("returns", "said", "message"),
    [
        ("probabilities", [[0.5, 0.5], [0.5, 0.2], [1, 0]], r"no probabilities for row 2: they sum to 0\.7"),
        ("probabilities", [[0.5, 0.5], [1, 0], [1.5, -0.5]], r"no probabilities for row 3.*the least is -0\.5"),
        ("probabilities", [[0.5, 0.5], [1, 0]], r"an array \[2, 2\] for 3 rows"),
        ("logits", [[["a"]]] * 3, "wanted numbers"),
        ("logits", [[1, 2], [np.nan, 1], [1, 2]], "not finite for 1 of 3 rows, first for row 2"),
        ("logits", np.zeros((3, 2, 2)), r"an array \[3, 2, 2\]"),
    ],
)
def test_answers_that_are_none_name_their_row(returns: str, said: Any, message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        teachers.function(lambda rows: said, returns=returns, fingerprint="1").scores(ROWS)


def test_one_column_is_two_labels() -> None:
    """A binary decision function s: softmax of (0, s) is the sigmoid of s."""
    one = teachers.function(lambda rows: [2.0, -1.0, 0.0], returns="scores", fingerprint="1").scores(ROWS)
    np.testing.assert_array_equal(one, [[0, 2], [0, -1], [0, 0]])
    np.testing.assert_allclose(softmax(one)[:, 1], 1 / (1 + np.exp([-2.0, 1.0, 0.0])))
    half = teachers.function(lambda rows: [[0.25]] * 3, fingerprint="1").scores(ROWS)
    np.testing.assert_allclose(np.exp(half), [[0.75, 0.25]] * 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("score", "more", "message"),
    [
        (nn.Linear(2, 2), {}, r"teachers\.given"),
        ("not a function", {}, "wanted a callable"),
        (keywords, {"returns": "probability"}, 'did you mean "probabilities"'),
        (keywords, {"fields": "text"}, "list of columns"),
    ],
)
def test_what_is_no_teacher(score: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        teachers.function(score, **more)


def test_a_column_that_no_row_has() -> None:
    with pytest.raises(TeacherError, match=r'reads "txt", which no row has: did you mean "text"'):
        teachers.function(keywords, fields=("txt",), fingerprint="1").scores(ROWS)
    with pytest.raises(TeacherError, match='keywords reads "image"'):
        teachers.settle(teachers.function(keywords, fields=("image",), fingerprint="1"), ("a", "b"), ROWS)


def test_an_estimator_is_aligned_by_its_classes(tiny_texts: Texts, tiny_labels: tuple[str, ...]) -> None:
    """scikit-learn sorts its classes; the data's labels are in another order."""
    estimator = pipeline(LogisticRegression(C=10), tiny_texts, tiny_labels)
    assert list(estimator.classes_) == sorted(tiny_labels) != list(tiny_labels)
    texts, ids = tiny_texts(100, seed=4)
    teacher = teachers.settle(teachers.function(estimator), tiny_labels, {"text": texts})
    order = [list(estimator.classes_).index(name) for name in tiny_labels]
    np.testing.assert_allclose(
        np.exp(teacher.scores({"text": texts})), estimator.predict_proba(texts)[:, order], atol=1e-6
    )
    assert (teacher.scores({"text": texts}).argmax(1) == ids).mean() > 0.95
    assert "moved to the data's order" in teacher.notes[-1]
    with pytest.raises(LabelError, match="lacks"):
        teachers.settle(teachers.function(estimator), (*tiny_labels, "sports"), {"text": texts})


def test_classes_that_are_numbers_are_positions(tiny_texts: Texts, tiny_labels: tuple[str, ...]) -> None:
    estimator = pipeline(LogisticRegression(C=10), tiny_texts, range(4))
    texts, ids = tiny_texts(100, seed=4)
    teacher = teachers.settle(teachers.function(estimator), tiny_labels, {"text": texts})
    assert (teacher.scores({"text": texts}).argmax(1) == ids).mean() > 0.95
    assert 'its 0 is taken for "billing"' in teacher.notes[-1]


def test_scores_of_a_support_vector_machine(tiny_texts: Texts, tiny_labels: tuple[str, ...]) -> None:
    estimator = pipeline(LinearSVC(), tiny_texts, tiny_labels)
    teacher = teachers.function(estimator)
    assert "taken as logits" in teacher.notes[1]
    texts, ids = tiny_texts(60, seed=4)
    met = teachers.settle(teacher, tiny_labels, {"text": texts})
    assert met.label_order is not None
    np.testing.assert_allclose(
        met.scores({"text": texts}), estimator.decision_function(texts)[:, list(met.label_order)], rtol=1e-6
    )
    assert (met.scores({"text": texts}).argmax(1) == ids).mean() > 0.95
    with pytest.raises(TeacherError, match='decision_function_shape="ovr"'):  # 6 pairs of 4 classes
        teachers.function(pipeline(SVC(decision_function_shape="ovo"), tiny_texts, tiny_labels))


def test_a_binary_support_vector_machine(tiny_texts: Texts) -> None:
    names = ["no", "no", "yes", "yes"]
    estimator = pipeline(LinearSVC(), tiny_texts, names)
    texts, ids = tiny_texts(60, seed=4)
    teacher = teachers.settle(teachers.function(estimator), ("yes", "no"), {"text": texts})
    assert teacher.scores({"text": texts}).shape == (60, 2)
    right = [("yes", "no").index(names[i]) for i in ids]
    assert (teacher.scores({"text": texts}).argmax(1) == right).mean() > 0.95


def test_the_fingerprint_of_a_function_is_what_it_says(tiny_texts: Texts, tiny_labels: tuple[str, ...]) -> None:
    texts = {"text": tiny_texts(60, seed=4)[0]}

    def settled(c: float) -> Loaded:
        estimator = pipeline(LogisticRegression(C=c), tiny_texts, tiny_labels)
        return teachers.settle(teachers.function(estimator), tiny_labels, texts)

    assert settled(10).fingerprint == settled(10).fingerprint != settled(9).fingerprint
    more = {"text": [*texts["text"], "another one"]}
    estimator = pipeline(LogisticRegression(C=10), tiny_texts, tiny_labels)
    asked = teachers.settle(teachers.function(estimator), tiny_labels, more)
    assert asked.fingerprint == settled(10).fingerprint  # only the first 32 rows are asked
    given = teachers.settle(teachers.function(estimator, fingerprint="v3"), tiny_labels, texts)
    assert given.fingerprint == "v3"
    with pytest.raises(TeacherError, match="2 columns for 4 labels"):
        teachers.settle(teachers.function(keywords), tiny_labels, texts)


def test_stored_answers_are_checked_against_new_ones(tmp_path: Path, tiny_texts: Texts) -> None:
    texts, ids = tiny_texts(40)
    rows = Examples.of({"text": texts}, ids)
    asked: list[str] = []

    def score(rows: list[dict[str, Any]]) -> np.ndarray:
        asked.extend(row["text"] for row in rows)
        return keywords(rows)

    teacher = teachers.function(score, fingerprint="v1")
    store = Store(tmp_path / "targets", identity={"teacher": teacher.fingerprint})
    assert store.write(rows.keys, teacher.scorer(rows.inputs), shard_rows=16) == 40
    assert sorted(asked) == sorted(texts)  # each row once
    assert store.write(rows.keys, teacher.scorer(rows.inputs)) == 0
    np.testing.assert_allclose(store.read(rows.keys)["logits"], teacher.scores(rows.inputs))
    drifted = teachers.function(lambda rows: keywords(rows)[:, ::-1], fingerprint="v1")
    with pytest.raises(StoreError, match="another teacher's targets"):
        store.verify(drifted.scorer(rows.inputs), 8, keys=rows.keys)


def test_a_function_does_not_run_in_a_training_step() -> None:
    teacher = teachers.function(keywords, fingerprint="1")
    with pytest.raises(UsageError, match=r"function of raw rows.*targets=stored"):
        teacher.encoder.collate(teacher.encoder.encode(ROWS), [0])
    from understudy.records import Batch

    batch = Batch(keys=("a",), inputs={"teacher": {"x": torch.zeros(1)}}, labels=None, masks={})
    with pytest.raises(UsageError, match=r"a function \(keywords\).*targets=stored"):
        Live(teacher.model).targets(batch)


def test_a_function_and_a_module_together(
    tiny_bert: Callable[..., Path], tiny_texts: Texts, tiny_labels: tuple[str, ...]
) -> None:
    """The ensemble is a function then: half of each one's probabilities."""
    inputs = {"text": tiny_texts(50, seed=4)[0]}
    bert = teachers.open_teacher(tiny_bert(steps=60), task="text-classification", label_names=tiny_labels)
    svm = teachers.function(pipeline(LogisticRegression(C=10), tiny_texts, tiny_labels), name="linear")
    with pytest.raises(UsageError, match=r'"svm" has not met the data'):
        teachers.ensemble({"bert": bert, "svm": svm})
    svm = teachers.settle(svm, tiny_labels, inputs)
    both = teachers.ensemble({"bert": bert, "svm": svm})
    assert both.ask is not None
    assert both.bytes is None
    wanted = 0.5 * softmax(bert.scores(inputs)) + 0.5 * softmax(svm.scores(inputs))
    np.testing.assert_allclose(np.exp(both.scores(inputs)), wanted, atol=1e-5)
    np.testing.assert_allclose(both.scorer(inputs)([3, 1])["logits"], np.log(wanted[[3, 1]]), atol=1e-4)
    assert both.parent is bert
