"""More rows out of rows: the same views in any order, subset and process, and targets that stay aligned."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.data import Examples, digits
from understudy.data.augmentation import IMAGE_VIEWS, KEEP_THE_LABEL, TEXT_VIEWS, Views, augment
from understudy.data.image_views import read_pixels, write_png
from understudy.encoding.features import RowError
from understudy.errors import UsageError
from understudy.files import content_hash
from understudy.targets import Store, fingerprint

NEIGHBOURS = {"please": ["kindly", "now"], "the": ["this", "that"], "my": ["your"], "card": ["account", "wallet"]}


def fill(asked: Sequence[tuple[str, ...]]) -> list[list[list[str]]]:
    """Answers by what stands before the hole, as a model would: a function of the text."""
    return [[[f"{content_hash(before)[:4]}{i}" for i in range(5)] for before in pieces[:-1]] for pieces in asked]


def make(examples: Examples, names: Sequence[str], **more: Any) -> Views:
    return augment(examples, names, **{"views": 2, "seed": 0, "neighbours": NEIGHBOURS, "fill": fill} | more)


@pytest.fixture(scope="module")
def texts(tiny_texts: Callable[..., tuple[list[str], list[int]]]) -> Examples:
    words, labels = tiny_texts(200)
    return Examples.of({"text": words}, labels)


@pytest.fixture(scope="module")
def images() -> Examples:
    return digits().train.take(np.arange(120))


def rows_of(examples: Examples, names: Sequence[str]) -> dict[str, list[tuple[str, Any]]]:
    """Key of the source -> (key, value) of its views, in their order."""
    made, found = make(examples, names), dict[str, list[tuple[str, Any]]]()
    (column,) = made.examples.inputs.values()
    for origin, key, value in zip(made.origins.tolist(), made.examples.keys, column, strict=True):
        found.setdefault(examples.keys[origin], []).append((key, value))
    return found


EVERY = [(name,) for name in (*TEXT_VIEWS, *IMAGE_VIEWS)] + [
    ("drop_words", "swap_words", "masked_words", "replace_words"), ("shift", "rotate", "crop", "flip", "mixup"),
]  # fmt: skip


@pytest.mark.parametrize("names", EVERY, ids="-".join)
def test_laws(names: tuple[str, ...], texts: Examples, images: Examples) -> None:
    """What holds for every view: a function of (seed, view, key); new, unlabelled rows; the source as it was."""
    source = texts if names[0] in TEXT_VIEWS else images
    before = source.fingerprint, {name: list(values) for name, values in source.inputs.items()}
    made = make(source, names)
    assert (source.fingerprint, dict(source.inputs)) == before

    assert made.asked == 2 * len(source)
    assert len(made.examples) == made.asked - made.unchanged - made.repeated > 0.3 * made.asked
    assert set(made.examples.labels.tolist()) == {-1}
    assert len(set(made.examples.keys)) == len(made.examples)
    assert not set(made.examples.keys) & set(source.keys)
    assert made.examples.keys == Examples.of(made.examples.inputs).keys  # keys are of the content that is there

    again, other = make(source, names), make(source, names, seed=1)
    assert again.examples.fingerprint == made.examples.fingerprint
    assert len(set(other.examples.keys) & set(made.examples.keys)) < 0.8 * len(made.examples)

    found = rows_of(source, names)
    order = np.random.default_rng(0).permutation(len(source))
    assert {key: [view for view, _ in views] for key, views in rows_of(source.take(order), names).items()} == {
        key: [view for view, _ in views] for key, views in found.items()
    }
    if "mixup" not in names:  # whose partner is looked for among the rows
        part = rows_of(source.take(order[:50]), names)
        assert len(part) > 20
        # A view that two rows have in common belongs to the first of them, so it may move; it does not change.
        alone = {key: views for key, views in part.items() if found.get(key) != views}
        assert len(alone) <= 3
        assert sum(len(views) for views in alone.values()) <= made.repeated

    fewer = make(source, names, views=1).examples
    assert fewer.keys == made.examples.keys[: len(fewer)]  # more views are added at the end


def test_another_process_makes_the_same_views() -> None:
    program = (
        "from understudy.data import Examples, augment;"
        "rows = Examples.of({'text': [f'is my card number {i} here or there' for i in range(40)]});"
        "made = augment(rows, ['drop_words', 'swap_words', 'replace_words'], views=2, seed=7,"
        " neighbours={'card': ['account', 'wallet', 'purse']});"
        "print(made.examples.fingerprint)"
    )
    said = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    scope: dict[str, Any] = {}
    exec(program.replace("print(made.examples.fingerprint)", "found = made.examples.fingerprint"), scope)
    assert said == {scope["found"] + "\n"}


@pytest.mark.parametrize("names", [("drop_words",), ("shift", "rotate")], ids="-".join)
def test_the_store_asks_for_exactly_the_new_rows(
    names: tuple[str, ...], texts: Examples, images: Examples, tmp_path: Path
) -> None:
    source = texts if names[0] in TEXT_VIEWS else images
    identity = {"teacher": content_hash("weights"), "view": ""}
    store = Store(tmp_path / fingerprint(identity), identity=identity)
    asked: list[str] = []

    def label(rows: Examples) -> int:
        def score(indices: list[int]) -> dict[str, np.ndarray]:
            asked.extend(rows.keys[i] for i in indices)
            (column,) = rows.inputs.values()
            return {"logits": np.array([[float(int(content_hash(repr(column[i]))[:6], 16))] for i in indices])}

        return store.write(rows.keys, score)

    assert label(source) == len(source)
    asked.clear()
    made = make(source, names).examples
    every = Examples.join([source, made])
    assert label(every) == len(made)
    assert sorted(asked) == sorted(made.keys)
    asked.clear()
    assert label(Examples.join([made, source])) == 0
    assert asked == []
    (column,) = every.inputs.values()
    assert store.read(every.keys)["logits"][:, 0].tolist() == [int(content_hash(repr(v))[:6], 16) for v in column]


def test_what_is_left_out_is_counted() -> None:
    """By hand: "a b" swaps to "b a" twice, which is there; "c d" to "d c" twice; "one" cannot; "c d" is there twice."""
    rows = Examples.of({"text": ["a b", "b a", "c d", "one", "c d"]}, [0, 1, 2, 3, 2])
    made = augment(rows, ["swap_words"], views=2, seed=0)
    assert made.examples.inputs["text"] == ["d c"]
    assert made.origins.tolist() == [2]
    assert (made.asked, made.unchanged, made.repeated) == (8, 2, 5)
    assert (
        made.note == "1 of 8 views became rows; left out: 2 in which nothing changed and 5 that repeat a row or a view"
    )
    avoided = augment(rows, ["swap_words"], views=1, seed=0, avoid=Examples.of({"text": ["d c"]}).keys)
    assert (len(avoided.examples), avoided.asked, avoided.unchanged, avoided.repeated) == (0, 4, 1, 3)


def test_rows_of_many_chunks_are_those_of_one(monkeypatch: pytest.MonkeyPatch, texts: Examples) -> None:
    whole = make(texts, ["masked_words"]).examples
    monkeypatch.setattr("understudy.data.augmentation._ROWS", 7)
    assert make(texts, ["masked_words"]).examples.fingerprint == whole.fingerprint


def test_every_text_column_is_viewed_and_others_are_kept() -> None:
    rows = Examples.of({"question": ["who is it"] * 3, "answer": ["it is me"] * 3, "number": [1, 2, None]})
    made = augment(rows, ["drop_words"], views=1, seed=0).examples
    assert len(made) == 3
    assert made.inputs["number"] == [1, 2, None]
    assert all(len(text.split()) == 2 for column in ("question", "answer") for text in made.inputs[column])


def test_images_keep_size_mode_and_file_format() -> None:
    """Grey stays grey, colour stays colour; a view that moved nothing is not a row, even where the file was a JPEG."""
    import io

    from PIL import Image

    random = np.random.default_rng(0)
    files = [write_png(random.integers(0, 256, shape, np.uint8)) for shape in ((1, 6, 9), (3, 5, 5))]
    plain = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 10, 10)).save(plain, format="JPEG")
    rows = Examples.of({"image": [*files, plain.getvalue()]}, [0, 1, 2])
    made = augment(rows, ["rotate", "crop"], views=3, seed=0)
    assert made.origins.tolist() == [0, 1] * 3
    assert made.unchanged == 3
    for origin, image in zip(made.origins.tolist(), made.examples.inputs["image"], strict=True):
        assert image.startswith(b"\x89PNG")
        assert read_pixels(image).shape == read_pixels(files[origin]).shape


def test_labels_are_kept_where_asked_for(images: Examples) -> None:
    made = make(images, ["shift", "rotate"], labelled=True)
    assert made.examples.labels.tolist() == images.labels[made.origins].tolist()
    assert len(set(made.examples.labels.tolist())) == 10
    assert set(KEEP_THE_LABEL) < set(IMAGE_VIEWS)
    for name in (*TEXT_VIEWS, "mixup"):
        with pytest.raises(UsageError, match=f'"{name}" may change what a row is'):
            make(images, ["shift", name], labelled=True)


def test_a_mixed_image_lies_between_two_of_the_rows(images: Examples) -> None:
    """There is a partner and a weight that explain it to half a grey level at every pixel."""
    pixels = np.stack([read_pixels(image) for image in images.inputs["image"]]).astype(float)
    made = make(images, ["mixup"], views=1)
    partners = []
    for origin, image in list(zip(made.origins.tolist(), made.examples.inputs["image"], strict=True))[:20]:
        mixed, one = read_pixels(image).astype(float), pixels[origin]
        span = pixels - one  # mixed = one + (1 - w) * span, rounded
        length = (span**2).sum((1, 2, 3))
        weights = (span * (mixed - one)).sum((1, 2, 3)) / np.where(length > 0, length, 1)
        error = np.abs(one + weights[:, None, None, None] * span - mixed).max((1, 2, 3))
        error[origin] = np.inf
        assert error.min() < 1.0
        partners.append(int(error.argmin()))
    assert len(set(partners)) > 10


def test_a_new_row_changes_few_partners() -> None:
    """The next key after a random point: about as many partners change as there are new rows, here a tenth."""
    rows = digits().train
    few, more = rows.take(np.arange(500)), rows.take(np.arange(550))
    old, new = make(few, ["mixup"], views=1).examples, make(more, ["mixup"], views=1).examples
    kept = len(set(old.keys) & set(new.keys)) / len(old)
    assert 0.8 < kept < 1.0


def test_no_image_is_mixed_with_itself() -> None:
    black, white = (write_png(np.full((1, 2, 2), level, np.uint8)) for level in (0, 255))
    made = augment(Examples.of({"image": [black, white]}), ["mixup"], views=20, seed=0)
    assert made.unchanged == 0
    assert len(made.examples) > 30


def test_a_single_image_cannot_be_mixed() -> None:
    made = augment(digits().train.take([0]), ["mixup"], views=2, seed=0)
    assert (len(made.examples), made.unchanged) == (0, 2)


@pytest.mark.parametrize("names", [["drop_words"], ["mixup"]])
def test_no_rows_no_views(names: list[str]) -> None:
    made = augment(Examples.of({"text": []}), names, views=3, seed=0)
    assert (len(made.examples), made.asked, made.note) == (0, 0, "0 of 0 views became rows")


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (["drop_word"], {}, r'no view "drop_word": did you mean "drop_words"\? known: crop, drop_words, flip'),
        ([], {}, r"at least 1 view with at least one move; got views=2 and \[\]"),
        (["drop_words"], {"views": 0}, "got views=0"),
        (["shift"], {}, '"shift" is for images, and these rows hold none; others: drop_words, swap_words'),
        (["drop_words", "mixup"], {}, '"mixup" is for images'),
        (["replace_words"], {"neighbours": None}, r"replace_words wants neighbours=.*nearest_words"),
        (["masked_words"], {"fill": None}, "masked_words asks a masked language model: give fill="),
    ],
)
def test_what_cannot_be_asked_for(names: list[str], more: dict[str, Any], message: str, texts: Examples) -> None:
    with pytest.raises(UsageError, match=message):
        make(texts, names, **more)


def test_views_of_the_other_kind(images: Examples) -> None:
    with pytest.raises(UsageError, match='"swap_words" is for texts, and these rows hold none; others: shift'):
        make(images, ["swap_words"])
    both = Examples.of({"text": ["a b"], "image": [images.inputs["image"][0]]})
    assert len(make(both, ["swap_words"]).examples) == 1
    with pytest.raises(UsageError, match="made one after the other"):
        make(both, ["swap_words", "shift"])
    with pytest.raises(UsageError, match='"swap_words" is for texts, and these rows hold none'):
        make(Examples.of({"number": [1]}), ["swap_words"])


def test_rows_that_hold_something_else(images: Examples) -> None:
    with pytest.raises(RowError, match='row 2, column "text": wanted a text, got nothing'):
        make(Examples.of({"text": ["a b", None]}), ["drop_words"])
    with pytest.raises(RowError, match='row 2, column "picture": not an image that pillow knows'):
        make(Examples.of({"picture": [images.inputs["image"][0], b"?"]}), ["shift"])
    with pytest.raises(RowError, match='row 2, column "picture": wanted the bytes of an image file, got a str'):
        make(Examples.of({"picture": [images.inputs["image"][0], "a.png"]}), ["shift"])
