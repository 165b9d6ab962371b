"""The loop against a step written out by hand, and what it promises about weights, schedules, students and teachers."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.training import contract
from tests.training.small import CLASSES, WIDTH, Numbers, Small, after, examples, feed, objective, same, score, trained
from understudy.data.feed import Feed
from understudy.data.sampling import epoch_batches
from understudy.errors import DataError, UsageError
from understudy.objectives import Needs, Term, hard_labels, hidden_states, schedules, soft_labels
from understudy.records import Batch, Outputs, Targets
from understudy.students import Student
from understudy.teachers import Live
from understudy.training import Distillation, Settings, Step, Training, probe, train
from understudy.training.optimiser import clip

LOGITS = frozenset({"logits"})


def run(student: Any, data: Feed | None = None, terms: Any = None, **more: Any) -> Training:
    dials = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, **more.pop("settings", {})}
    how: dict[str, Any] = {"objective": terms or objective(), "teacher": Live(Small(seed=9)), "device": "cpu", **more}
    return train(student, feed() if data is None else data, settings=Settings(**dials), **how)


# -- one step --------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_loop_is_the_plain_loop_written_out(accumulation: int) -> None:
    """0.7 * 4 KL over all rows + 0.3 CE over the labelled ones, class weights in both the sum and what divides it."""
    weights = np.array([1.0, 2.0, 0.5])
    data = Feed(examples(), {"student": Numbers(), "teacher": Numbers()}, class_weights=weights)
    settings = Settings(epochs=3, batch_size=4, accumulation=accumulation, learning_rate=3e-2, warmup=0.3, clip=0.5)
    student, teacher = Small(), Small(seed=9)
    plain = copy.deepcopy(student)
    losses: list[float] = []
    train(
        student, data, objective=objective(), teacher=Live(teacher), settings=settings, device="cpu",
        watch=lambda step: losses.append(step.loss),
    )  # fmt: skip

    x, known_labels = torch.from_numpy(data.features["student"]), torch.from_numpy(data.examples.labels.copy())
    groups = [[p for p in plain.parameters() if p.ndim == n] for n in (2, 1)]
    optimiser = torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": 0.01}, {"params": groups[1], "weight_decay": 0.0}], lr=1.0
    )
    wanted, sums = [], []
    for step in range(12):
        epoch, place = divmod(step, 4)
        rows = torch.from_numpy(epoch_batches(data.lengths, 4, seed=0, epoch=epoch)[place])
        logits, labels = plain(x[rows]), known_labels[rows]
        said = torch.softmax(teacher(x[rows]).detach() / 2, -1)
        soft = 4 * (said * (said.log() - torch.log_softmax(logits / 2, -1))).sum(-1).mean()
        known = labels >= 0
        row = torch.from_numpy(weights).float()[labels[known]]
        hard = (row * F.cross_entropy(logits[known], labels[known], reduction="none")).sum() / row.sum()
        loss = 0.7 * soft + (0.3 * hard if known.any() else 0.0)
        sums = [*sums, float(loss.detach())] if place else [float(loss.detach())]
        wanted.append(sum(sums) / len(sums))
        for group in optimiser.param_groups:
            group["lr"] = 3e-2 * ((step + 1) / 4 if step < 4 else (12 - step) / 8)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimiser.step()
    torch.testing.assert_close(losses, wanted, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(student.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_schedule_multiplies_the_weight() -> None:
    """One step an epoch, so that the loss and the terms of an epoch are those of one step."""
    seen: list[Step] = []
    terms = [soft_labels(2.0, schedules.linear(0.5, steps=4)), hard_labels(0.3)]
    done = run(Small(), terms=terms, settings={"epochs": 4, "batch_size": 14}, watch=seen.append)
    assert len(seen) == len(done.history) == 4
    for i, (step, epoch) in enumerate(zip(seen, done.history, strict=True)):
        wanted = 0.5 * i / 4 * step.terms["soft_labels"] + 0.3 * step.terms["hard_labels"]
        assert step.loss == pytest.approx(wanted, rel=1e-5)
        assert epoch["loss"] == step.loss


def test_a_batch_without_any_label_is_0_divided_by_0() -> None:
    data = Feed(examples(unlabelled=1.0), {"student": Numbers(), "teacher": Numbers()})
    assert (data.examples.labels < 0).all()
    student, before = Small(), Small()
    done = run(student, data, [hard_labels()], teacher=None, settings={"weight_decay": 0.0})
    assert [epoch["terms"] for epoch in done.history] == [{"hard_labels": 0.0}] * 2
    assert same(student, before)
    both = run(Small(), data)
    alone = run(Small(), data, objective()[:1])
    assert same(both.student, alone.student)  # the soft term teaches all rows, and nothing else does
    assert not same(both.student, before)


def test_rows_without_a_label_weigh_one_in_soft_terms() -> None:
    """Taking the labels away changes nothing for a term that does not read them."""
    with_labels, without = feed(unlabelled=0.0), feed(unlabelled=0.9)
    assert int((without.examples.labels < 0).sum()) > 7
    soft = objective()[:1]
    assert same(run(Small(), with_labels, soft).student, run(Small(), without, soft).student)
    hard = objective()[1:]
    assert not same(run(Small(), with_labels, hard).student, run(Small(), without, hard).student)


def test_prepare_may_change_every_batch_that_a_term_sees() -> None:
    """A mask that only ``prepare`` makes, and inputs and labels of its own."""

    def swap(batch: Batch, model: nn.Module) -> Batch:
        assert isinstance(model, Distillation)
        return replace(batch, labels=2 - batch.labels, masks={**batch.masks, "mine": torch.ones(len(batch))})

    def mirrored(outputs: Outputs, targets: Targets, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs["logits"], batch.labels, reduction="none")

    term = Term("mirrored", mirrored, per="mine", needs=Needs(LOGITS), against="labels")
    data = feed(30, unlabelled=0.0)
    done = run(Small(), data, [term], prepare=swap, teacher=None, settings={"epochs": 30})
    with torch.no_grad():
        said = done.student(torch.from_numpy(data.features["student"])).argmax(1).numpy()
    assert (said == 2 - data.examples.labels).mean() > 0.9


def test_padding_changes_nothing() -> None:
    """Tokens where the mask is 0 may be anything."""

    class Dirty(contract.Tokens):
        def collate(self, features: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
            said = super().collate(features, rows)
            return {**said, "input_ids": np.where(said["attention_mask"] == 1, said["input_ids"], 17)}

    def weights(encoder: contract.Tokens) -> nn.Module:
        torch.manual_seed(0)
        terms = [term for term in contract.objective() if "peer" not in f"{term.of} {term.against}"]
        data = Feed(contract.examples(), {"student": encoder})
        padding = sum(int((data.batch(rows).masks["tokens"] == 0).sum()) for rows in np.arange(30).reshape(5, 6))
        assert padding > 20
        net = contract.Net("student")
        run(net, data, terms, teacher=contract.Teacher(), settings={"bucketed": False})
        return net

    assert same(weights(contract.Tokens()), weights(Dirty()))


# -- precision -------------------------------------------------------------------------------------


def test_bf16_runs_and_divergences_are_fp32() -> None:
    seen: list[tuple[torch.dtype, torch.dtype]] = []

    def look(outputs: Outputs, targets: Targets, batch: Batch) -> Tensor:
        value = soft_labels(2.0).value(outputs, targets, batch)
        seen.append((outputs["logits"].dtype, value.dtype))
        return value

    term = Term("soft", look, needs=Needs(LOGITS, LOGITS))
    low = run(Small(), terms=[term], settings={"precision": "bf16"})
    assert set(seen[1:]) == {(torch.bfloat16, torch.float32)}  # the first is the one that settles
    assert {p.dtype for p in low.student.parameters()} == {torch.float32}
    high = run(Small(), terms=[term])
    assert high.history[-1]["loss"] == pytest.approx(low.history[-1]["loss"], rel=0.02)
    assert high.history[-1]["loss"] != low.history[-1]["loss"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_probe_leaves_no_trace(wrapped: bool) -> None:
    student = Small(dropout=0.3, norm=True).eval()
    before = copy.deepcopy(student.state_dict())
    torch.manual_seed(3)
    state = torch.get_rng_state()
    chosen, sentence = probe(Student(student) if wrapped else student, feed(), batch_size=4, device="cpu")
    assert chosen in ("fp32", "bf16")
    assert chosen in sentence
    assert torch.equal(torch.get_rng_state(), state)
    assert not student.training
    assert all(p.grad is None for p in student.parameters())
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


# -- teachers and modes ----------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_a_teacher_is_bit_identical_afterwards(training: bool, tmp_path: Path) -> None:
    teacher = Small(dropout=0.5, norm=True, seed=9).train(training)
    teacher.drop.train(not training)
    before = copy.deepcopy(teacher)
    run(Small(), teacher=Live(teacher), folder=tmp_path)
    assert same(teacher, before)
    assert [m.training for m in teacher.modules()] == [m.training for m in before.modules()]
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    saved = load_file(next(tmp_path.iterdir()) / "model.safetensors")
    assert len(saved) == len(Small().state_dict())


def test_the_student_is_in_train_mode_but_for_its_validation() -> None:
    modes: list[tuple[bool, bool]] = []

    class Watched(Small):
        def forward(self, x: Tensor) -> Tensor:
            modes.append((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    data = feed()
    student = Watched().eval()
    done = run(student, data, validate=score(data))
    assert done.student is student
    assert not student.training
    settled = modes.index((True, True))
    assert all(not mode for mode, _ in modes[:settled])
    assert modes[settled:] == [*[(True, True)] * 4, (False, False), *[(True, True)] * 4, (False, False)]


def test_a_student_is_not_its_own_teacher() -> None:
    student = Small()
    with pytest.raises(UsageError, match=r"shares weights with its teacher.*copy"):
        run(student, teacher=Live(student))
    run(copy.deepcopy(student), teacher=Live(student))


# -- what learns -----------------------------------------------------------------------------------


class Two(nn.Module):
    """Two heads on one body; ``logits`` come from the first."""

    provides = ("second",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.first, self.second = nn.Linear(WIDTH, 8), nn.Linear(8, CLASSES), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Mapping[str, Tensor]:
        states = torch.tanh(self.body(x))
        return {"logits": self.first(states), "second": self.second(states)}


def second(outputs: Outputs, targets: Targets, batch: Batch) -> Tensor:
    return F.cross_entropy(outputs["second"], batch.labels.clamp(min=0), reduction="none")


def on_second(weight: Any = 1.0) -> Term:
    return Term("second", second, weight, per="labelled", needs=Needs(frozenset({"second"})), against="labels")


@pytest.mark.parametrize("terms", [[hard_labels()], [hard_labels(), on_second(0.0)]], ids=["no term", "weight 0"])
def test_what_no_term_reaches_is_frozen_and_said(terms: list[Term]) -> None:
    student, before = Two(), Two()
    done = run(student, terms=terms, settings={"weight_decay": 10.0})
    assert done.notes == ("frozen, as no term reaches them: student.second.weight, student.second.bias",)
    assert same(student.second, before.second)  # a decay of 10 would have moved it
    assert not same(student.first, before.first)
    assert all(p.requires_grad for p in student.parameters())  # the next training may reach it:
    run(student, terms=[on_second()])
    assert not same(student.second, before.second)


def test_a_weight_that_is_zero_for_a_while_freezes_nothing() -> None:
    done = run(Two(), terms=[hard_labels(), on_second(schedules.linear(1.0, steps=8))])
    assert done.notes == ()
    assert not same(done.student.get_submodule("second"), Two().second)


def test_what_the_user_froze_stays_frozen() -> None:
    student, before = Small(), Small()
    student.body.requires_grad_(False)
    run(student)
    assert same(student.body, before.body)
    assert [p.requires_grad for p in student.parameters()] == [False, False, True, True]
    with pytest.raises(UsageError, match="nothing would learn"):
        run(Small().requires_grad_(False))


# -- connectors ------------------------------------------------------------------------------------


class Bridge(nn.Module):
    """Counts what it is told, beside its projection."""

    made: ClassVar[list[Bridge]] = []

    def __init__(self, outputs: Outputs, targets: Targets) -> None:
        super().__init__()
        self.map = nn.Linear(outputs["logits"].shape[-1], targets["logits"].shape[-1])
        self.start = copy.deepcopy(self.map)
        self.start.requires_grad_(False)
        self.pending, self.commits, self.forgotten = 0, [], 0
        Bridge.made.append(self)

    def forget(self) -> None:
        self.pending, self.forgotten = 0, self.forgotten + 1

    def commit(self, gather: Any) -> None:
        self.commits.append(self.pending)
        self.pending = 0


def bridged(outputs: Outputs, targets: Targets, batch: Batch, *, connector: Bridge) -> Tensor:
    connector.pending += len(batch)
    return (connector.map(outputs["logits"]) - targets["logits"]).square().mean(-1)


def bridge(**more: Any) -> Term:
    return Term("bridge", bridged, needs=Needs(LOGITS, LOGITS), connector=Bridge, **more)


def test_connectors_are_trained_saved_and_told_once_a_step(tmp_path: Path) -> None:
    run(Small(), terms=[hard_labels(), bridge()], folder=tmp_path, settings={"accumulation": 2})
    made = Bridge.made[-1]
    assert not same(made.map, made.start)
    assert made.commits == [4, 4, 4, 2] * 2
    assert made.forgotten == 1  # what it saw while the shapes were being looked at
    saved = load_file(next(tmp_path.iterdir()) / "model.safetensors")
    assert torch.equal(saved["connectors.bridge.map.weight"], made.map.weight)
    optimiser = load_file(next(tmp_path.iterdir()) / "optimiser.safetensors")
    assert sum(name.endswith("exp_avg") for name in optimiser) == len(list(Small().parameters())) + 2


def test_parameters_come_in_an_order_that_never_changes() -> None:
    data = feed()
    batch = data.batch(np.arange(2))
    cohort = {"student": Small(), "peer.1": Small(seed=1)}
    terms = [
        bridge(of="peer.1"),
        hard_labels(),
        hidden_states({"body": "body"}, per="examples"),
        hard_labels(of="peer.1"),
    ]
    model = Distillation(cohort, terms)
    live = Live(Small(seed=9, width=6))
    model.bind(live)
    model.settle(batch, live.targets(batch))
    layers = ("body.weight", "body.bias", "head.weight", "head.bias")
    wanted = [f"students.{i}.module.{name}" for i in (0, 1) for name in layers]
    wanted += [f"connectors.bridge.{name}" for name in ("map.weight", "map.bias", "start.weight", "start.bias")]
    wanted += ["connectors.hidden_states.0.weight", "connectors.hidden_states.0.bias"]
    assert [name for name, _ in model.named_parameters()] == wanted


def test_clipping_is_per_student_and_takes_its_connectors_along() -> None:
    cohort = {"student": Small(), "peer.1": Small(seed=1)}
    model = Distillation(cohort, [bridge(of="peer.1"), hard_labels(), hard_labels(of="peer.1")])
    model.connectors["bridge"] = nn.Linear(2, 2)
    student, peer, connector = model.students[0], model.students[1], model.connectors["bridge"]

    def fill() -> None:
        for value, part in ((10.0, student), (0.001, peer), (0.002, connector)):
            for parameter in part.parameters():
                parameter.grad = torch.full_like(parameter, value)

    def norm(*parts: nn.Module) -> float:
        return math.sqrt(sum(float(p.grad.square().sum()) for part in parts for p in part.parameters()))

    fill()
    untouched = norm(peer, connector)
    clip(model, 1.0, step=0)
    assert norm(student) == pytest.approx(1.0, rel=1e-4)
    assert norm(peer, connector) == pytest.approx(untouched)
    clip(model, untouched / 2, step=0)
    assert norm(peer, connector) == pytest.approx(untouched / 2, rel=1e-3)
    fill()
    clip(model, None, step=0)
    assert norm(peer, connector) == pytest.approx(untouched)


# -- students --------------------------------------------------------------------------------------


def test_a_plain_module_is_a_student() -> None:
    data, plain, wrapped, seen = feed(), Small(), Student(Small()), []

    def validate(module: nn.Module) -> float:
        seen.append(module)
        return 0.0

    first = run(plain, data, validate=validate)
    second = run(wrapped, data, validate=validate)
    assert first.student is plain
    assert second.student is wrapped
    assert seen == [plain, plain, wrapped, wrapped]  # as it was given, not as it is trained
    assert same(plain, wrapped.module)


def test_a_cohort_of_plain_modules_and_students() -> None:
    cohort = {"student": Small(), "peer.1": Small(seed=1), "peer.2": Student(Small(seed=2))}  # its name is "student"
    before = copy.deepcopy(cohort)
    terms = [hard_labels(), hard_labels(of="peer.1"), soft_labels(of="peer.2", against="peer.1")]
    data = feed()
    done = run(cohort, data, terms, teacher=None, validate=score_of(data))
    assert done.students == cohort
    assert set(done.best) == set(cohort)
    assert done.history[-1]["validation"] == done.history[-1]["scores"]["student"]
    assert all(not same(before[name], cohort[name]) for name in cohort)
    assert cohort["peer.2"].needs == {"logits"}
    assert cohort["peer.2"].name == "student"
    # a peer learns from another without pulling at it
    alone = run(copy.deepcopy(before["peer.1"]), data, [hard_labels()], teacher=None)
    assert same(alone.student, run(before, data, terms, teacher=None).students["peer.1"])


def test_what_teaches_inside_a_cohort_is_not_pulled_at() -> None:
    """By a term that detaches nothing itself: a peer, and the deeper head that teaches an exit."""

    def raw(outputs: Outputs, targets: Targets, batch: Batch) -> Tensor:
        return (outputs["logits"] - targets["logits"]).square().mean(-1)

    needs = Needs(LOGITS, LOGITS)
    cohort = {"student": contract.Net("student"), "peer.1": contract.Net("peer.1")}
    terms = [Term("peer", raw, needs=needs, of="peer.1", against="student")]
    terms.append(Term("exit", raw, needs=needs, of="exit.0", against="self"))
    model = Distillation(cohort, terms)
    batch = Feed(contract.examples(), {"student": contract.Tokens()}).batch(np.arange(6))
    for name, learns in (("peer", cohort["peer.1"].last), ("exit", cohort["student"].exit)):
        model.zero_grad()
        model(batch, Targets({}))[name].backward()
        assert float(learns.weight.grad.abs().sum()) > 0
        assert cohort["student"].last.weight.grad is None
        assert cohort["student"].second.weight.grad is None


def score_of(data: Feed) -> Any:
    validate = score(data)
    return lambda module: validate(module.module if isinstance(module, Student) else module)


def test_objectives_and_students_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="at least one term"):
        train(Small(), feed(), objective=[], device="cpu")
    with pytest.raises(UsageError, match="name of its own"):
        run(Small(), terms=[hard_labels(), hard_labels()])
    with pytest.raises(UsageError, match="not loss or agreement"):
        run(Small(), terms=[hard_labels(name="agreement")])
    with pytest.raises(UsageError, match=r'called "student".*got peer'):
        run({"peer": Small()})
    with pytest.raises(UsageError, match='"soft_labels" learns from "teacher", and there is no teacher'):
        run(Small(), teacher=None)
    with pytest.raises(UsageError, match=r'"hard_labels/peer-1".*nothing here is called "peer.1".*known: student'):
        run(Small(), terms=[hard_labels(of="peer.1")])
    with pytest.raises(DataError, match="at least one row"):
        run(Small(), Feed(examples(1).take([]), {"student": Empty()}))


class Empty(Numbers):
    def encode(self, inputs: Mapping[str, Any]) -> np.ndarray:
        return np.zeros((0, WIDTH), np.float32)


# -- stopping and choosing -------------------------------------------------------------------------


def test_the_weights_of_the_best_epoch_come_back() -> None:
    scores, kept = iter([0.1, 0.5, 0.5, 0.3]), []

    def validate(module: nn.Module) -> float:
        kept.append(copy.deepcopy(module))
        return next(scores)

    done = run(Small(norm=True), validate=validate, settings={"epochs": 4})
    assert done.best == {"student": 0.5}
    assert same(done.student, kept[1])  # the first of equals
    assert not same(done.student, kept[2])
    assert [epoch["validation"] for epoch in done.history] == [0.1, 0.5, 0.5, 0.3]
    last = run(Small(norm=True), settings={"epochs": 4})
    assert last.best == {}
    assert same(last.student, kept[3])  # without a validation, the last ones


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (3, 7), (None, 7)])
def test_patience_is_epochs_without_anything_better(patience: int | None, epochs: int) -> None:
    scores = iter([0.1, 0.2, 0.2, 0.1, 0.3, 0.1, 0.1])
    done = run(Small(), validate=lambda module: next(scores), settings={"epochs": 7, "patience": patience})
    assert len(done.history) == epochs
    assert done.steps == 4 * epochs


@pytest.mark.parametrize("most", [1, 4, 6, 99])
def test_max_steps_ends_in_the_middle_of_an_epoch(most: int) -> None:
    data, seen = feed(), []
    done = run(Small(), data, settings={"max_steps": most}, validate=score(data), watch=seen.append)
    assert done.steps == min(most, 8) == len(seen)
    assert [epoch["step"] for epoch in done.history] == sorted({min(4, most), min(most, 8)})
    assert done.history[-1]["epoch"] == min(most, 8) / 4


def test_what_is_watched() -> None:
    data, seen = feed(), []
    done = run(Small(), data, validate=score(data), watch=seen.append)
    assert [step.step for step in seen] == list(range(1, 9))
    assert [step.epoch for step in seen] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert [step.validation is None for step in seen] == [True, True, True, False] * 2
    assert seen[3].validation == done.history[0]["validation"]
    assert all(step.agreement is not None and 0 <= step.agreement <= 1 for step in seen)
    assert all(set(step.terms) == {"soft_labels", "hard_labels"} for step in seen)
    assert seen[-1].remaining == 0
    assert all(step.remaining > 0 for step in seen[:-1])


def test_an_interrupted_training_leaves_the_student_free() -> None:
    student = Two()
    assert trained(student, objective=[hard_labels()], validate=None, stop=2) is None
    assert all(p.requires_grad for p in student.parameters())
    assert after(2)() is False


# -- the page's own example ------------------------------------------------------------------------


def test_the_second_level_as_the_plan_writes_it(tiny_tokenizer: Any, tiny_texts: Any) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    from understudy import objectives as match
    from understudy import students, teachers, training
    from understudy.data import Examples
    from understudy.encoding import SubwordEncoder

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tiny_tokenizer), hidden_size=16, num_hidden_layers=6, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=64, num_labels=4,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    texts, labels = tiny_texts(24)
    encoder = SubwordEncoder(tiny_tokenizer.backend_tokenizer, limit=32, token_types=True)
    data = Feed(Examples.of({"text": texts}, labels), {"student": encoder, "teacher": encoder})

    teacher = teachers.Live(model)
    student = students.cut(model, layers=[0, 2, 4])
    before = copy.deepcopy(student)
    done = training.train(student, data, teacher=teacher, objective=[
        match.soft_labels(temperature=4.0, weight=0.7),
        match.hard_labels(weight=0.3),
        match.hidden_states({"encoder.layer.1": "encoder.layer.3"}, weight=1.0),
    ])  # fmt: skip

    assert done.student is student
    assert done.steps == 3
    assert set(done.history[0]["terms"]) == {"soft_labels", "hard_labels", "hidden_states"}
    assert all(value > 0 for value in done.history[0]["terms"].values())
    assert done.history[-1]["terms"]["hidden_states"] < done.history[0]["terms"]["hidden_states"]
    assert not same(student, before)
    assert done.notes == ()  # everything learns


def test_a_student_of_a_cohort_stops_on_its_own_and_goes_on_teaching() -> None:
    at = {"student": iter([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), "peer.1": iter([0.5, 0.4, 0.3, 0.2])}
    peer, kept = Small(norm=True, seed=1), []
    cohort = {"student": Small(norm=True), "peer.1": peer}
    names = {id(module): name for name, module in cohort.items()}

    def validate(module: nn.Module) -> float:
        if module is peer:
            kept.append({key: value.clone() for key, value in peer.state_dict().items()})
        return next(at[names[id(module)]])

    terms = [
        hard_labels(),
        hard_labels(of="peer.1"),
        soft_labels(against="peer.1"),
        soft_labels(of="peer.1", against="student"),
    ]
    weights = []
    done = trained(
        cohort,
        objective=terms,
        validate=validate,
        settings={"epochs": 6, "patience": 2},
        watch=lambda step: weights.append({key: value.clone() for key, value in peer.state_dict().items()}),
    )
    assert done.best == {"student": 0.6, "peer.1": 0.5}
    assert [set(epoch["scores"]) for epoch in done.history] == [{"student", "peer.1"}] * 3 + [{"student"}] * 3
    assert all(torch.equal(peer.state_dict()[key], value) for key, value in kept[0].items())  # its own best epoch
    after, last = weights[len(weights) // 2], weights[-1]
    assert all(torch.equal(after[key], last[key]) for key in after)  # weights and batch statistics stood still
    assert "peer.1 stopped learning after 3 epochs, the others went on" in done.notes


def test_each_student_may_have_a_score_of_its_own() -> None:
    cohort = {"student": Small(), "peer.1": Small(seed=1)}
    terms = [hard_labels(), hard_labels(of="peer.1")]
    scores = {"student": lambda module: 1.0, "peer.1": lambda module: 2.0}
    done = trained(cohort, objective=terms, validate=scores, settings={"epochs": 2})
    assert done.best == {"student": 1.0, "peer.1": 2.0}
