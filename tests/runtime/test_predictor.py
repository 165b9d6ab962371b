"""Raw rows in, labels out, the same as the formula on paper."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy import runtime
from understudy.encoding import Ragged
from understudy.errors import ArtefactError, DataError, UsageError
from understudy.runtime import StaticModel, pooling

from .conftest import LABELS, Made, static


def test_logits_are_those_of_the_formula(shared: Made) -> None:
    predictor = runtime.load(shared.folder)
    got = predictor.logits(shared.rows)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, shared.logits, atol=2e-5)
    for size in (1, 3, 7):  # neither the batch nor the neighbours matter
        np.testing.assert_allclose(predictor.logits(shared.rows[:20], batch=size), shared.logits[:20], atol=2e-5)
    alone = np.concatenate([predictor.logits([row]) for row in shared.rows[:20]])
    np.testing.assert_allclose(alone, shared.logits[:20], atol=2e-5)


def test_probabilities_labels_and_abstention(shared: Made) -> None:
    predictor = runtime.load(shared.folder)
    wanted = np.exp(shared.logits / 2.0)
    wanted /= wanted.sum(axis=1, keepdims=True)
    got = predictor.predict_proba(shared.rows)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    answers = predictor.predict(shared.rows)
    assert len({answer["abstained"] for answer in answers}) == 2, "the rows should show both"
    for row, answer, chances in zip(shared.rows, answers, got, strict=True):
        assert set(answer) - {"truncated"} == {*row, "label", "probabilities", "abstained"}
        assert list(answer["probabilities"]) == list(LABELS)
        assert answer["label"] == LABELS[int(chances.argmax())]
        assert answer["abstained"] == bool(chances.max() < 0.5)
        assert {key: answer[key] for key in row} == row
    alone = predictor.predict_one(shared.rows[0])
    assert alone["label"] == answers[0]["label"]
    assert alone["probabilities"] == pytest.approx(answers[0]["probabilities"])  # other shapes round differently
    assert predictor.predict([]) == []


def test_rows_keep_their_other_columns_and_lose_their_old_label(shared: Made) -> None:
    row = {"id": 7, **shared.rows[0], "label": "gold"}
    answer = runtime.load(shared.folder).predict_one(row)
    assert answer["id"] == 7
    assert answer["label"] in LABELS
    assert row["label"] == "gold"


def test_bare_values_stand_for_the_first_column(shared: Made) -> None:
    predictor = runtime.load(shared.folder)
    (field,) = shared.rows[0]
    bare = [row[field] for row in shared.rows]
    np.testing.assert_array_equal(predictor.logits(bare), predictor.logits(shared.rows))
    assert predictor.predict(bare[:3]) == predictor.predict(shared.rows[:3])


def test_images_by_path_and_as_arrays(all_made: dict[str, Made], tmp_path: Path) -> None:
    made = all_made["pixels"]
    (tmp_path / "x.png").write_bytes(made.rows[0]["image"])
    predictor = runtime.load(made.folder)
    np.testing.assert_allclose(predictor.logits([{"image": str(tmp_path / "x.png")}]), made.logits[:1], atol=1e-4)
    array = np.random.default_rng(0).integers(0, 256, (4, 5), dtype=np.uint8)
    assert predictor.predict([array])[0]["label"] in LABELS


@pytest.mark.parametrize("threads", [1, 2])
def test_one_predictor_may_serve_several_threads(shared: Made, threads: int) -> None:
    predictor = runtime.load(shared.folder, threads=threads)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: predictor.logits(shared.rows), range(8)):
            np.testing.assert_allclose(got, shared.logits, atol=2e-5)


@pytest.mark.parametrize("name", ["static", "subwords"])
@pytest.mark.parametrize(
    ("row", "says"),
    [
        (None, 'row 3, column "text".*nothing'),
        ({"text": None}, 'row 3, column "text".*nothing'),
        ({"text": float("nan")}, 'row 3, column "text".*nothing'),
        ({"text": 5}, 'row 3, column "text".*int'),
        ({"sentence": "x"}, 'row 3, column "text".*no such column.*sentence'),
        ({}, 'row 3, column "text".*nothing'),
        (7, 'row 3, column "text".*int'),
        (["x"], 'row 3, column "text".*list'),
    ],
)
def test_bad_texts_name_row_and_column(all_made: dict[str, Made], name: str, row: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        runtime.load(all_made[name].folder).predict(["fine", "fine", row])


@pytest.mark.parametrize("image", [None, b"", b"\x89PNG\r\n", "no/such/file.png", 3, {"bytes": None}])
def test_bad_images_name_row_and_column(all_made: dict[str, Made], image: Any) -> None:
    good = all_made["pixels"].rows[:2]
    with pytest.raises(DataError, match='row 3, column "image"'):
        runtime.load(all_made["pixels"].folder).predict([*good, {"image": image}])


def test_bad_rows_are_counted_over_chunks(all_made: dict[str, Made], monkeypatch: pytest.MonkeyPatch) -> None:
    from understudy.encoding import words
    from understudy.runtime import predictor

    monkeypatch.setattr(predictor, "_TEXTS", 4)
    monkeypatch.setattr(words, "_CHUNK", 4)
    for name in ("static", "subwords"):
        loaded = runtime.load(all_made[name].folder)
        np.testing.assert_allclose(loaded.logits(all_made[name].rows), all_made[name].logits, atol=2e-5)
        with pytest.raises(DataError, match="row 10,"):
            loaded.logits(["fine"] * 9 + [None])  # type: ignore[list-item]


def test_labels_alone_are_those_of_the_answers(shared: Made) -> None:
    predictor = runtime.load(shared.folder)
    wanted = [LABELS[best] for best in shared.logits.argmax(axis=1)]
    assert predictor.labels_of(shared.rows) == wanted
    assert [predictor.label(row) for row in shared.rows[:10]] == wanted[:10]
    assert predictor.labels_of([]) == []


def test_what_was_cut_says_so(all_made: dict[str, Made]) -> None:
    predictor = runtime.load(all_made["subwords"].folder)  # up to 8 ids
    answers = predictor.predict(["card", "card " * 8, "card " * 9, "", "card " * 100_000])
    assert [answer.get("truncated") for answer in answers] == [None, None, True, None, True]
    assert predictor.predict_one("card " * 9)["truncated"] is True
    assert answers[1]["probabilities"] == pytest.approx(answers[2]["probabilities"])


@pytest.mark.parametrize("text", ["", "😀", "\0", "\ud800", "where \ud800 card", "x" * 1_000_000])
def test_odd_texts_of_subwords(all_made: dict[str, Made], text: str) -> None:
    predictor = runtime.load(all_made["subwords"].folder)
    assert predictor.predict_one(text)["label"] == predictor.label(text) in LABELS


def test_calls_that_cannot_be_meant(all_made: dict[str, Made]) -> None:
    predictor = runtime.load(all_made["static"].folder)
    for wrong in ("one string", {"text": "one row"}):
        with pytest.raises(UsageError, match="predict_one"):
            predictor.predict(wrong)
    with pytest.raises(UsageError, match="threads"):
        runtime.load(all_made["static"].folder, threads=0)


def test_float_tables_work_too(tmp_path: Path) -> None:
    made = static(tmp_path / "artefact", bits=32)
    np.testing.assert_allclose(runtime.load(made.folder).logits(made.rows), made.logits, atol=2e-5)


TENSORS = {
    "table": np.random.default_rng(0).integers(-127, 128, (30, 4)).astype(np.int8),
    "scale": np.full(30, 0.01, np.float32),
    "weights": np.linspace(0.1, 3, 30, dtype=np.float32),
    "hidden.weight": np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32),
    "hidden.bias": np.zeros(3, np.float32),
    "output.weight": np.eye(2, 3, dtype=np.float32),
    "output.bias": np.zeros(2, np.float32),
}


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 29), min_size=1, max_size=40), min_size=1, max_size=12),
    st.sampled_from([4, 40, 1 << 18]),
    st.sampled_from([1, 3, 256]),
)
def test_pooling_does_not_depend_on_blocks_and_pieces(rows: list[list[int]], block: int, piece: int) -> None:
    model = StaticModel(TENSORS)
    features = Ragged(np.array([i for row in rows for i in row], np.int32), np.cumsum([0, *map(len, rows)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooling, "_NUMBERS", block)
        patch.setattr(pooling, "_PIECE", piece)
        got = model.logits(features)
        alone = np.concatenate([model.logits(features.take([i])) for i in range(len(rows))])
    vectors = [TENSORS["table"][row] * np.float64(0.01) for row in rows]
    weights = [TENSORS["weights"][row] for row in rows]
    pooled = [[*(w @ v / w.sum()), *v.max(0)] for v, w in zip(vectors, weights, strict=True)]
    wanted = np.maximum(np.array(pooled) @ TENSORS["hidden.weight"].T, 0)[:, :2]
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    np.testing.assert_allclose(alone, wanted, atol=1e-5)


@pytest.mark.parametrize("name", list(TENSORS))
def test_static_tensors_that_do_not_fit(name: str) -> None:
    with pytest.raises(ArtefactError, match=name.split(".")[0]):
        StaticModel({key: value for key, value in TENSORS.items() if key != name})
    if name not in ("table", "output.weight"):
        with pytest.raises(ArtefactError, match=name):
            StaticModel({**TENSORS, name: TENSORS[name][:-1]})
