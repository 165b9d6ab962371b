from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from understudy.baselines import Baseline, classes, majority, pixels_logistic, tfidf_svm
from understudy.data import Examples, Splits
from understudy.errors import DataError
from understudy.statistics import softmax

Texts = Callable[..., tuple[list[str], list[int]]]
BITS = ("zero", "one", "two")


def _text_splits(tiny_texts: Texts, *, rows: int = 160, names: tuple[str, ...] = ("a", "b", "c", "d")) -> Splits:
    parts = []
    for seed, count in ((0, rows), (1, 80), (2, 80)):
        texts, labels = tiny_texts(count, seed=seed)
        parts.append(Examples.of({"text": texts}, labels))
    return Splits(*parts, None, names)


def _images(rows: int, *, seed: int, size: tuple[int, int] = (8, 8), mode: str = "L") -> Examples:
    """A bright third of the image says the class, under noise."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, rows)
    files = []
    for label in labels:
        array = draw.integers(0, 120, size, dtype=np.uint8)
        third = size[0] // 3
        array[label * third : (label + 1) * third] += 100
        file = io.BytesIO()
        Image.fromarray(array).convert(mode).save(file, format="PNG")
        files.append(file.getvalue())
    return Examples.of({"image": files}, labels)


def _image_splits(**more: object) -> Splits:
    train, validation, test = (_images(n, seed=s, **more) for s, n in ((0, 150), (1, 60), (2, 60)))  # type: ignore[arg-type]
    return Splits(train, validation, test, None, BITS)


def _accuracy(found: Baseline, examples: Examples) -> float:
    return float((found.predict(examples.inputs).argmax(1) == examples.labels).mean())


def test_majority_is_the_log_of_the_smoothed_shares() -> None:
    train = Examples.of({"text": list("abcdef")}, [0, 0, 0, 1, -1, -1])
    splits = Splits(train, train.take([0, 3]), train, None, ("x", "y", "never"))
    found = majority(splits)
    np.testing.assert_allclose(np.exp(found.validation), [[4 / 7, 2 / 7, 1 / 7]] * 2)
    assert found.predict({"text": ["anything"] * 5}).shape == (5, 3)
    assert (found.bytes, found.parameters) == (12, 3)


def test_tfidf_svm_learns_and_repeats_itself(tiny_texts: Texts) -> None:
    splits = _text_splits(tiny_texts)
    found = tfidf_svm(splits)
    assert _accuracy(found, splits.test) > 0.95
    assert found.validation.shape == (80, 4)
    assert found.validation.dtype == np.float64
    np.testing.assert_array_equal(found.validation, found.predict(splits.validation.inputs))
    np.testing.assert_array_equal(found.validation, tfidf_svm(splits).validation)
    assert found.bytes > 4 * found.parameters > 4 * 4 * 1000
    assert found.seconds > 0
    assert "the best of four on validation" in found.notes[0]


def test_two_classes_have_two_columns_whose_softmax_is_the_sigmoid(tiny_texts: Texts) -> None:
    splits = _text_splits(tiny_texts)
    parts = [part.take(np.flatnonzero(part.labels < 2)) for part in (splits.train, splits.validation, splits.test)]
    found = tfidf_svm(Splits(*parts, None, ("a", "b")))
    assert found.validation.shape == (40, 2)
    decision = found.validation[:, 1] - found.validation[:, 0]
    np.testing.assert_allclose(softmax(found.validation)[:, 1], 1 / (1 + np.exp(-decision)))
    assert ((decision > 0) == (parts[1].labels == 1)).mean() > 0.95


def test_rows_without_a_label_and_classes_without_a_row(tiny_texts: Texts) -> None:
    splits = _text_splits(tiny_texts, names=("a", "b", "c", "d", "never"))
    hidden = splits.train.labels.copy()
    hidden[::3] = -1
    train = Examples(splits.train.inputs, hidden, splits.train.keys)
    found = tfidf_svm(Splits(train, splits.validation, splits.test, None, splits.label_names))
    assert found.validation.shape == (80, 5)
    assert np.isfinite(found.validation).all()
    assert (found.validation.argmin(1) == 4).all()
    bare = tfidf_svm(
        Splits(train.take(np.flatnonzero(hidden >= 0)), splits.validation, splits.test, None, splits.label_names)
    )
    np.testing.assert_allclose(found.validation, bare.validation)


def test_too_much_text_is_sampled_and_said(tiny_texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "CHARACTERS", 3000)
    monkeypatch.setattr(classes, "_CHEAP_SVM", 0)
    found = tfidf_svm(_text_splits(tiny_texts))
    assert "of 160 training rows, drawn at random" in found.notes[0]
    assert "C = 1, not tuned" in found.notes[1]


def test_text_without_words_and_a_single_class_are_refused(tiny_texts: Texts) -> None:
    blank = Examples.of({"text": ["", " "]}, [0, 1])
    with pytest.raises(DataError, match="no words to learn from"):
        tfidf_svm(Splits(blank, blank, blank, None, ("a", "b")))
    same = Examples.of({"text": ["x", "y"]}, [0, 0])
    with pytest.raises(DataError, match="at least two classes"):
        tfidf_svm(Splits(same, same, same, None, ("a", "b")))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_pixels_logistic_learns_and_repeats_itself(mode: str, channels: int) -> None:
    splits = _image_splits(mode=mode)
    found = pixels_logistic(splits)
    assert _accuracy(found, splits.test) > 0.9
    np.testing.assert_array_equal(found.validation, found.predict(splits.validation.inputs))
    np.testing.assert_array_equal(found.validation, pixels_logistic(splits).validation)
    assert found.parameters == 64 * channels * 3 + 3 + 64 * channels + 1
    assert found.bytes == 4 * found.parameters


def test_large_images_are_shrunk_and_many_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = _image_splits(size=(96, 48))
    monkeypatch.setattr(classes, "_VALUES", 100 * 32 * 16)
    found = pixels_logistic(splits)
    assert "100 of 150 training rows" in found.notes[0]
    assert "32 x 16 pixels" in found.notes[1]
    assert _accuracy(found, splits.test) > 0.8


def test_an_unreadable_first_image_is_a_data_error() -> None:
    good = _image_splits()
    bad = Examples.of({"image": [b"no image", *good.train.inputs["image"][1:]]}, good.train.labels)
    with pytest.raises(DataError, match='column "image", row 1'):
        pixels_logistic(Splits(bad, good.validation, good.test, None, BITS))
