"""A feed: each model's own encoding of the same rows, and masks that say what weighs how much."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from understudy.data import Examples
from understudy.data.feed import Feed
from understudy.data.views import shift
from understudy.encoding import PixelEncoder, SubwordEncoder, WordEncoder

TEXTS = ["my card", "is it the weather of today", "flight", "rain"]
LABELS = [1, -1, 0, 2]


@pytest.fixture
def subwords(tiny_tokenizer: Any) -> SubwordEncoder:
    return SubwordEncoder(tiny_tokenizer.backend_tokenizer, limit=16, token_types=False)


def words() -> WordEncoder:
    return WordEncoder(["card", "rain"], buckets=8, pairs=False, characters=0)


def test_each_model_reads_the_same_rows_in_its_own_encoding(subwords: SubwordEncoder) -> None:
    examples = Examples.of({"text": TEXTS}, LABELS)
    feed = Feed(examples, {"student": words(), "teacher": subwords})
    rows = np.array([3, 0, 1])
    batch = feed.batch(rows, epoch=2)
    assert batch.keys == tuple(examples.keys[i] for i in rows)
    assert batch.labels.tolist() == [2, 1, -1]
    assert batch.epoch == 2
    for name, encoder in feed.encoders.items():
        alone = encoder.collate(encoder.encode({"text": [TEXTS[i] for i in rows]}), np.arange(3))
        assert set(alone) == set(batch.inputs[name])
        assert all(np.array_equal(batch.inputs[name][key].numpy(), alone[key]) for key in alone)


def test_what_weighs_how_much(subwords: SubwordEncoder) -> None:
    feed = Feed(Examples.of({"text": TEXTS}, LABELS), {"student": subwords}, class_weights=np.array([1.0, 3.0, 0.5]))
    batch = feed.batch(np.arange(4))
    assert batch.masks["examples"].tolist() == [1, 1, 1, 1]
    assert batch.masks["labelled"].tolist() == [3.0, 0.0, 1.0, 0.5]
    lengths = [int(n) for n in feed.lengths]
    assert batch.masks["tokens"].sum(1).tolist() == lengths
    assert torch.equal(batch.masks["tokens"], batch.inputs["student"]["attention_mask"].float())
    assert len(set(lengths)) > 1


def test_fillers_weigh_nothing_in_any_term(subwords: SubwordEncoder) -> None:
    feed = Feed(Examples.of({"text": TEXTS}, LABELS), {"student": subwords})
    plain, filled = feed.batch(np.array([2, 3])), feed.batch(np.array([2, 3, 1, 0]), fillers=2)
    for name, mask in filled.masks.items():
        assert not mask[2:].any(), name
        assert float(mask.sum()) == float(plain.masks[name].sum()), name
    assert len(filled) == 4
    assert float(feed.batch(np.array([0]), fillers=1).masks["tokens"].sum()) == 0


def test_a_feed_without_labels() -> None:
    batch = Feed(Examples.of({"text": TEXTS}), {"student": words()}).batch(np.arange(4))
    assert batch.labels.tolist() == [-1] * 4
    assert not batch.masks["labelled"].any()
    assert batch.masks["examples"].all()
    assert "tokens" not in batch.masks


def test_student_and_teacher_look_at_the_same_view() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)
    examples = Examples.of({"image": [image.tobytes() for image in pixels]})
    examples = Examples({"image": list(pixels)}, examples.labels, examples.keys)
    encoder = PixelEncoder((8, 8), channels=1)
    feed = Feed(examples, {"student": encoder, "teacher": encoder}, view=partial(shift, most=2, seed=0))
    plain = Feed(examples, {"student": encoder}).batch(np.arange(5)).inputs["student"]["pixels"]
    first, later = feed.batch(np.arange(5), epoch=0), feed.batch(np.array([3, 1]), epoch=0)
    assert torch.equal(first.inputs["student"]["pixels"], first.inputs["teacher"]["pixels"])
    assert torch.equal(first.inputs["student"]["pixels"][[3, 1]], later.inputs["student"]["pixels"])
    other = feed.batch(np.arange(5), epoch=1).inputs["student"]["pixels"]
    assert not torch.equal(first.inputs["student"]["pixels"], other)
    assert not torch.equal(first.inputs["student"]["pixels"], plain)


def test_a_fingerprint_covers_rows_readers_and_weights(subwords: SubwordEncoder) -> None:
    examples = Examples.of({"text": TEXTS}, LABELS)

    def fingerprint(examples: Examples = examples, **more: Any) -> str:
        return Feed(examples, more.pop("encoders", {"student": words()}), **more).fingerprint

    weights = np.array([1.0, 2.0, 1.0])
    found = [
        fingerprint(),
        fingerprint(examples.take([1, 0, 2, 3])),
        fingerprint(examples.take([0, 1, 2])),
        fingerprint(Examples.of({"text": TEXTS}, [1, -1, 0, 1])),
        fingerprint(encoders={"student": subwords}),
        fingerprint(encoders={"student": words(), "teacher": subwords}),
        fingerprint(class_weights=weights),
    ]
    assert len(set(found)) == len(found)
    assert fingerprint() == found[0]


def test_rows_are_encoded_once_for_models_that_read_alike(subwords: SubwordEncoder) -> None:
    feed = Feed(Examples.of({"text": TEXTS}, LABELS), {"student": subwords, "teacher": subwords})
    assert feed.features["student"] is feed.features["teacher"]
