"""Terms as the loop uses them: weights, counts, names, connectors, refusals, schedules, the listing."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from understudy import objectives as match
from understudy.errors import UsageError
from understudy.objectives import Needs, Term, schedules
from understudy.records import Batch, Outputs, Targets


def batch(rows: int = 4, *, labels=None, **masks) -> Batch:
    masks = {"examples": torch.ones(rows), "labelled": torch.ones(rows), **masks}
    labels = torch.arange(rows) % 3 if labels is None else labels
    return Batch(tuple(map(str, range(rows))), {}, labels, masks)


def logits(rows: int = 4, labels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, labels, generator=torch.Generator().manual_seed(seed))


def said(tensor: torch.Tensor) -> Outputs:
    return Outputs({"logits": tensor})


def test_the_shorthand_is_the_formula_of_the_command_line():
    student, teacher, rows = logits(), logits(seed=1), batch()
    hard = nn.functional.cross_entropy(student, rows.labels)
    soft = nn.functional.kl_div((student / 4).log_softmax(-1), (teacher / 4).softmax(-1), reduction="batchmean")
    for alpha in (0.0, 0.1, 0.3, 1.0):
        terms = match.shorthand(alpha, 4.0)
        assert len(terms) == (1 if alpha in (0.0, 1.0) else 2)
        loss = sum(
            term.weight_at(0) * term.total(said(student), Targets({"logits": teacher}), rows) / term.count(rows)
            for term in terms
        )
        torch.testing.assert_close(loss, alpha * hard + (1 - alpha) * 16 * soft)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, "auto"])
def test_alpha_is_a_share(alpha):
    with pytest.raises(UsageError, match="alpha"):
        match.shorthand(alpha, 1.0)


def test_unlabelled_rows_take_part_in_the_soft_term_only():
    student, teacher = logits().requires_grad_(True), logits(seed=1)
    rows = batch(labels=torch.tensor([0, -1, 2, -1]), labelled=torch.tensor([1.0, 0.0, 2.5, 0.0]))
    soft, hard = match.shorthand(0.5, 2.0)
    assert float(hard.count(rows)) == 3.5
    assert float(soft.count(rows)) == 4.0
    by_hand = nn.functional.cross_entropy(student, rows.labels.clamp(min=0), reduction="none")
    total = hard.total(said(student), Targets({}), rows)
    torch.testing.assert_close(total, by_hand[0] + 2.5 * by_hand[2])
    gradient = torch.autograd.grad(total, student)[0]
    assert (gradient[[1, 3]] == 0).all()
    gradient = torch.autograd.grad(soft.total(said(student), Targets({"logits": teacher}), rows), student)[0]
    assert (gradient.abs().sum(-1) > 0).all()


def test_a_source_that_knows_some_labels_teaches_those():
    student, teacher = logits().requires_grad_(True), logits(seed=1)
    support = {"teacher.fr": torch.tensor([True, False, True])}
    targets = Targets({"teacher.fr.logits": teacher}, support).of("teacher.fr")
    for term, plain in (
        (match.soft_labels(against="teacher.fr"), match.forward_kl),
        (match.logit_mse(), match.squared_error),
    ):
        total = term.total(said(student), targets, batch())
        torch.testing.assert_close(total, plain(student[:, [0, 2]], teacher[:, [0, 2]]).sum())
        assert (torch.autograd.grad(total, student)[0][:, 1] == 0).all()


def test_a_peer_teaches_without_support():
    term = match.soft_labels(of="peer.0", against="peer.1")
    assert float(term.total(said(logits()), said(logits()), batch())) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: match.soft_labels(weight=-1.0), 'term "soft_labels": wanted a weight of at least 0, got -1.0'),
        (lambda: match.hard_labels(math.nan), "weight"),
        (lambda: match.logit_mse(math.inf), "weight"),
        (lambda: match.logit_mse("1e-4"), "got '1e-4'"),
        (lambda: match.logit_mse(lambda step: -1.0).weight_at(3), "weight of at least 0"),
        (lambda: match.soft_labels(divergence="forward"), 'did you mean "forward_kl"'),
        (lambda: match.soft_labels(divergence="cross_entropy"), "wanted a divergence"),
        (lambda: match.soft_labels(divergence="math"), "wanted a divergence"),
        (lambda: match.hard_labels(smoothing=-0.1), "smoothing"),
        (lambda: match.hidden_states({}), "wanted pairs"),
        (lambda: match.hidden_states(["a", "b"]), "wanted pairs"),
        (lambda: match.logit_mse(name="exit.0"), "without dots"),
        (lambda: match.logit_mse(per="token").count(batch()), 'counts mask "token": .*known: examples, labelled'),
        (lambda: match.logit_mse().total(said(logits()), Outputs({"logit": logits()}), batch()), '"logits"'),
        (
            lambda: match.logit_mse().total(said(logits(4, 77)), said(logits(4, 151)), batch()),
            "student 77 .* teacher 151",
        ),
        (
            lambda: match.hard_labels().total(
                said(logits()), said(logits()), Batch((), {}, None, {"labelled": torch.ones(4)})
            ),
            "batch with labels",
        ),
        (
            lambda: Term("mean", lambda o, t, b: o["logits"].mean()).total(said(logits()), said(logits()), batch()),
            r'term "mean": .*"examples" \[4\], got \[\]',
        ),
    ],
)
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(UsageError, match=says):
        call()


def test_names_say_what_is_unusual_and_can_name_a_module():
    names = {
        match.soft_labels().name: "soft_labels",
        match.soft_labels(of="exit.0", against="self").name: "soft_labels/exit-0/self",
        match.hard_labels(of="exit.0").name: "hard_labels/exit-0",
        match.hidden_states({"a": "b"}, against="teacher.fr").name: "hidden_states/teacher-fr",
        match.logit_mse(name="mine").name: "mine",
    }
    assert all(got == wanted for got, wanted in names.items())
    nn.ModuleDict({name: nn.Identity() for name in names})


def test_formulas_say_what_is_computed():
    assert match.soft_labels(2.0, divergence="uld").formula.startswith("temperature * uld(")
    term = match.soft_labels(divergence=partial(match.jensen_shannon, beta=0.1))
    assert term.formula.startswith("temperature^2 * jensen_shannon(student.logits, teacher.logits)")
    assert "smoothing = 0.1" in match.hard_labels(smoothing=0.1).formula


class TestHiddenStates:
    def signals(self, width_of_student: int, width_of_teacher: int) -> tuple[Outputs, Targets, Batch]:
        generator = torch.Generator().manual_seed(0)
        student = torch.randn(2, 5, width_of_student, generator=generator)
        teacher = torch.randn(2, 5, width_of_teacher, generator=generator)
        tokens = torch.tensor([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
        return Outputs({"module:a.b": student}), Targets({"module:c.d": teacher}), batch(2, tokens=tokens)

    term = match.hidden_states({"a.b": "c.d"})

    def test_equal_widths_need_no_connector(self):
        student, teacher, rows = self.signals(6, 6)
        assert not list(self.term.connector(student, teacher).parameters())
        by_hand = nn.functional.mse_loss(student["module:a.b"], teacher["module:c.d"], reduction="none").mean(-1)
        torch.testing.assert_close(self.term.total(student, teacher, rows), by_hand[0, :3].sum() + by_hand[1].sum())
        assert float(self.term.count(rows)) == 8

    def test_a_connector_is_built_from_shapes_and_learns(self):
        student, teacher, rows = self.signals(4, 6)
        connector = self.term.connector(student, teacher)
        assert [tuple(p.shape) for p in connector.parameters()] == [(6, 4), (6,)]
        optimiser = torch.optim.SGD(connector.parameters(), lr=0.5)
        losses = []
        for _ in range(20):
            optimiser.zero_grad()
            loss = self.term.total(student, teacher, rows, connector) / self.term.count(rows)
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.8 * losses[0]

    def test_more_pairs_are_their_mean(self):
        student, teacher, rows = self.signals(6, 6)
        both = Outputs({**student.signals, "module:e": student["module:a.b"] + 1})
        term = match.hidden_states({"a.b": "c.d", "e": "c.d"})
        one, other = self.term, match.hidden_states({"e": "c.d"})
        wanted = (one.total(both, teacher, rows) + other.total(both, teacher, rows)) / 2
        torch.testing.assert_close(term.total(both, teacher, rows), wanted)

    def test_positions_that_differ_are_refused(self):
        student, teacher, rows = self.signals(6, 6)
        shorter = Targets({"module:c.d": teacher["module:c.d"][:, :4]})
        with pytest.raises(UsageError, match=r"module:a.b and teacher module:c.d .*\[2, 5, 6\] and \[2, 4, 6\]"):
            self.term.total(student, shorter, rows)

    def test_widths_that_differ_are_refused_without_a_connector(self):
        with pytest.raises(UsageError, match="connector"):
            self.term.total(*self.signals(4, 6))


class TestWhatIsMasked:
    """A term's author does not think about masks: here is one whose value is NaN for zeros, and infinite for ones."""

    careless = Term("careless", lambda o, t, b: (o["x"] / o["x"].norm(dim=-1, keepdim=True) / (o["x"] - 1)).sum(-1))

    def test_a_careless_value_is_safe_where_it_does_not_count(self):
        x = torch.tensor([[math.nan, 0.0], [0.0, 0.0], [3.0, 4.0], [1.0, 1.0]], requires_grad=True)
        rows = batch(4, examples=torch.tensor([0.0, 0.0, 1.0, 0.0]))
        total = self.careless.total(Outputs({"x": x}), Outputs({}), rows)
        assert float(total.detach()) == pytest.approx(0.6 / 2 + 0.8 / 3)
        gradient = torch.autograd.grad(total, x)[0]
        alone = x.detach()[2:3].requires_grad_(True)
        counted = self.careless.total(Outputs({"x": alone}), Outputs({}), batch(1))
        torch.testing.assert_close(gradient[2:3], torch.autograd.grad(counted, alone)[0])
        assert (gradient[[0, 1, 3]] == 0).all()

    def test_only_rows_and_positions_have_a_stand_in(self):
        read = {}

        def value(outputs, targets, batch):
            read.update(outputs.signals)
            return torch.zeros_like(batch.masks["tokens"])

        tokens = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
        signals = {
            "positions": torch.arange(45.0).view(3, 3, 5),
            "logits": torch.arange(9.0).view(3, 3),  # as many labels as positions
            "attention": torch.arange(81.0).view(3, 3, 3, 3),  # as many heads as positions
            "head": nn.Parameter(torch.ones(3, 5)),  # as many labels as rows
            "other": torch.ones(7, 5),
            "ids": torch.arange(3) + 7,
            "module": nn.Identity(),
        }
        term = Term("reader", value, per="tokens")
        term.total(Outputs(signals), Outputs({}), batch(3, tokens=tokens))
        wanted = signals["positions"].clone()
        wanted[tokens == 0] = wanted[0, 0].clone()
        assert torch.equal(read["positions"], wanted)
        for name in ("logits", "attention", "ids"):
            assert torch.equal(read[name], signals[name][[0, 1, 0]])
        assert read["ids"].dtype == torch.int64
        for name in ("head", "other", "module"):
            assert read[name] is signals[name]

    def test_a_missing_signal_is_still_one_clear_error(self):
        rows = batch(4, examples=torch.tensor([1.0, 0.0, 1.0, 1.0]))
        with pytest.raises(UsageError, match=r'no signal "logits" here: .*known: hidden'):
            match.logit_mse().total(Outputs({"hidden": logits()}), said(logits()), rows)


def test_schedules_multiply_the_configured_weight():
    for schedule, wanted in (
        (schedules.linear(0.5, steps=10), [(0, 0.0), (5, 0.25), (10, 0.5), (99, 0.5)]),
        (schedules.linear(2.0, steps=10, start=1.0, end=0.0), [(0, 2.0), (5, 1.0), (10, 0.0), (99, 0.0)]),
        (schedules.cosine(2.0, steps=10), [(0, 2.0), (5, 1.0), (10, 0.0), (99, 0.0)]),
        (schedules.step(2.0, every=3, factor=0.1), [(0, 2.0), (2, 2.0), (3, 0.2), (6, 0.02)]),
        (schedules.off_after(0.7, steps=3), [(0, 0.7), (2, 0.7), (3, 0.0)]),
        (schedules.off_after(schedules.linear(2.0, steps=4), steps=3), [(0, 0.0), (2, 1.0), (3, 0.0)]),
    ):
        term = match.logit_mse(schedule)
        for step, weight in wanted:
            assert term.weight_at(step) == pytest.approx(weight)
    assert schedules.__all__ == sorted(schedules.__all__)
    for call in (
        lambda: schedules.linear(1.0, steps=0),
        lambda: schedules.cosine(1.0, steps=-1),
        lambda: schedules.step(1.0, every=0),
        lambda: schedules.off_after(1.0, steps=1.5),
    ):
        with pytest.raises(UsageError, match="integer of at least 1"):
            call()


def test_schedules_print_and_compare_as_what_they_do():
    assert repr(schedules.off_after(0.5, steps=100)) == "0.5 * off_after(100)"
    assert schedules.linear(0.5, steps=10) == schedules.linear(0.5, steps=10)
    assert schedules.linear(0.5, steps=10) != schedules.linear(0.5, steps=11)
    nested = schedules.off_after(schedules.linear(0.5, steps=10), steps=5)
    assert repr(nested) == "0.5 * linear(0 to 1 in 10 steps) * off_after(5)"


def test_the_listing_has_a_row_for_everything():
    rows = match.describe()
    terms = {row["name"] for row in rows if row["kind"] == "term"}
    functions = {row["name"] for row in rows if row["kind"] == "divergence"}
    assert terms | functions == set(match.__all__) - {
        *("Needs", "Term", "describe", "layer_map", "schedules", "shorthand", "standardise"),
    }
    assert len(rows) == len(terms) + len(functions)
    without = {"contrastive", "cross_entropy", "hard_labels", "hard_multi_label", "hard_tokens", "review"}
    without |= {"two_readings", "variational_information", "virtual_teacher"}
    for row in rows:
        assert list(row) == ["kind", "name", "says", "formula", "per", "needs", "source", "at_equality", "coupled"]
        assert row["formula"]
        assert row["says"].endswith((".", ";", ":", ","))
        assert row["at_equality"].startswith("none" if row["name"] in without else "0"), row
    assert next(row for row in rows if row["name"] == "hard_labels")["needs"] == {"learner": ["logits"], "source": []}


def test_a_term_is_frozen_and_says_needs():
    term = match.soft_labels()
    with pytest.raises(AttributeError):
        term.weight = 2.0
    assert term.needs == Needs(frozenset({"logits"}), frozenset({"logits"}))
    assert match.hidden_states({"a": "b", "c": "d"}).needs.source == {"module:b", "module:d"}
