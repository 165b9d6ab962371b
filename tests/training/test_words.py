"""Sentences in training: padding changes nothing, stored targets are live ones, and truncated words do not count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.pipeline import tagging_data
from understudy import students
from understudy.data import Examples, load
from understudy.data.feed import Feed
from understudy.encoding import AffixEncoder
from understudy.objectives import hard_labels, soft_labels
from understudy.ragged import Ragged
from understudy.targets import Store
from understudy.tasks import LAYOUTS
from understudy.tasks.token_classification import token_encoder
from understudy.teachers import Live, Loaded, Stored, open_teacher, score_rows
from understudy.training import Distillation, Settings, train


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tagging_data.write(tmp_path_factory.mktemp("words") / "data", unlabelled=20)
    return load(folder, layouts=LAYOUTS)[1]


@pytest.fixture(scope="module")
def teacher(rows: Any, tiny_encoder: Path) -> Loaded:
    return open_teacher(
        tiny_encoder, task="token-classification", label_names=rows.label_names, head="new", fields=("tokens",)
    )


def small(rows: Any, kind: str = "conv", **more: Any) -> tuple[Any, AffixEncoder]:
    encoder = AffixEncoder.fit(rows.train.inputs["tokens"], most=500, buckets=64, **{"limit": 64} | more)
    torch.manual_seed(0)
    made = {"conv": students.TagConv, "gru": students.TagGru}[kind]
    model = made(encoder.size, len(rows.label_names), dimensions=8, width=16, hidden=16, dropout=0.0, word_dropout=0.0)
    return model, encoder


TERMS = [soft_labels(2.0, 0.7, per="words"), hard_labels(0.3)]


def gradients(model: Any, feed: Feed, teacher: Any, batches: list[list[int]]) -> tuple[float, list[torch.Tensor]]:
    """Loss over all batches together, each term divided by what all of them count, and its gradient."""
    whole = Distillation({"student": model}, TERMS)
    whole.bind(teacher)
    whole.eval().zero_grad()
    some = [feed.batch(np.array(batch)) for batch in batches]
    counts = {term.name: sum(float(term.count(batch)) for batch in some) for term in TERMS}
    loss = torch.zeros(())
    for batch in some:
        sums = whole(batch, teacher.targets(batch))
        loss = loss + sum(term.weight * sums[term.name] / counts[term.name] for term in TERMS)
    loss.backward()
    return float(loss.detach()), [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("kind", ["conv", "gru"])
def test_padding_changes_neither_loss_nor_gradient(kind: str, rows: Any, teacher: Loaded) -> None:
    model, encoder = small(rows, kind)
    joined = Examples.join([rows.train.take(range(9)), rows.unlabelled.take(range(3))])
    feed = Feed(joined, {"student": encoder, "teacher": teacher.encoder})
    together, mine = gradients(model, feed, Live(teacher.model), [list(range(12))])
    alone, others = gradients(model, feed, Live(teacher.model), [[i] for i in range(12)])
    assert together == pytest.approx(alone, rel=1e-5)
    for a, b in zip(mine, others, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_masks_count_words(rows: Any, teacher: Loaded) -> None:
    _, encoder = small(rows)
    joined = Examples.join([rows.train.take([0, 1]), rows.unlabelled.take([0])])
    batch = Feed(joined, {"student": encoder, "teacher": teacher.encoder}).batch(np.arange(3), fillers=1)
    lengths = [len(words) for words in joined.inputs["tokens"]]
    width = max(lengths)
    assert batch.labels.shape == batch.masks["words"].shape == batch.masks["labelled"].shape == (3, width)
    assert batch.masks["words"].sum(1).tolist() == [*lengths[:2], 0]  # a filler weighs nothing
    assert batch.masks["labelled"].sum(1).tolist() == [*lengths[:2], 0]
    assert (batch.labels[2] == -1).all()
    assert {name: place.shape for name, place in batch.places.items()} == dict.fromkeys(
        ("student", "teacher"), (3, width)
    )


def store_of(folder: Path, teacher: Loaded, rows: Examples) -> Store:
    store = Store(folder, identity={"teacher": teacher.fingerprint, "encoding": teacher.encoder.fingerprint})
    store.write(rows.keys, teacher.scorer(rows.inputs), shard_rows=64)
    return store


def test_stored_targets_hold_words_and_nothing_else(rows: Any, teacher: Loaded, tmp_path: Path) -> None:
    store = store_of(tmp_path / "targets", teacher, rows.train)
    words = sum(map(len, dict(zip(rows.train.keys, rows.train.inputs["tokens"], strict=True)).values()))
    shards = [shard.signals["logits"] for shard in store._rows.shards]
    assert len(shards) == 5
    assert all(isinstance(one, Ragged) for one in shards)
    assert sum(len(one.values) for one in shards) == words
    assert store.stats()["signals"] == {"logits": {"dtype": "float32", "shape": [-1, len(rows.label_names)]}}
    keys = rows.train.keys[::-1]
    live = score_rows(teacher.model, teacher.encoder, rows.train.inputs)
    for again in (store, Store(store.folder, identity=store.identity, in_memory=0)):
        read = again.read(keys)["logits"]
        assert isinstance(read, Ragged)
        np.testing.assert_allclose(read.values, live.take(range(len(live))[::-1]).values, atol=1e-5)
    found = store.verify(teacher.scorer(rows.train.inputs), 16, keys=rows.train.keys)
    assert found["agreement"] == 1.0
    assert found["max_error"] < 1e-4
    assert store.write(rows.train.keys, teacher.scorer(rows.train.inputs)) == 0


@pytest.mark.parametrize("limit", [64, 8])
def test_stored_and_live_targets_give_the_same_weights(limit: int, rows: Any, teacher: Loaded, tmp_path: Path) -> None:
    """With a teacher that has no room for every word, too: then only the student's labels are heard behind that."""
    from dataclasses import replace

    encoder = token_encoder(teacher.tokenizer, rows.train.inputs, positions=64, limit=limit)
    mine = replace(teacher, encoder=encoder)
    train_rows = rows.train.take(range(96))
    answered = encoder.answered(encoder.encode(train_rows.inputs))
    assert (answered < [len(words) for words in train_rows.inputs["tokens"]]).any() == (limit == 8)
    found = []
    for kind in ("live", "stored"):
        model, own = small(rows)
        encoders: dict[str, Any] = {"student": own} | ({"teacher": encoder} if kind == "live" else {})
        feed = Feed(train_rows, encoders, answered=answered if kind == "stored" else None)
        source: Any = Live(mine.model) if kind == "live" else Stored(store_of(tmp_path / kind, mine, train_rows))
        settings = Settings(epochs=2, batch_size=32, learning_rate=1e-2)
        train(model, feed, objective=TERMS, teacher=source, settings=settings, device="cpu")
        found.append(model.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], atol=1e-5, rtol=1e-4)


def test_an_interrupted_training_goes_on_to_the_same_weights(rows: Any, teacher: Loaded, tmp_path: Path) -> None:
    from understudy.errors import Interrupted

    train_rows = rows.train.take(range(96))

    def learnt(folder: Path, stop: int | None) -> dict[str, torch.Tensor]:
        model, own = small(rows)
        feed = Feed(train_rows, {"student": own, "teacher": teacher.encoder})
        steps = iter(range(100))
        more: dict[str, Any] = {} if stop is None else {"should_stop": lambda: next(steps) == stop}
        settings = Settings(epochs=2, batch_size=32, learning_rate=1e-2)
        train(
            model,
            feed,
            objective=TERMS,
            teacher=Live(teacher.model),
            settings=settings,
            folder=folder,
            device="cpu",
            **more,
        )
        return model.state_dict()

    whole = learnt(tmp_path / "whole", None)
    with pytest.raises(Interrupted):
        learnt(tmp_path / "parts", 2)
    resumed = learnt(tmp_path / "parts", None)
    for name, value in whole.items():
        torch.testing.assert_close(value, resumed[name], atol=0, rtol=0)


def test_logits_of_words_do_not_depend_on_their_company(rows: Any, teacher: Loaded) -> None:
    inputs = rows.test.inputs
    whole = score_rows(teacher.model, teacher.encoder, inputs, batch_size=32)
    assert whole.lengths.tolist() == [len(words) for words in inputs["tokens"]]
    single = score_rows(teacher.model, teacher.encoder, {"tokens": inputs["tokens"][5:6]})
    np.testing.assert_allclose(whole[5], single.values, atol=1e-4)
