"""What is hidden of a text: the shares, that it is a function of its arguments, and what a model loses by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from understudy.data import Examples
from understudy.data.corpus import own
from understudy.data.feed import Feed
from understudy.encoding import MaskedEncoder, load_encoder
from understudy.encoding.masked import NOWHERE, SHARE, weighed
from understudy.objectives import hard_labels
from understudy.students import MaskedLM, Student
from understudy.training import Settings, train

Texts = Callable[..., tuple[list[str], list[int]]]


@pytest.fixture
def encoder(tiny_tokenizer: Any) -> MaskedEncoder:
    return hiding(tiny_tokenizer)


def hiding(tokenizer: Any, **more: Any) -> MaskedEncoder:
    ids = {"mask_id": tokenizer.mask_token_id, "special_ids": tokenizer.all_special_ids}
    return MaskedEncoder(tokenizer.backend_tokenizer, **{"limit": 32, **ids, **more})


def parts(encoder: MaskedEncoder, texts: list[str], epochs: int) -> Iterator[tuple[Any, ...]]:
    """(ids, what is read, places, what is to be said) of every epoch."""
    features = encoder.encode({"text": texts})
    ids = features.ids.padded(encoder.padding_id)
    for epoch in range(epochs):
        inputs, said = encoder.masked(features, range(len(texts)), epoch=epoch)
        yield ids, inputs["input_ids"], inputs["places"], said


def test_what_is_hidden_has_the_shares_of_bert(encoder: MaskedEncoder, tiny_texts: Texts) -> None:
    texts, _ = tiny_texts(400)
    kinds, hidden, plain = np.zeros(3), 0, 0
    for ids, read, places, said in parts(encoder, texts, epochs=10):
        there = said != NOWHERE
        rows = np.nonzero(there)[0]
        was, now = ids[rows, places[there]], read[rows, places[there]]
        assert (was == said[there]).all()
        assert not np.isin(was, encoder.special_ids).any()
        assert (there.sum(1) >= 1).all()
        changed = read != ids[:, : read.shape[1]]
        assert changed.sum() == (was != now).sum()  # nothing else moved
        assert not np.isin(now[now != encoder.mask_id], encoder.special_ids).any()
        mask, same = now == encoder.mask_id, now == was
        kinds += np.array([mask.sum(), (~mask & ~same).sum(), same.sum()])
        hidden += int(there.sum())
        plain += int((~np.isin(ids, encoder.special_ids)).sum())
    assert hidden / plain == pytest.approx(SHARE, abs=0.03)  # rounded, and one of every text at least
    assert kinds / kinds.sum() == pytest.approx([0.8, 0.1, 0.1], abs=0.015)


def test_it_is_a_function_of_seed_content_and_epoch(encoder: MaskedEncoder, tiny_texts: Texts, tmp_path: Path) -> None:
    texts, _ = tiny_texts(60)
    features = encoder.encode({"text": texts})
    assert features.keys == Examples.of({"text": texts}).keys
    first = encoder.masked(features, range(60), epoch=3)[0]["input_ids"]
    backwards = encoder.encode({"text": texts[::-1]})
    again = encoder.masked(backwards, range(59, -1, -1), epoch=3)[0]["input_ids"]
    assert (first == again).all()
    assert (first != encoder.masked(features, range(60), epoch=4)[0]["input_ids"]).any()
    always = encoder.collate(features, range(60))["input_ids"]
    assert (always == encoder.collate(features, range(60))["input_ids"]).all()
    assert (always != first).any()
    saved = load_encoder(tmp_path, encoder.save(tmp_path))
    assert saved.fingerprint == encoder.fingerprint
    assert (saved.collate(saved.encode({"text": texts}), range(60))["input_ids"] == always).all()
    other = MaskedEncoder.load(tmp_path, {**encoder.save(tmp_path), "seed": 1})
    assert other.fingerprint != encoder.fingerprint
    assert (other.collate(features, range(60))["input_ids"] != always).any()


def test_a_text_of_nothing_that_can_be_hidden_counts_nothing(encoder: MaskedEncoder) -> None:
    features = encoder.encode({"text": ["", "my card"]})
    inputs, said = encoder.masked(features, [0, 1])
    assert (said >= 0).sum(1).tolist() == [0, 1]
    found = weighed(np.zeros((*inputs["places"].shape, encoder.size), np.float32), said)
    assert found[:, 0].tolist() == [0.0, 1.0]
    assert found[1, 1] == pytest.approx(np.log(encoder.size))


def test_masks_of_the_text_itself_are_asked_for_and_not_hidden(encoder: MaskedEncoder, tiny_tokenizer: Any) -> None:
    features = encoder.encode({"text": ["my [MASK] is", "my card"]})
    inputs, places = encoder.asked(features, [0, 1])
    assert [len(one) for one in places] == [1, 0]
    assert inputs["input_ids"][0, places[0][0]] == tiny_tokenizer.mask_token_id
    hidden = encoder.masked(features, [0])
    assert places[0][0] not in hidden[0]["places"][hidden[1] >= 0]


@pytest.fixture(params=["bert", "roberta", "distilbert", "electra"])
def masked_lm(request: pytest.FixtureRequest, tiny_tokenizer: Any) -> torch.nn.Module:
    import transformers

    size = {"vocab_size": len(tiny_tokenizer), "pad_token_id": tiny_tokenizer.pad_token_id}
    usual = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 64, **size,
    }  # fmt: skip
    own_names = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64, **size}
    kinds = {"bert": ("Bert", usual), "roberta": ("Roberta", usual), "electra": ("Electra", usual)}
    name, dials = kinds.get(request.param, ("DistilBert", own_names))
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**dials)
    model: torch.nn.Module = getattr(transformers, f"{name}ForMaskedLM")(config)
    return model.eval()


def test_the_loss_is_that_of_transformers(
    masked_lm: Any, encoder: MaskedEncoder, tiny_texts: Texts, tiny_tokenizer: Any
) -> None:
    """Golden: AutoModelForMaskedLM(labels=...) on the same hidden texts; the term, and what evaluation keeps of it."""
    texts, _ = tiny_texts(40)
    feed = Feed(Examples.of({"text": texts}, own(40)), {"student": encoder})
    batch = feed.batch(np.arange(40), epoch=2)
    inputs = {name: value for name, value in batch.inputs["student"].items() if name != "places"}
    labels = torch.full_like(inputs["input_ids"], -100)
    places, said = batch.inputs["student"]["places"], batch.labels
    rows = torch.arange(40)[:, None].expand_as(said)
    labels[rows[said >= 0], places[said >= 0]] = said[said >= 0]
    masked = MaskedLM(masked_lm)
    with torch.no_grad():
        whole = masked_lm(**inputs, labels=labels)
        outputs = Student(masked)(batch.inputs["student"])
    term = hard_labels()
    logits = outputs["student.logits"]
    assert logits.shape == (*said.shape, len(tiny_tokenizer))
    loss = term.total(outputs.of("student"), outputs.of("nobody"), batch) / term.count(batch)
    assert float(loss) == pytest.approx(float(whole.loss), rel=1e-5)
    found = weighed(logits.numpy(), said.numpy())
    assert found[:, 1].sum() / found[:, 0].sum() == pytest.approx(float(whole.loss), rel=1e-5)
    states = whole.logits[rows[said >= 0], places[said >= 0]]
    assert torch.allclose(logits[said >= 0], states, atol=1e-5)
    assert found[:, 2].sum() == (states.argmax(-1) == said[said >= 0]).sum()


def test_fillers_of_a_batch_weigh_nothing(encoder: MaskedEncoder, tiny_texts: Texts) -> None:
    texts, _ = tiny_texts(8)
    feed = Feed(Examples.of({"text": texts}, own(8)), {"student": encoder, "teacher": encoder})
    batch = feed.batch(np.arange(8), fillers=2)
    assert batch.masks["words"][-2:].sum() == batch.masks["labelled"][-2:].sum() == 0
    assert (batch.masks["words"][:6] == (batch.labels[:6] >= 0)).all()
    assert (batch.inputs["student"]["input_ids"] == batch.inputs["teacher"]["input_ids"]).all()


def test_models_that_read_otherwise_cannot_share_what_is_hidden(encoder: MaskedEncoder, tiny_tokenizer: Any) -> None:
    from understudy.errors import UsageError

    rows = Examples.of({"text": ["a", "b"]}, own(2))
    with pytest.raises(UsageError, match="read alike"):
        Feed(rows, {"student": encoder, "teacher": hiding(tiny_tokenizer, seed=1)})


def test_an_interrupted_training_ends_in_the_same_weights(
    encoder: MaskedEncoder, tiny_texts: Texts, tiny_encoder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForMaskedLM

    from understudy.errors import Interrupted

    texts, _ = tiny_texts(64)
    feed = Feed(Examples.of({"text": texts}, own(64)), {"student": encoder})

    def run(folder: Path, stop: int) -> tuple[Any, dict[str, Any]]:
        torch.manual_seed(5)
        model = MaskedLM(AutoModelForMaskedLM.from_pretrained(tiny_encoder))
        steps = iter(range(1000))
        done = train(
            model, feed, objective=[hard_labels()], folder=folder, settings=Settings(epochs=3, batch_size=16, seed=1),
            should_stop=lambda: next(steps) == stop,
        )  # fmt: skip
        return done, {name: value.clone() for name, value in model.state_dict().items()}

    with pytest.raises(Interrupted):
        run(tmp_path / "a", 5)
    resumed, weights = run(tmp_path / "a", -1)
    _, whole = run(tmp_path / "b", -1)
    assert any("resumed" in note for note in resumed.notes)
    assert all(torch.equal(value, whole[name]) for name, value in weights.items())
