"""Live and stored teachers, and scoring many rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from understudy.data import Examples
from understudy.data.feed import Feed
from understudy.encoding import SubwordEncoder
from understudy.errors import StoreError, TeacherError, UsageError
from understudy.records import Batch
from understudy.students import Student
from understudy.targets import Store
from understudy.teachers import Live, Loaded, Stored, open_teacher, score_rows, scorer

Texts = Callable[..., tuple[list[str], list[int]]]


class Noisy(nn.Module):
    """Batch norm and dropout: both drift or change their answers when a teacher is run in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.output = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.inner(x))


def _batch(x: Tensor, name: str = "teacher") -> Batch:
    return Batch(
        keys=tuple(str(i) for i in range(len(x))), inputs={name: {"x": x}}, labels=torch.zeros(len(x)).long(), masks={}
    )


@pytest.fixture
def rows() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def loaded(tiny_bert: Callable[..., Path], tiny_labels: tuple[str, ...]) -> Loaded:
    return open_teacher(tiny_bert(steps=60), task="text-classification", label_names=tiny_labels)


@pytest.mark.parametrize("training", [True, False])
def test_a_live_teacher_is_untouched_by_being_asked(rows: Tensor, training: bool) -> None:
    model = Noisy().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert any("running_mean" in name for name in before)
    teacher = Live(model)
    teacher.bind({"logits", "module:inner.0"})
    first, second = teacher.targets(_batch(rows)), teacher.targets(_batch(rows))
    assert torch.equal(first["teacher.logits"], second["teacher.logits"])  # no dropout
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training is training for module in model.modules())
    assert not first["teacher.logits"].requires_grad
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_rows_do_not_see_each_other(rows: Tensor) -> None:
    teacher = Live(Noisy())
    together = teacher.targets(_batch(rows))["teacher.logits"]
    alone = torch.cat([teacher.targets(_batch(row[None]))["teacher.logits"] for row in rows])
    torch.testing.assert_close(together, alone)


def test_targets_can_take_part_in_a_students_loss(rows: Tensor) -> None:
    student = nn.Linear(4, 3)
    target = Live(Noisy()).targets(_batch(rows))["teacher.logits"]
    (student(rows) * target).sum().backward()
    assert student.weight.grad is not None
    assert student.weight.grad.abs().sum() > 0


def test_order_and_name(rows: Tensor) -> None:
    model = Noisy()
    plain = Live(model).targets(_batch(rows))["teacher.logits"]
    moved = Live(model, name="other", order=(2, 0, 1)).targets(_batch(rows, "other"))
    assert torch.equal(moved["other.logits"], plain[:, [2, 0, 1]])


def test_half_precision_teachers_give_fp32_logits(rows: Tensor) -> None:
    said = Live(Noisy().to(torch.bfloat16)).targets(_batch(rows.to(torch.bfloat16)))
    assert said["teacher.logits"].dtype == torch.float32


def test_modules_are_captured_before_they_are_overwritten_in_place(rows: Tensor) -> None:
    model = Noisy().eval()
    teacher = Live(model)
    teacher.bind(frozenset({"teacher.logits", "teacher.module:inner.1"}))
    said = teacher.targets(_batch(rows))["teacher.module:inner.1"]
    torch.testing.assert_close(said, model.inner[1](model.inner[0](rows)))
    assert (said < 0).any()  # the ReLU behind it works in place
    assert not model.inner[1]._forward_hooks


@pytest.mark.parametrize("need", ["hidden.1", "logit", "module:inner.9", "attention.0"])
def test_what_a_teacher_cannot_give_is_refused_before_the_first_step(need: str) -> None:
    with pytest.raises(UsageError, match=r"logits|inner"):
        Live(Noisy()).bind({need})


def test_hidden_states_of_a_transformer(loaded: Loaded, tiny_texts: Texts) -> None:
    texts, labels = tiny_texts(6)
    feed = Feed(Examples.of({"text": texts}, labels), {"teacher": loaded.encoder})
    batch = feed.batch(np.arange(6))
    teacher = Live(loaded.model)
    kinds = ("hidden", "attention", "query", "key", "value")
    layered = {f"{kind}.{index}" for kind in kinds for index in (1, 2)}
    assert teacher.provides == {"logits", "features", "hidden.0", *layered}
    assert Live(Student(loaded.model)).provides == teacher.provides
    with pytest.raises(UsageError, match=r"hidden\.3"):
        teacher.bind({"hidden.3"})
    teacher.bind({"logits", "hidden.0", "hidden.2", "module:bert.encoder.layer.1"})
    said = teacher.targets(batch).of("teacher")
    assert set(said.signals) == {"logits", "hidden.0", "hidden.2", "module:bert.encoder.layer.1"}
    torch.testing.assert_close(said["hidden.2"], said["module:bert.encoder.layer.1"])
    with torch.no_grad():
        wanted = loaded.model(**batch.inputs["teacher"], output_hidden_states=True)
    torch.testing.assert_close(said["hidden.0"], wanted.hidden_states[0])
    torch.testing.assert_close(said["logits"], wanted.logits)


def test_a_teacher_goes_no_deeper_than_it_is_asked_and_says_the_same(loaded: Loaded, tiny_texts: Texts) -> None:
    texts, labels = tiny_texts(6)
    batch = Feed(Examples.of({"text": texts}, labels), {"teacher": loaded.encoder}).batch(np.arange(6))
    teacher, ran = Live(loaded.model), []
    handles = [
        loaded.model.get_submodule(path).register_forward_hook(lambda *_, path=path: ran.append(path))
        for path in ("bert.encoder.layer.0", "bert.encoder.layer.1", "classifier")
    ]
    try:
        for needs, wanted in (
            ({"teacher.hidden.1", "query.1"}, ["bert.encoder.layer.0"]),
            ({"hidden.1", "module:encoder.layer.1"}, ["bert.encoder.layer.0", "bert.encoder.layer.1"]),
            ({"hidden.1", "logits"}, ["bert.encoder.layer.0", "bert.encoder.layer.1", "classifier"]),
        ):
            ran.clear()
            teacher.bind(needs)
            said = teacher.targets(batch)
            assert ran == wanted
            assert set(said.signals) == {f"teacher.{need.removeprefix('teacher.')}" for need in needs}
            with torch.no_grad():
                whole = loaded.model(**batch.inputs["teacher"], output_hidden_states=True).hidden_states[1]
            assert torch.equal(said["teacher.hidden.1"], whole)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("training", [True, False])
def test_a_teacher_asked_for_its_attention_is_left_as_it_was(loaded: Loaded, tiny_texts: Texts, training: bool) -> None:
    texts, labels = tiny_texts(6)
    batch = Feed(Examples.of({"text": texts}, labels), {"teacher": loaded.encoder}).batch(np.arange(6))
    teacher = Live(loaded.model.train(training))
    try:
        teacher.bind({"attention.2", "logits"})
        said = teacher.targets(batch).of("teacher")
        torch.testing.assert_close(said["attention.2"].sum(-1), torch.ones(said["attention.2"].shape[:3]))
        assert loaded.model.config._attn_implementation == "sdpa"
        assert all(module.training is training for module in loaded.model.modules())
        assert not said["attention.2"].requires_grad
    finally:
        loaded.model.eval()


class Leaving(nn.Module):
    """A model that announces the logits of an exit."""

    provides = frozenset({"exit.0.logits", "exit.0.features"})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": x[:, :3], "exit.0.logits": x[:, 1:].to(torch.bfloat16), "exit.0.features": x}


def test_what_a_model_announces_has_its_columns_in_order_too(rows: Tensor) -> None:
    teacher = Live(Leaving(), order=(2, 0, 1))
    assert teacher.provides == {"logits", "exit.0.logits", "exit.0.features"}
    teacher.bind({"teacher.logits", "teacher.exit.0.logits", "teacher.exit.0.features"})
    said = teacher.targets(_batch(rows))
    assert torch.equal(said["teacher.logits"], rows[:, [2, 0, 1]])
    assert torch.equal(said["teacher.exit.0.logits"], rows[:, [3, 1, 2]].to(torch.bfloat16).float())
    assert torch.equal(said["teacher.exit.0.features"], rows)
    assert said.support == {}


@pytest.mark.parametrize(
    ("order", "columns"),
    [
        (None, [0, None, 1, None, 2]),  # the model has one column for each label that it knows
        ((2, 0, 1), [2, None, 0, None, 1]),
        ((2, 0, 1, 1, 0), [2, 0, 1, 1, 0]),  # columns for all: only some of them count
    ],
)
def test_a_teacher_that_knows_only_some_labels(rows: Tensor, order: Any, columns: list[int | None]) -> None:
    support = [True, False, True, False, True]
    teacher = Live(Noisy(), name="fr", order=order, support=support)
    said = teacher.targets(_batch(rows, "fr"))
    plain = Live(teacher.model).targets(_batch(rows))["teacher.logits"]
    wanted = torch.stack([torch.zeros(len(rows)) if c is None else plain[:, c] for c in columns], 1)
    assert torch.equal(said["fr.logits"], wanted)
    assert said.support["fr"].tolist() == support
    assert said.of("fr").support[""].dtype == torch.bool
    assert teacher.fingerprint != Live(teacher.model, name="fr", order=order).fingerprint


def test_a_support_that_does_not_fit(rows: Tensor) -> None:
    with pytest.raises(UsageError, match="knows none of the 3 labels"):
        Live(Noisy(), support=[False] * 3)
    with pytest.raises(UsageError, match="knows 2 of 4 labels: as many columns are wanted, got 3 from an order"):
        Live(Noisy(), order=(0, 1, 2), support=[True, True, False, False])
    with pytest.raises(UsageError, match=r"knows 2 of 4 labels.*got 3 from Noisy"):
        Live(Noisy(), support=[True, True, False, False]).targets(_batch(rows))


def test_the_divergence_of_a_partial_teacher_is_that_of_its_labels(rows: Tensor) -> None:
    # KL between softmaxes over labels 0 and 2 only, in float64 NumPy
    from understudy.objectives import soft_labels
    from understudy.records import Outputs

    support = [True, False, True]
    model = nn.Linear(4, 2)
    targets = Live(model, support=support).targets(_batch(rows))
    student = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    term = soft_labels(temperature=1.0)
    value = term.value(Outputs({"logits": student}), targets.of("teacher"), _batch(rows))
    x, y = student.double().numpy()[:, [0, 2]], model(rows).detach().double().numpy()
    p, q = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (y, x))
    np.testing.assert_allclose(value.numpy(), (p * np.log(p / q)).sum(1), atol=1e-6)


def test_a_batch_without_the_teachers_encoding(rows: Tensor) -> None:
    with pytest.raises(UsageError, match=r"did you mean|known: student"):
        Live(Noisy()).targets(_batch(rows, "student"))


def test_scores_do_not_depend_on_order_or_batches(loaded: Loaded, tiny_texts: Texts) -> None:
    texts, _ = tiny_texts(90, seed=3)
    straight = score_rows(loaded.model, loaded.encoder, {"text": texts}, batch_size=64)
    assert straight.dtype == np.float32
    assert straight.shape == (90, 4)
    mixed = np.random.default_rng(0).permutation(90)
    other = score_rows(loaded.model, loaded.encoder, {"text": [texts[i] for i in mixed]}, batch_size=7)
    np.testing.assert_allclose(other, straight[mixed], atol=1e-5)
    assert len(np.unique(straight[:, 0].round(3))) > 30  # the rows differ, so that a mix-up would show


def test_scoring_leaves_the_mode_alone(loaded: Loaded, tiny_texts: Texts) -> None:
    loaded.model.train()
    try:
        first, second = (score_rows(loaded.model, loaded.encoder, {"text": tiny_texts(8)[0]}) for _ in range(2))
        assert loaded.model.training
        np.testing.assert_array_equal(first, second)
    finally:
        loaded.model.eval()


def test_a_student_is_scored_like_its_module(loaded: Loaded, tiny_texts: Texts) -> None:
    texts = {"text": tiny_texts(8)[0]}
    np.testing.assert_array_equal(
        score_rows(Student(loaded.model), loaded.encoder, texts), score_rows(loaded.model, loaded.encoder, texts)
    )


def test_no_rows_no_scores(loaded: Loaded) -> None:
    assert score_rows(loaded.model, loaded.encoder, {"text": []}, order=(0, 1, 2, 3)).shape == (0, 4)


def test_logits_that_are_not_finite_name_their_row(loaded: Loaded) -> None:
    class Bad(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
            size = attention_mask.sum(1, keepdim=True).float()
            return {"logits": torch.cat([size, torch.where(size > 4, torch.nan, size)], 1)}

    with pytest.raises(TeacherError, match="1 of 3 rows, first for row 2"):
        score_rows(Bad(), loaded.encoder, {"text": ["card", "card flight rain", "song"]})


def test_something_that_gives_no_logits(loaded: Loaded) -> None:
    class Flat(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return input_ids.sum(1)

    with pytest.raises(TeacherError, match=r"wanted logits \[N, K\]"):
        score_rows(Flat(), loaded.encoder, {"text": ["card"]})


@pytest.fixture
def store(loaded: Loaded, tiny_texts: Texts, tmp_path: Path) -> tuple[Store, Examples]:
    texts, labels = tiny_texts(40)
    examples = Examples.of({"text": texts}, labels)
    store = Store(tmp_path / "targets", identity={"teacher": loaded.fingerprint})
    score = scorer(loaded.model, loaded.encoder, examples.inputs, order=(3, 2, 1, 0))
    assert store.write(examples.keys, score, shard_rows=16) == 40
    return store, examples


def test_stored_targets_are_what_the_live_teacher_says_of_the_same_rows(
    store: tuple[Store, Examples], loaded: Loaded
) -> None:
    kept, examples = store
    feed = Feed(examples, {"teacher": loaded.encoder})
    stored, live = Stored(kept), Live(loaded.model, order=(3, 2, 1, 0))
    for teacher in (stored, live):
        teacher.bind(frozenset({"teacher.logits"}))
    for some in (np.array([5, 0, 33]), np.arange(40)[::-1].copy()):
        batch = feed.batch(some)
        a, b = stored.targets(batch)["teacher.logits"], live.targets(batch)["teacher.logits"]
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_rows_and_signals_that_are_not_stored_are_refused(store: tuple[Store, Examples]) -> None:
    kept, examples = store
    teacher = Stored(kept)
    assert teacher.provides == {"logits"}
    with pytest.raises(UsageError, match=r'"hidden\.1".*known: logits'):
        teacher.bind({"logits", "hidden.1"})
    strangers = Examples.of({"text": ["a stranger"]})
    batch = Batch(keys=(*examples.keys[:2], *strangers.keys), inputs={}, labels=None, masks={})
    with pytest.raises(StoreError, match="1 of 3"):
        teacher.targets(batch)


def test_an_encoder_of_its_own_reads_only_its_columns(loaded: Loaded) -> None:
    assert isinstance(loaded.encoder, SubwordEncoder)
    inputs: dict[str, list[Any]] = {"text": ["card", "rain"], "image": [b"", b""]}
    said = scorer(loaded.model, loaded.encoder, inputs)([1])["logits"]
    np.testing.assert_allclose(said, score_rows(loaded.model, loaded.encoder, {"text": ["rain"]}), atol=1e-6)
