"""Batches that the student writes: whose tokens they are, what they are worth, and that nothing else decides them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.decoders import decoder, tokenizer_of
from tests.training.small import after, same
from tests.training.writers import TEXTS, encoder_of, feed_of, student_of
from understudy.data.feed import Feed
from understudy.errors import Interrupted, StoreError, UsageError
from understudy.objectives import hard_tokens, sampled_tokens, soft_tokens
from understudy.records import Batch
from understudy.students import CausalLM, Student
from understudy.targets import Store
from understudy.teachers import Live, Mixed, StoredTokens, sample_identity, token_scorer
from understudy.teachers.writing import drawing, likeliest, numbers_of, write
from understudy.training import Distillation, Rollouts, Settings, Training, train

PROMPTS = {"prompt": ["who?", "what is it called?", "why"], "completion": [" the cat", " a boat, and a sea", " no"]}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tokenizer_of(TEXTS)


def written(model: CausalLM, feed: Feed, rollouts: Rollouts, rows: Any = None, step: int = 0) -> Batch:
    batch = replace(feed.batch(np.arange(len(feed)) if rows is None else np.array(rows)), step=step)
    return rollouts(batch, Distillation({"student": Student(model)}, [hard_tokens()]))


def trained(model: CausalLM, feed: Feed, *, stop: int | None = None, folder: Path | None = None, **more: Any) -> Any:
    dials = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, "weight_decay": 0.0, **more.pop("settings", {})}
    how: dict[str, Any] = {"objective": [soft_tokens(weight=0.5), hard_tokens(0.5)], **more}
    try:
        return train(
            Student(model), feed, settings=Settings(**dials), folder=folder, device="cpu",
            should_stop=(lambda: False) if stop is None else after(stop), **how,
        )  # fmt: skip
    except Interrupted:
        return None


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_what_is_written_is_what_the_decoder_says_token_by_token(kind: str, tokenizer: Any) -> None:
    """No cache, no padding, one row at a time: the same tokens, drawn and likeliest."""
    model, encoder = student_of(tokenizer, kind=kind, layers=2), encoder_of(tokenizer)
    inputs = feed_of(encoder, {"text": [*TEXTS[:5], "a"]}).batch(np.arange(6)).inputs["student"]
    lengths, numbers = inputs["attention_mask"].sum(1) - 1, numbers_of(list("abcdef"), 12)
    room = torch.tensor([12, 3, 12, 1, 12, 12])
    model.train()
    for choose in (drawing(encoder.size, numbers, 1.3), likeliest(encoder.size)):
        found = write(model.model, inputs["input_ids"], lengths, room=room, choose=choose, ends=(0,))
        for row in range(6):
            ids, said = inputs["input_ids"][row, : lengths[row]].tolist(), []
            model.eval()
            while len(said) < room[row] and 0 not in said:
                with torch.no_grad():
                    logits = model.model(torch.tensor([ids + said])).logits[:, -1, : encoder.size]
                shares = (logits.double() / 1.3).softmax(-1)[0].cumsum(0)
                drawn = int((shares <= numbers[row, len(said)]).sum())
                said.append(int(logits.argmax()) if choose.__qualname__.startswith("likeliest") else drawn)
            assert found[row].tolist() == said + [-1] * (found.shape[1] - len(said))
        model.train()
    assert model.training  # modes are put back


def test_any_of_several_tokens_ends_a_row(tokenizer: Any) -> None:
    """As the end of a text and that of a turn of a conversation, where those are two."""
    model, size = student_of(tokenizer), len(tokenizer)
    start, ones = torch.zeros(40, 1, dtype=torch.int64), torch.ones(40, dtype=torch.int64)
    how: dict[str, Any] = {"room": 12 * ones, "choose": drawing(size, numbers_of(list(map(str, range(40))), 12))}
    whole = write(model.model, start, ones, ends=(), **how)
    ends = tuple(whole[:, 3:6].flatten().unique()[:2].tolist())
    for row, said in zip(whole.tolist(), write(model.model, start, ones, ends=ends, **how).tolist(), strict=True):
        stop = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
        assert said == row[:stop] + [-1] * (len(said) - stop)


def test_drawn_tokens_are_distributed_as_the_student_says(tokenizer: Any) -> None:
    """Chi-square over the first token, and over the second given the first, at a temperature."""
    from scipy.stats import chisquare

    model, size, rows = student_of(tokenizer), 12, 4000  # tokens behind the twelfth do not exist
    start, ones = torch.zeros(rows, 1, dtype=torch.int64), torch.ones(rows, dtype=torch.int64)
    choose = drawing(size, numbers_of([str(row) for row in range(rows)], 2), 0.8)
    found = write(model.model, start, ones, room=2 * ones, choose=choose, ends=())
    first = int(found[:, 0].mode().values)
    for before, some in (([0], found[:, 0]), ([0, first], found[found[:, 0] == first, 1])):
        with torch.no_grad():
            shares = (model.model(torch.tensor([before])).logits[0, -1, :size] / 0.8).double().softmax(-1)
        expected = (shares * len(some)).numpy()
        assert expected.min() > 4
        assert chisquare(np.bincount(some.numpy(), minlength=size), expected).pvalue > 0.01
        assert chisquare(np.bincount(some.numpy(), minlength=size), expected[::-1]).pvalue < 1e-6


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jensen_shannon"])
def test_the_loss_is_that_of_transformers_on_what_was_written(divergence: str, tokenizer: Any) -> None:
    """By hand: each row alone through both models, log-softmax at the position before each written token."""
    from understudy import objectives as match

    encoder = encoder_of(tokenizer, "prompt", "completion")
    feed, rollouts = feed_of(encoder, PROMPTS), Rollouts(encoder, 1.0, longest=6, seed=3)
    model, teacher = student_of(tokenizer), CausalLM(decoder("gpt2", len(tokenizer), seed=1))
    batch = written(model, feed, rollouts, step=5)
    term, live = soft_tokens(divergence=divergence), Live(teacher)
    live.bind(term.needs.source)
    student = Student(model)
    student.bind(term.needs.learner)
    total = term.total(student(batch.inputs["student"]).of("student"), live.targets(batch).of("teacher"), batch)
    by_hand, tokens = 0.0, 0
    for row, prompt in enumerate(PROMPTS["prompt"]):
        asked = [0, *tokenizer(prompt, add_special_tokens=False).input_ids]
        said = batch.labels[row][batch.labels[row] >= 0].tolist()
        assert 1 <= len(said) <= 6
        ids = torch.tensor([asked + said])
        assert batch.inputs["student"]["input_ids"][row, : ids.shape[1]].tolist() == asked + said
        mine, theirs = (one(ids).logits[0, len(asked) - 1 : -1] for one in (model.model, teacher.model))
        by_hand += getattr(match, divergence)(mine, theirs, temperature=1.0).sum()
        tokens += len(said)
    assert term.count(batch) == tokens
    torch.testing.assert_close(total, by_hand, atol=1e-4, rtol=1e-5)
    assert hard_tokens().count(batch) == 0


def test_a_student_that_is_its_teacher_has_nothing_to_learn(tokenizer: Any) -> None:
    encoder, teacher = encoder_of(tokenizer), Live(student_of(tokenizer))
    feed, rollouts = feed_of(encoder, {"text": TEXTS}), Rollouts(encoder, 1.0, longest=5)
    for seed, nothing in ((0, True), (1, False)):
        terms = [soft_tokens(divergence="reverse_kl"), hard_tokens()]
        model = Distillation({"student": Student(student_of(tokenizer, seed=seed))}, terms)
        model.bind(teacher)
        batch = rollouts(feed.batch(np.arange(len(feed))), model)
        said = model(batch, teacher.targets(batch))
        loss = sum(said.values()) / terms[0].count(batch)
        loss.backward()
        gradient = max(float(p.grad.abs().max()) for p in model.parameters())
        assert (abs(float(loss.detach())) < 1e-6, gradient < 1e-6) == (nothing, nothing)
        assert float(said["hard_tokens"].detach()) == 0.0


def test_without_a_share_nothing_changes_and_with_one_it_does(tokenizer: Any) -> None:
    encoder, teacher = encoder_of(tokenizer), student_of(tokenizer, seed=1)
    feed = feed_of(encoder, {"text": TEXTS})
    found = {}
    for share in (None, 0.0, 0.5, 1.0):
        model = student_of(tokenizer)
        prepare = None if share is None else Rollouts(encoder, share, longest=5)
        done = trained(model, feed, teacher=Live(teacher), prepare=prepare)
        found[share] = model
        assert (done.preparing > 0) == (share is not None)
        if share == 1.0:
            assert [epoch["terms"]["hard_tokens"] for epoch in done.history] == [0.0, 0.0]
            assert all(epoch["terms"]["soft_tokens"] > 0 for epoch in done.history)
    assert same(found[None], found[0.0])
    assert not same(found[0.0], found[0.5])
    assert not same(found[1.0], found[0.5])
    due = [Rollouts(encoder, 0.3, seed=7).due(step) for step in range(2000)]
    assert 0.27 < np.mean(due) < 0.33
    assert due != [Rollouts(encoder, 0.3, seed=8).due(step) for step in range(2000)]


def test_a_training_that_goes_on_ends_in_the_same_weights(tokenizer: Any, tmp_path: Path) -> None:
    encoder, teacher = encoder_of(tokenizer), student_of(tokenizer, seed=1)
    feed = feed_of(encoder, {"text": TEXTS})
    how: dict[str, Any] = {"teacher": Live(teacher), "settings": {"epochs": 3, "seed": 2}}
    whole, again, parts = student_of(tokenizer), student_of(tokenizer), student_of(tokenizer)
    prepare = Rollouts(encoder, 0.5, longest=5, seed=2)
    assert {prepare.due(step) for step in range(9)} == {True, False}
    torch.rand(7)  # the global random state takes no part
    trained(whole, feed, prepare=prepare, **how)
    trained(again, feed, prepare=prepare, **how)
    assert same(whole, again)
    for stop in (2, 3):
        assert trained(parts, feed, prepare=prepare, folder=tmp_path, stop=stop, **how) is None
    other = Rollouts(encoder, 0.5, longest=6, seed=2)
    with pytest.raises(StoreError, match="another training"):
        trained(student_of(tokenizer), feed, prepare=other, folder=tmp_path, **how)
    done: Training = trained(parts, feed, prepare=prepare, folder=tmp_path, **how)
    assert same(whole, parts)
    assert 0 < done.preparing < done.seconds


def test_micro_batches_write_what_the_whole_writes(tokenizer: Any) -> None:
    encoder, teacher = encoder_of(tokenizer), student_of(tokenizer, seed=1)
    feed, rollouts = feed_of(encoder, {"text": TEXTS}), Rollouts(encoder, 1.0, longest=8, seed=4)
    model = student_of(tokenizer)
    whole = written(model, feed, rollouts, step=3)
    some = written(model, feed, rollouts, rows=[7, 2], step=3)
    for place, row in enumerate([7, 2]):
        mine, theirs = (one.labels[at][one.labels[at] >= 0] for one, at in ((some, place), (whole, row)))
        assert torch.equal(mine, theirs)
    assert not torch.equal(whole.labels, written(model, feed, rollouts, step=4).labels)
    assert len({tuple(row) for row in whole.labels.tolist()}) > 6
    found = []
    for accumulation in (1, 4):
        one = student_of(tokenizer)
        dials = {"batch_size": 8, "accumulation": accumulation, "learning_rate": 1e-3}
        done = trained(one, feed, teacher=Live(teacher), prepare=rollouts, settings=dials)
        found.append((one, [epoch["loss"] for epoch in done.history]))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)
    for mine, theirs in zip(found[0][0].parameters(), found[1][0].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=1e-3)


def test_memory_that_runs_out_while_it_writes_halves_the_micro_batch(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, teacher = encoder_of(tokenizer), student_of(tokenizer, seed=1)
    feed, rollouts = feed_of(encoder, {"text": TEXTS}), Rollouts(encoder, 1.0, longest=4)
    how: dict[str, Any] = {"teacher": Live(teacher), "prepare": rollouts, "settings": {"learning_rate": 1e-3}}
    whole, halved = student_of(tokenizer), student_of(tokenizer)
    trained(whole, feed, **how)

    def small(speaker: Any, ids: torch.Tensor, *given: Any, **more: Any) -> torch.Tensor:
        if len(ids) > 2:
            raise torch.OutOfMemoryError("no room")
        return write(speaker, ids, *given, **more)

    monkeypatch.setattr("understudy.training.rollouts.write", small)
    done = trained(halved, feed, **how)
    assert any("micro-batches halved" in note for note in done.notes)
    for mine, theirs in zip(halved.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=1e-3)


def test_of_a_text_the_first_half_is_kept_and_limits_hold(tokenizer: Any) -> None:
    encoder = encoder_of(tokenizer)
    feed = feed_of(encoder, {"text": [*TEXTS, "é" * 60, "a"]})
    batch = written(student_of(tokenizer), feed, Rollouts(encoder, 1.0, longest=30), step=1)
    before = feed.batch(np.arange(len(feed)))
    lengths = batch.inputs["student"]["attention_mask"].sum(1)
    assert int(lengths.max()) <= encoder.limit
    for row in range(len(feed)):
        old, new = (one.inputs["student"]["input_ids"][row] for one in (before, batch))
        count = int((batch.labels[row] >= 0).sum())
        kept, had = int(lengths[row]) - count, int(before.inputs["student"]["attention_mask"][row].sum())
        assert kept == 1 + (had - 1) // 2
        assert torch.equal(old[:kept], new[:kept])
        assert torch.equal(new[kept : kept + count], batch.labels[row, :count])
        assert batch.inputs["student"]["places"][row, :count].tolist() == list(range(kept - 1, kept - 1 + count))
        assert 1 <= count <= min(30, encoder.limit - kept)
    short = written(student_of(tokenizer), feed, Rollouts(encoder, 1.0, longest=None), step=1)
    had, has = (one.inputs["student"]["attention_mask"].sum(1) for one in (before, short))
    assert (has <= had).all()
    assert (has == had).sum() > len(TEXTS) / 2  # the others came to an end
    assert torch.equal(short.labels[:5, :3], batch.labels[:5, :3])  # how long it may be does not change what is drawn
    assert batch.inputs["teacher"] is batch.inputs["student"]
    assert batch.masks["words"].sum() == (batch.labels >= 0).sum()
    assert torch.equal(batch.masks["tokens"].sum(1), lengths.float())


def test_stored_targets_and_a_live_teacher_are_mixed(tokenizer: Any, tmp_path: Path) -> None:
    encoder, teacher = encoder_of(tokenizer), CausalLM(decoder("gpt2", len(tokenizer), seed=1))
    feed = feed_of(encoder, {"text": TEXTS})
    dials: dict[str, Any] = {"k": 4, "n": 8, "temperature": 1.5, "seed": 0}
    store = Store(tmp_path / "store", identity={"teacher": "t", **sample_identity(encoder, **dials)})
    store.write(feed.examples.keys, token_scorer(teacher, encoder, feed.examples, **dials), dtype="given")
    stored, rollouts = StoredTokens(store), Rollouts(encoder, 0.5, longest=5, seed=2)
    mixed = Mixed(stored, Live(teacher), encoder)
    plain = feed.batch(np.arange(4))
    for name, value in stored.targets(plain).signals.items():
        assert torch.equal(mixed.targets(plain).signals[name], value)
    batch = written(student_of(tokenizer), feed, Rollouts(encoder, 1.0, longest=5), step=2)
    with pytest.raises(UsageError, match=r"knows nothing of its tokens"):
        stored.targets(batch)
    said = mixed.targets(batch).of("teacher")
    inputs = batch.inputs["teacher"]
    with torch.no_grad():
        log_p = torch.log_softmax(teacher(**inputs).logits[..., : encoder.size] / 1.5, dim=-1)
    there = batch.labels >= 0
    torch.testing.assert_close(said["sample.head_log_p"][there], log_p.topk(4).values[there], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        said["sample.tail_log_p"][there], log_p.gather(-1, said["sample.tail"])[there], atol=1e-4, rtol=1e-4
    )
    alone = mixed.targets(written(student_of(tokenizer), feed, Rollouts(encoder, 1.0, longest=5), [3], step=2))
    count = int(there[3].sum())
    assert torch.equal(alone["teacher.sample.tail"][0, :count], said["sample.tail"][3, :count])
    objective = [sampled_tokens(0.5), hard_tokens(0.5)]
    one, other = student_of(tokenizer), student_of(tokenizer)
    trained(one, feed, objective=objective, teacher=mixed, prepare=rollouts)
    assert (
        trained(other, feed, objective=objective, teacher=mixed, prepare=rollouts, folder=tmp_path / "c", stop=2)
        is None
    )
    trained(other, feed, objective=objective, teacher=mixed, prepare=rollouts, folder=tmp_path / "c")
    assert same(one, other)


def test_what_cannot_be_is_one_line(tokenizer: Any) -> None:
    encoder = encoder_of(tokenizer)
    for wrong, says in (({"share": 1.5}, "0 to 1"), ({"temperature": 0.0}, "above 0"), ({"longest": 0}, "at least 1")):
        with pytest.raises(UsageError, match=says):
            Rollouts(**{"encoder": encoder, "share": 0.5, **wrong})

    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(300, 300)

        def forward(self, input_ids: Any, attention_mask: Any, places: Any) -> Any:
            return self.table(input_ids.gather(1, places))

    model = Distillation({"student": Student(Own())}, [hard_tokens()])
    with pytest.raises(UsageError, match=r"a transformers decoder .* got Own"):
        Rollouts(encoder, 1.0)(feed_of(encoder, {"text": TEXTS}).batch(np.arange(2)), model)
