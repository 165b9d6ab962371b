"""The ways to ask a lookup student: many texts, one text, ids; all of them say the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy import runtime
from understudy.encoding import WordEncoder, words
from understudy.errors import ArtefactError
from understudy.export.artefact import write_artefact
from understudy.runtime import StaticModel, lookup
from understudy.runtime.lookup import Lookup

LABELS = ("a", "b", "c")
WORDS = ["where", "is", "my", "card", "?", "中"]
ENCODERS: dict[str, dict[str, Any]] = {
    "words": {"words": WORDS, "buckets": 30},
    "no buckets": {"words": WORDS},
    "pairs": {"words": WORDS, "buckets": 30, "pairs": True},
    "everything": {"words": WORDS, "buckets": 60, "pairs": True, "characters": 3, "lowercase": False},
    "no dictionary": {"words": (), "buckets": 50, "pairs": True, "characters": 4},
    "nothing at all": {"words": ()},
}
MODELS = ("hidden layer", "one matrix", "folded")
TEXTS = st.text(alphabet=st.characters(), max_size=30) | st.lists(
    st.sampled_from([*WORDS, "zebra", "don't", "CARD", " ", ".", "''", "\0", "\ud800", "😀", "x" * 70])
).map(" ".join)


def tensors(size: int, model: str) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    width, hidden = (3 if model == "folded" else 6), 5
    found = {
        "table": draw.integers(-127, 128, (size, width)).astype(np.int8),
        "scale": draw.uniform(0.01, 0.02, size).astype(np.float16),
        "weights": draw.integers(0, 256, size).astype(np.uint8),
        "weights.range": np.array([-2, 0.01], np.float32),
        "output.bias": draw.normal(size=3).astype(np.float32),
    }
    if model != "folded":
        found["output.weight"] = draw.normal(size=(3, hidden if model == "hidden layer" else width)).astype(np.float32)
    if model == "hidden layer":
        found["hidden.weight"] = draw.normal(size=(hidden, 2 * width)).astype(np.float32)
        found["hidden.bias"] = draw.normal(size=hidden).astype(np.float32)
    return found


def written(folder: Path, name: str, model: str = "hidden layer") -> tuple[WordEncoder, StaticModel]:
    encoder = WordEncoder(**ENCODERS[name])
    made = tensors(encoder.size, model)
    write_artefact(folder, task="t", labels=LABELS, encoder=encoder, model=made, temperature=1.5)
    return encoder, StaticModel(made)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", list(ENCODERS))
def test_every_way_to_ask_says_what_the_training_ids_say(tmp_path: Path, name: str, model: str) -> None:
    encoder, exact = written(tmp_path / "artefact", name, model)
    loaded = runtime.load(tmp_path / "artefact")

    @settings(max_examples=25, deadline=None)
    @given(st.lists(TEXTS, min_size=1, max_size=7), st.sampled_from([1, 2, 4096]), st.sampled_from([0, 8]))
    def same(texts: list[str], chunk: int, few: int) -> None:
        wanted = exact.logits(encoder.encode({"text": texts}))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(words, "_CHUNK", chunk)
            patch.setattr(lookup, "_FEW", few)
            got = loaded.logits(texts)
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=2e-5)
        chances = loaded.predict_proba(texts)
        labels = [LABELS[best] for best in chances.argmax(axis=1)]
        assert loaded.labels_of(texts) == [one["label"] for one in loaded.predict(texts)] == labels
        for row, text in enumerate(texts):
            np.testing.assert_allclose(loaded.logits([text])[0], wanted[row], rtol=1e-5, atol=2e-5)
            alone = loaded.predict_one(text)
            np.testing.assert_allclose(list(alone["probabilities"].values()), chances[row], atol=1e-5)
            assert chances[row, LABELS.index(loaded.label(text))] > chances[row].max() - 1e-5
            assert chances[row, LABELS.index(alone["label"])] > chances[row].max() - 1e-5

    same()


def test_words_are_forgotten_and_met_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, exact = written(tmp_path / "artefact", "everything")
    texts = [f"w{i} w{i * 7} card" for i in range(60)]
    wanted = exact.logits(encoder.encode({"text": texts}))
    monkeypatch.setattr(words, "_MEMO", 10)
    monkeypatch.setattr(words, "_CHUNK", 4)
    loaded = runtime.load(tmp_path / "artefact")
    for _ in range(2):
        np.testing.assert_allclose(loaded.logits(texts), wanted, rtol=1e-5, atol=2e-5)
        assert [loaded.label(text) for text in texts] == [LABELS[best] for best in wanted.argmax(axis=1)]
    with ThreadPoolExecutor(4) as pool:  # some still read what others have already left behind
        for got in pool.map(lambda _: [loaded.logits(texts), loaded.logits(texts[::-1])[::-1]], range(6)):
            np.testing.assert_allclose(got, [wanted, wanted], rtol=1e-5, atol=2e-5)


def test_a_megabyte_of_anything(tmp_path: Path) -> None:
    encoder, exact = written(tmp_path / "artefact", "everything")
    loaded = runtime.load(tmp_path / "artefact")
    long = ["where is my card ? " * 55_000, "x" * 1_000_000, "'" * 9_000, "\0" * 9_000, "😀 \ud800" * 3_000]
    wanted = exact.logits(encoder.encode({"text": [*long, "card"]}))
    np.testing.assert_allclose(loaded.logits([*long, "card"]), wanted, atol=1e-3)
    for text, row in zip(long, wanted, strict=False):
        assert row[LABELS.index(loaded.label(text))] > row.max() - 1e-3
    assert "truncated" not in loaded.predict_one(long[0]), "nothing is cut: a bag has no limit"


@pytest.mark.parametrize("text", ["", " \n", "😀", "\0", "\ud800", "''", "’"])
def test_odd_texts_are_answered(tmp_path: Path, text: str) -> None:
    written(tmp_path / "artefact", "no buckets")
    loaded = runtime.load(tmp_path / "artefact")
    answer = loaded.predict_one(text)
    assert answer["text"] == text
    assert answer["label"] == loaded.label(text) == loaded.labels_of([text])[0]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    encoder = WordEncoder(WORDS, buckets=3)
    write_artefact(tmp_path / "a", task="t", labels=LABELS, encoder=encoder, model=tensors(9, "folded"))
    with pytest.raises(ArtefactError, match="9 vectors for 10 ids"):
        runtime.load(tmp_path / "a")


def test_a_model_that_answers_nothing_is_an_error_in_every_way(tmp_path: Path) -> None:
    made = tensors(7, "folded")
    made["output.bias"][:] = 3e38
    made["table"][:], made["scale"] = 127, np.full(7, 1e36, np.float32)
    write_artefact(tmp_path / "a", task="t", labels=LABELS, encoder=WordEncoder(WORDS), model=made)
    loaded = runtime.load(tmp_path / "a")
    asked: list[Any] = [loaded.label, loaded.predict_one, lambda row: loaded.labels_of([row])]
    with np.errstate(over="ignore"):
        for ask in asked:
            with pytest.raises(ArtefactError, match="row 1 with a logit that is not a finite number"):
                ask("card")


def test_a_lookup_shares_nothing_with_the_model_it_was_made_of() -> None:
    encoder = WordEncoder(**ENCODERS["everything"])
    model = StaticModel(tensors(encoder.size, "hidden layer"))
    before = model.table.sums.copy()
    Lookup(encoder, model).logits({"text": ["some new words"]})
    np.testing.assert_array_equal(model.table.sums, before)
