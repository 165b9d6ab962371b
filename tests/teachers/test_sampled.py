"""Stored heads and tails of a language model: the same bytes again, the right gradient in the mean, few bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.decoders import decoder, tokenizer_of
from tests.test_causal import TEXTS, encoder_of, feed_of

from understudy.data import Examples
from understudy.data.corpus import own
from understudy.data.feed import Feed
from understudy.errors import StoreError, UsageError
from understudy.objectives import hard_tokens, sampled_tokens, soft_tokens
from understudy.students import CausalLM, Student
from understudy.targets import Store
from understudy.targets.packing import EIGHT_BITS_ERROR, bytes_per_position
from understudy.teachers import Live, Sampling, StoredTokens, sample_identity, token_scorer, verify_tokens
from understudy.teachers.sampled import tolerance
from understudy.training import Settings, train

DIALS: dict[str, Any] = {"k": 3, "n": 4, "temperature": 2.0, "seed": 0}


@pytest.fixture(scope="module")
def encoder() -> Any:
    return encoder_of(tokenizer_of(TEXTS))


@pytest.fixture(scope="module")
def teacher(encoder: Any) -> CausalLM:
    """Its head has rows behind the tokenizer's entries, as sizes that are rounded up do."""
    return CausalLM(decoder("gpt2", encoder.size + 6, seed=1))


def rows_of(texts: list[str]) -> Examples:
    return Examples.of({"text": texts}, own(len(texts)))


def stored(teacher: CausalLM, encoder: Any, folder: Path, texts: list[str] = TEXTS, **more: Any) -> Store:
    dials = {**DIALS, **more}
    store = Store(folder, identity={"teacher": "t", **sample_identity(encoder, **dials)})
    rows = rows_of(texts)
    store.write(rows.keys, token_scorer(teacher, encoder, rows, **dials), shard_rows=5, dtype="given")
    return store


def gradient(term: Any, student: Any, source: Any, batch: Any) -> tuple[float, torch.Tensor]:
    source.bind(term.needs.source)
    model = Student(CausalLM(student))
    model.bind(term.needs.learner)
    student.zero_grad()
    total = term.total(model(batch.inputs["student"]).of("student"), source.targets(batch).of("teacher"), batch)
    total.backward()
    return total.item(), torch.cat([p.grad.flatten() for p in student.parameters()])


def test_the_same_teacher_asked_again_gives_the_same_bytes(teacher: CausalLM, encoder: Any, tmp_path: Path) -> None:
    """Whatever the order was, and whether or not somebody stopped in between."""
    whole = stored(teacher, encoder, tmp_path / "a")
    stored(teacher, encoder, tmp_path / "b", TEXTS[:5])
    again = stored(teacher, encoder, tmp_path / "b")
    assert sorted(p.name for p in whole.folder.iterdir()) == sorted(p.name for p in again.folder.iterdir())
    keys = rows_of(TEXTS).keys
    other = stored(teacher, encoder, tmp_path / "c", TEXTS[::-1])
    for name, signal in whole.read(keys).items():
        mine, theirs = signal.values, other.read(keys)[name].values
        assert np.array_equal(signal.offsets, other.read(keys)[name].offsets)
        assert (mine == theirs).mean() > 0.99  # rows stood beside others: the last bits of a product may differ
    drawn_otherwise = stored(teacher, encoder, tmp_path / "d", seed=1).read(keys)
    assert not np.array_equal(drawn_otherwise["sample.ids"].values, whole.read(keys)["sample.ids"].values)


def test_a_token_takes_the_bytes_that_were_promised(teacher: CausalLM, encoder: Any, tmp_path: Path) -> None:
    found = stored(teacher, encoder, tmp_path / "a").read(rows_of(TEXTS).keys)
    tokens = sum(len(encoder.masked(encoder.encode({"text": [text]}), [0])[1][0]) for text in TEXTS)
    assert len(found["sample.log_mass"].values) == tokens
    size = sum(signal.values.nbytes for signal in found.values())
    assert size == tokens * bytes_per_position(encoder.size, k=3, n=4)
    assert found["sample.log_p"].values.dtype == np.float16
    assert found["sample.log_mass"].values.dtype == np.float32


def test_eight_bits_take_half_the_bytes_and_say_their_error(teacher: CausalLM, encoder: Any, tmp_path: Path) -> None:
    whole = stored(teacher, encoder, tmp_path / "a")
    small = stored(teacher, encoder, tmp_path / "b", log_p_bits=8)
    assert {name for name in small.identity if small.identity[name] != whole.identity.get(name)} == {"log_p_bits"}
    keys = rows_of(TEXTS).keys
    found = small.read(keys)
    tokens = len(found["sample.log_mass"].values)
    size = sum(signal.values.nbytes for signal in found.values())
    assert size == tokens * bytes_per_position(encoder.size, k=3, n=4, eight_bits=True)
    batch = feed_of(encoder, {"text": TEXTS}).batch(np.arange(len(TEXTS)))
    fine, coarse = (StoredTokens(one).targets(batch).of("teacher") for one in (whole, small))
    for name in ("sample.head", "sample.tail", "sample.log_mass"):
        assert torch.equal(fine[name], coarse[name])  # the same draw
    for name in ("sample.head_log_p", "sample.tail_log_p"):
        assert 0 < float((fine[name] - coarse[name]).abs().max()) < EIGHT_BITS_ERROR + 0.01
    said = verify_tokens(small, teacher, encoder, rows_of(TEXTS), 6)
    assert said["max_error"] < EIGHT_BITS_ERROR < tolerance(small.identity)
    values = [gradient(sampled_tokens(), decoder("gpt2", encoder.size), StoredTokens(s), batch) for s in (whole, small)]
    assert values[1][0] == pytest.approx(values[0][0], rel=0.02)
    assert (values[1][1] - values[0][1]).norm() < 0.05 * values[0][1].norm()
    with pytest.raises(UsageError, match="in 16 bits or in 8, got 4"):
        stored(teacher, encoder, tmp_path / "c", log_p_bits=4)


def test_the_mean_over_draws_is_the_gradient_of_the_whole(teacher: CausalLM, encoder: Any, tmp_path: Path) -> None:
    """Of a store that was drawn often enough, as near as the number of draws allows; a single one is far off."""
    batch = feed_of(encoder, {"text": TEXTS[:3]}).batch(np.arange(3))
    student = decoder("gpt2", encoder.size, layers=2)
    live = Live(CausalLM(_without_padding(teacher, encoder.size)))
    wanted, slope = gradient(soft_tokens(2.0), student, live, batch)
    values, slopes = [], []
    for seed in range(60):
        store = stored(teacher, encoder, tmp_path / str(seed), TEXTS[:3], seed=seed)
        value, one = gradient(sampled_tokens(), student, StoredTokens(store), batch)
        values.append(value)
        slopes.append(one)
    error = [float((one - slope).norm() / slope.norm()) for one in (slopes[0], torch.stack(slopes).mean(0))]
    assert error[1] < 0.3 * error[0]
    assert np.mean(values) == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jensen_shannon", "total_variation"])
def test_nothing_is_learnt_at_equality(divergence: str, teacher: CausalLM, encoder: Any, tmp_path: Path) -> None:
    batch = feed_of(encoder, {"text": TEXTS}).batch(np.arange(len(TEXTS)))
    source = StoredTokens(stored(teacher, encoder, tmp_path / "a"))
    same = _without_padding(teacher, encoder.size)
    at_equality, slope = gradient(sampled_tokens(divergence=divergence), same, source, batch)
    other, steep = gradient(sampled_tokens(divergence=divergence), decoder("gpt2", encoder.size), source, batch)
    limit = 0.02 if divergence == "total_variation" else 1e-4  # half precision; total variation has a kink there
    assert 0 <= at_equality < limit * other
    if divergence != "total_variation":
        assert slope.norm() < 0.02 * steep.norm()


def test_a_tail_without_mass_is_read_as_one(encoder: Any, tmp_path: Path) -> None:
    class Certain(torch.nn.Module):
        def forward(self, input_ids: Any, attention_mask: Any, places: Any) -> Any:
            said = torch.full((*places.shape, encoder.size), -1e9)
            said[..., 5] = 0.0
            return said

    store = stored(Certain(), encoder, tmp_path / "a", TEXTS[:2])  # type: ignore[arg-type]
    batch = feed_of(encoder, {"text": TEXTS[:2]}).batch(np.arange(2))
    said = StoredTokens(store).targets(batch)
    there = batch.masks["words"] != 0
    assert (said["teacher.sample.log_mass"][there] == -torch.inf).all()
    assert (said["teacher.sample.head"][there][:, 0] == 5).all()
    value, slope = gradient(sampled_tokens(), decoder("gpt2", encoder.size), StoredTokens(store), batch)
    assert np.isfinite(value)
    assert slope.isfinite().all()


def test_a_student_learns_from_the_store_alone(teacher: CausalLM, encoder: Any, tmp_path: Path) -> None:
    source = StoredTokens(stored(teacher, encoder, tmp_path / "a", k=32, n=64, temperature=1.0))
    feed = Feed(rows_of(TEXTS), {"student": encoder})
    student = decoder("gpt2", encoder.size, layers=2)
    before, _ = gradient(soft_tokens(), student, Live(teacher), feed_of(encoder, {"text": TEXTS}).batch(np.arange(12)))
    settings = Settings(epochs=12, batch_size=4, learning_rate=5e-3, seed=1)
    train(Student(CausalLM(student)), feed, objective=[sampled_tokens(), hard_tokens(0.0)], teacher=source,
          settings=settings)  # fmt: skip
    after, _ = gradient(soft_tokens(), student, Live(teacher), feed_of(encoder, {"text": TEXTS}).batch(np.arange(12)))
    assert after < 0.5 * before


def test_what_is_stored_is_asked_again(teacher: CausalLM, encoder: Any, tmp_path: Path) -> None:
    store, rows = stored(teacher, encoder, tmp_path / "a"), rows_of(TEXTS)
    found = verify_tokens(store, teacher, encoder, rows, 6)
    assert found["rows"] == 6
    assert found["max_error"] < 0.01
    assert found["agreement"] > 0.99
    with pytest.raises(StoreError, match="another teacher's targets"):
        verify_tokens(store, CausalLM(decoder("gpt2", encoder.size, seed=5)), encoder, rows)
    with pytest.raises(StoreError, match="nothing to verify"):
        verify_tokens(store, teacher, encoder, rows_of(["something else"]))


def test_a_live_teacher_can_say_what_would_be_stored(teacher: CausalLM, encoder: Any, tmp_path: Path) -> None:
    batch = feed_of(encoder, {"text": TEXTS}).batch(np.arange(len(TEXTS)))
    source = Sampling(Live(teacher), vocabulary=encoder.size, **DIALS)
    said, there = source.targets(batch).of("teacher"), batch.masks["words"] != 0
    kept = StoredTokens(stored(teacher, encoder, tmp_path / "a")).targets(batch).of("teacher")
    torch.testing.assert_close(said["sample.head_log_p"][there], kept["sample.head_log_p"][there], atol=5e-3, rtol=0)
    value, _ = gradient(sampled_tokens(), decoder("gpt2", encoder.size), source, batch)
    assert value > 0
    with pytest.raises(UsageError, match="use sampled_tokens"):
        source.bind({"teacher.head"})


@pytest.mark.parametrize("divergence", ["forward_kl", "jensen_shannon", "reverse_kl"])
def test_rows_that_only_fill_a_head_up_say_nothing(divergence: str, teacher: CausalLM, encoder: Any) -> None:
    """A student that is the teacher has nothing to learn, though both have rows behind the tokenizer's entries."""
    batch = feed_of(encoder, {"text": TEXTS}).batch(np.arange(len(TEXTS)))
    source = Sampling(Live(teacher), vocabulary=encoder.size, **DIALS)
    same = decoder("gpt2", encoder.size + 6, seed=1)
    value, slope = gradient(sampled_tokens(divergence=divergence), same, source, batch)
    assert abs(value) < 1e-4
    assert slope.abs().max() < 1e-5
    other = decoder("gpt2", encoder.size + 6, seed=2)
    assert gradient(sampled_tokens(divergence=divergence), other, source, batch)[1].abs().max() > 1e-2


def test_what_is_not_stored_is_one_line(teacher: CausalLM, encoder: Any, tmp_path: Path) -> None:
    source = StoredTokens(stored(teacher, encoder, tmp_path / "a", TEXTS[:2]))
    with pytest.raises(UsageError, match='do not hold "head": use sampled_tokens'):
        source.bind({"teacher.states", "teacher.head"})
    with pytest.raises(UsageError, match="no samples of tokens"):
        StoredTokens(Store(tmp_path / "b", identity={"teacher": "t"}))
    with pytest.raises(UsageError, match="wanted a divergence"):
        sampled_tokens(divergence="uld")


def _without_padding(teacher: CausalLM, size: int) -> Any:
    """The same model with as many rows as there are tokens."""
    import copy

    whole: Any = copy.deepcopy(teacher.model)
    whole.resize_token_embeddings(size)
    return whole.eval()
