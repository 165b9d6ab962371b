"""Responses against closed forms, NumPy in fp64 and torch: KL in parts, many labels, scores, made-up teachers."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit, rel_entr, softmax
from tests.objectives.answers import LABELS, ROWS, batch, close, draw, loss, row, slope, some_labels
from torch import Tensor, nn

from understudy import objectives as match
from understudy.errors import UsageError
from understudy.objectives import Needs
from understudy.records import Batch, Targets
from understudy.training.distillation import Distillation

INF = math.inf


class TestDecoupled:
    def by_hand(
        self, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The paper's definitions with probabilities and ``1 - p``, which fp64 and small logits can bear."""
        q, p = (softmax(logits.numpy() / temperature, axis=-1) for logits in (student, teacher))
        target, others = [], []
        for i, label in enumerate(labels.tolist()):
            binary = [np.array([x[i, label], 1 - x[i, label]]) for x in (p, q)]
            rest = [np.delete(x[i], label) / (1 - x[i, label]) for x in (p, q)]
            target.append(rel_entr(*binary).sum())
            others.append(rel_entr(*rest).sum())
        return np.array(target), np.array(others)

    def slopes(self, student: Tensor, teacher: Tensor, labels: Tensor) -> list[Tensor]:
        """The gradient of each part."""
        return [slope(lambda s, i=i: match.decoupled_kl(s, teacher, labels)[i], student) for i in (0, 1)]

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    def test_both_parts_are_the_papers(self, temperature):
        student, teacher = draw()
        labels = some_labels()
        got = match.decoupled_kl(student, teacher, labels, temperature=temperature)
        for part, wanted in zip(got, self.by_hand(student, teacher, labels, temperature), strict=True):
            close(part, wanted)

    def test_a_case_in_closed_form(self):
        # The others are (2, 3) against (2, 1): two labels with log-odds -1 and 1, whose KL is tanh(1/2). The label has
        # probability e^2 / (1 + e + e^2) at the teacher and 1 / (1 + e + e^2) at the student.
        target, non_target = match.decoupled_kl(row(1, 2, 3), row(3, 2, 1), torch.tensor([0]))
        close(non_target, [math.tanh(0.5)])
        whole = 1 + math.e + math.e**2
        p, q = math.e**2 / whole, 1 / whole
        close(target, [p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))])

    @pytest.mark.parametrize("temperature", [1.0, 3.0])
    def test_together_they_are_the_kl(self, temperature):
        """KL = target + (1 - p_label) non_target, equation 6 of the paper."""
        student, teacher = draw()
        labels = some_labels()
        target, non_target = match.decoupled_kl(student, teacher, labels, temperature=temperature)
        p = (teacher / temperature).softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
        close(target + (1 - p) * non_target, match.forward_kl(student, teacher, temperature=temperature))

    def test_the_term_weighs_the_parts_and_carries_temperature_squared(self):
        student, teacher = draw()
        rows = batch(some_labels(), labelled=torch.tensor([2.0, 0.0, 1.0] * 4, dtype=torch.float64))
        target, others = self.by_hand(student, teacher, rows.labels, 3.0)
        weights = rows.masks["labelled"].numpy()
        got = loss(match.decoupled_kd(3.0, target=0.5, non_target=6.0), student, teacher, rows)
        close(got, 9 * (weights * (0.5 * target + 6 * others)).sum() / weights.sum())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_certain_teacher_costs_no_precision(self, dtype):
        """log(1 - p) is -inf here, and log-probabilities of the others have four digits left in fp32."""
        teacher = row(1e4, 1.0, 0.0, -1.0, dtype=dtype)
        student = row(-1e4, 0.1, 2.3, 0.7, dtype=dtype)
        label = torch.tensor([0])
        target, non_target = match.decoupled_kl(student, teacher, label)
        close(
            target,
            [1e4 + math.log(math.exp(0.1) + math.exp(2.3) + math.exp(0.7))],
            1e-6 if dtype == torch.float32 else 1e-11,
        )
        others = rel_entr(softmax([1.0, 0.0, -1.0]), softmax([0.1, 2.3, 0.7])).sum()
        close(non_target, [others], 1e-6 if dtype == torch.float32 else 1e-11)
        # A student that is as sure has the same parts to give, to the last digit.
        _, among_others = match.decoupled_kl(student + row(2e4, 0, 0, 0, dtype=dtype), teacher, label)
        assert torch.equal(among_others, non_target)
        for gradient, at_equality in zip(
            self.slopes(student, teacher, label), self.slopes(teacher, teacher, label), strict=True
        ):
            assert gradient.isfinite().all()
            assert gradient.abs().max() > 0.1
            assert at_equality.abs().max() < 1e-7

    def test_labels_that_are_excluded(self):
        label = torch.tensor([0])
        nobody = match.decoupled_kl(row(1, 2, 3, -INF), row(3, 2, 1, -INF), label)
        for part, wanted in zip(nobody, match.decoupled_kl(row(1, 2, 3), row(3, 2, 1), label), strict=True):
            close(part, wanted)
        # The teacher rules the row's label out: KL((0, 1) || (q, 1 - q)) = -log(1 - q).
        target, non_target = match.decoupled_kl(row(0, 0, 0), row(-INF, 1, 1), label)
        close(target, [-math.log(2 / 3)])
        close(non_target, [0.0])
        # Nothing but the label exists: there are no others to differ about.
        alone = match.decoupled_kl(row(3, -INF, -INF), row(1, -INF, -INF), label)
        assert [float(part) for part in alone] == [0.0, 0.0]
        assert float(match.decoupled_kl(row(3, 0, 1), row(1, -INF, -INF), label)[1]) == 0
        for student in (row(0, -INF, 0), row(0, -INF, -INF)):
            assert float(match.decoupled_kl(student, row(0, 0, 0), label)[1]) == INF
        for student, teacher in (((0, 0, 0), (-INF, 1, 1)), ((3, -INF, -INF), (1, -INF, -INF))):
            for gradient in self.slopes(row(*student), row(*teacher), label):
                assert gradient.isfinite().all()

    def test_a_row_without_a_label_has_neither_part(self):
        student, teacher = draw(4)
        labels = torch.tensor([1, -1, 5, -1])
        gradients = self.slopes(student, teacher, labels)
        for value, gradient in zip(match.decoupled_kl(student, teacher, labels), gradients, strict=True):
            assert (value[[1, 3]] == 0).all()
            assert (value[[0, 2]] > 0).all()
            assert (gradient[[1, 3]] == 0).all()

    def test_a_source_that_does_not_know_the_rows_label_teaches_the_others(self):
        student, teacher = draw(1)
        support = torch.tensor([True, False, True, True, False, True])
        target, non_target = match.decoupled_kl(student, teacher, torch.tensor([1]), support=support)
        close(target, [0.0])
        close(non_target, match.forward_kl(student, teacher, support=support))

    def test_two_labels_have_no_other_part(self):
        student, teacher = draw(labels=2)
        labels = some_labels(labels=2)
        target, non_target = match.decoupled_kl(student, teacher, labels)
        assert (non_target == 0).all()
        close(target, match.forward_kl(student, teacher))
        only = match.decoupled_kd(2.0, non_target=0.0)
        close(
            loss(only, student, teacher, batch(labels)), loss(match.soft_labels(2.0), student, teacher, batch(labels))
        )
        with pytest.raises(UsageError, match=r"at least 3 labels, got 2: .* always 0, so use soft_labels"):
            loss(match.decoupled_kd(), student, teacher, batch(labels))
        six = draw()
        with pytest.raises(UsageError, match="at least 3 labels, got 2"):
            loss(match.decoupled_kd(), *six, support=torch.arange(6) < 2)

    @pytest.mark.parametrize(
        "term",
        [match.decoupled_kd(), match.dist(), match.logit_standardisation(match.soft_labels())],
        ids=lambda t: t.name,
    )
    def test_two_labels_are_refused_before_the_first_step(self, term):
        """What would train on nothing is said by ``settle``, which computes every term once."""
        inputs = torch.ones(3, 4)
        rows = Batch(
            ("a", "b", "c"), {"student": {"input": inputs}}, torch.tensor([0, 1, 0]), batch(torch.zeros(3)).masks
        )
        model = Distillation({"student": nn.Linear(4, 2)}, [term])
        model.bind(SimpleNamespace(bind=lambda needs: None))
        with pytest.raises(UsageError, match=rf"{term.name}: wanted at least 3 labels, got 2"):
            model.settle(rows, Targets({"teacher.logits": torch.ones(3, 2)}))


class TestManyLabels:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    def test_is_the_mean_of_binary_divergences(self, temperature):
        student, teacher = draw()
        q, p = (expit(logits.numpy() / temperature) for logits in (student, teacher))
        wanted = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean(-1)
        close(match.binary_kl(student, teacher, temperature=temperature), wanted)
        close(loss(match.multi_label(temperature), student, teacher), temperature**2 * wanted.mean())

    def test_differs_from_the_cross_entropy_of_torch_by_the_teachers_entropy(self):
        student, teacher = draw()
        cost = nn.functional.binary_cross_entropy_with_logits
        wanted = cost(student, teacher.sigmoid()) - cost(teacher, teacher.sigmoid())
        close(loss(match.multi_label(), student, teacher), wanted)

    def test_the_extremes(self):
        # Sure and wrong costs the logit itself; sure and right nothing.
        for dtype in (torch.float32, torch.float64):
            value = match.binary_kl(row(-1e4, 1e4, dtype=dtype), row(1e4, 1e4, dtype=dtype))
            assert value.tolist() == [5e3]
        close(
            match.binary_kl(row(1.0, 2.0, -INF), row(0.0, 2.0, -INF)),
            [0.5 * (0.5 * math.log(0.25 / (expit(1) * expit(-1))))],
        )
        # The teacher alone rules a label out: -log(1 - q); the student alone: infinite.
        close(match.binary_kl(row(0.0), row(-INF)), [math.log(2)])
        assert slope(lambda s: match.binary_kl(s, row(-INF)), row(0.0)).item() == 0.5
        assert match.binary_kl(row(-INF), row(0.0)).tolist() == [INF]

    def test_a_source_that_knows_some_labels(self):
        student, teacher = draw()
        support = torch.arange(LABELS) % 2 == 0
        got = loss(match.multi_label(), student, teacher, support=support)
        close(got, match.binary_kl(student[:, support], teacher[:, support]).mean())

    def test_labels_do_not_compete(self):
        """A softmax would lower the second label for the first; here the first changes nothing but its own cost."""
        student, teacher = draw()
        louder = student.clone()
        louder[:, 0] += 9
        gradient, other = (slope(lambda s: match.binary_kl(s, teacher), x) for x in (student, louder))
        assert torch.equal(gradient[:, 1:], other[:, 1:])
        close(gradient, ((student.sigmoid() - teacher.sigmoid()) / LABELS))


class TestRegression:
    def test_is_the_mean_squared_difference_of_scores(self):
        student, teacher = draw(labels=3)
        wanted = ((student.numpy() - teacher.numpy()) ** 2).mean()
        close(loss(match.regression(), student, teacher), wanted)
        close(loss(match.logit_mse(), student, teacher), wanted)

    @pytest.mark.parametrize("own", [True, False])
    @pytest.mark.parametrize("their", [True, False])
    def test_one_score_has_an_axis_or_none(self, own, their):
        """[N] less [N, 1] would be [N, N], and the loss a variance."""
        student, teacher = draw(labels=1)
        wanted = ((student.numpy() - teacher.numpy()) ** 2).mean()
        rows = batch(torch.zeros(ROWS))
        got = loss(match.regression(), student if own else student[:, 0], teacher if their else teacher[:, 0], rows)
        close(got, wanted)

    def test_scores_that_differ_in_number_are_refused(self):
        with pytest.raises(UsageError, match="student 3 columns, teacher 2"):
            loss(match.regression(), draw(labels=3)[0], draw(labels=2)[1])


class TestVirtualTeacher:
    def by_hand(self, student: Tensor, labels: Tensor, certainty: float, temperature: float) -> np.ndarray:
        v = np.full(student.shape, (1 - certainty) / (student.shape[1] - 1))
        v[range(len(v)), labels.numpy()] = certainty
        v = v ** (1 / temperature)
        v /= v.sum(-1, keepdims=True)
        return rel_entr(v, softmax(student.numpy() / temperature, axis=-1)).sum(-1)

    @pytest.mark.parametrize(("certainty", "temperature"), [(0.9, 20.0), (0.99, 1.0), (0.5, 4.0)])
    def test_is_the_papers_formula(self, certainty, temperature):
        student, _ = draw()
        labels = some_labels()
        term = match.virtual_teacher(certainty=certainty, temperature=temperature)
        wanted = temperature**2 * self.by_hand(student, labels, certainty, temperature).mean()
        close(loss(term, student, student, batch(labels)), wanted)

    def test_figure_3_of_the_paper(self):
        """At temperature 20 and 10 labels the figure shows 0.150 for the label and 0.095 for the others: a = 0.999.

        The gradient for a student without an opinion is temperature * (1/10 - V), which gives V away.
        """
        label = batch(torch.tensor([5]))
        gradient = slope(lambda s: loss(match.virtual_teacher(certainty=0.999), s, s, label), torch.zeros(1, 10))
        made_up = 0.1 - gradient / 20
        wanted = torch.full((1, 10), 0.095)
        wanted[0, 5] = 0.150
        torch.testing.assert_close(made_up, wanted, atol=0.001, rtol=0)

    @pytest.mark.parametrize("temperature", [1.0, 20.0])
    def test_is_still_for_a_student_that_says_just_that(self, temperature):
        labels = some_labels()
        head = nn.functional.one_hot(labels, LABELS).bool()
        said = torch.full((ROWS, LABELS), math.log(0.1 / 5), dtype=torch.float64).masked_fill(head, math.log(0.9)) + 3.0
        term = match.virtual_teacher(temperature=temperature)
        close(loss(term, said, said, batch(labels)), 0.0)
        assert slope(lambda s: loss(term, s, s, batch(labels)), said).abs().max() < 1e-12

    def test_labels_that_do_not_exist_have_no_share(self):
        student, _ = draw()
        labels = some_labels()
        wider = torch.cat([student, torch.full((ROWS, 2), -INF, dtype=torch.float64)], -1)
        term = match.virtual_teacher(temperature=2.0)
        close(loss(term, wider, wider, batch(labels)), 4 * self.by_hand(student, labels, 0.9, 2.0).mean())

    def test_needs_neither_a_teacher_nor_a_label_for_every_row(self):
        term = match.virtual_teacher()
        assert term.needs == Needs(learner=frozenset({"logits"}))
        student, _ = draw(4)
        labels = torch.tensor([2, -1, 0, -1])
        rows = batch(labels, labelled=(labels >= 0).double())
        known = labels >= 0
        close(loss(term, student, student, rows), loss(term, student[known], student[known], batch(labels[known])))
        assert (slope(lambda s: loss(term, s, s, rows), student)[~known] == 0).all()
        # Counted by mistake, a row without a label is not taken for one of label 0.
        close(loss(term, student, student, batch(labels)), loss(term, student, student, rows) / 2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: match.decoupled_kd(0.0), r"wanted temperature in \(0, inf\), got 0.0"),
        (lambda: match.decoupled_kd(non_target=-1.0), r"wanted non_target in \[0, inf\), got -1.0"),
        (lambda: match.decoupled_kd(target=0.0, non_target=0.0), "target or non_target above 0, got 0 for both"),
        (lambda: match.decoupled_kd(weight=-1.0), "weight of at least 0"),
        (lambda: match.dist(-1.0), "temperature"),
        (lambda: match.dist(inter=math.nan), r"wanted inter in \[0, inf\)"),
        (lambda: match.dist(inter=0.0, intra=0), "inter or intra above 0, got 0 for both"),
        (lambda: loss(match.dist(), *(x.view(2, 6, 6) for x in draw())), r'mask "examples" \[2\], got \[2, 6, 6\]'),
        (lambda: match.multi_label("auto"), "temperature"),
        (lambda: match.virtual_teacher(certainty=1.0), r"wanted certainty in \(0, 1\), got 1.0"),
        (lambda: match.virtual_teacher(temperature=0.0), "temperature"),
        (lambda: match.binary_kl(*draw(), temperature=0.0), "temperature"),
        (lambda: match.binary_kl(row(1.0), row(1.0, 2.0)), "student 1 labels, teacher 2"),
        (lambda: match.correlation_distance(row(1.0), row(1.0, 2.0)), "student 1 labels, teacher 2"),
        (lambda: match.decoupled_kl(row(1.0, 2.0), row(1.0), torch.tensor([0])), "student 2 labels, teacher 1"),
        (lambda: match.decoupled_kl(*draw(), some_labels().double()), "one integer label for each position"),
        (lambda: match.decoupled_kl(*draw(), some_labels()[:3]), r"logits \[12, 6\], got torch.int64 \[3\]"),
        (lambda: match.decoupled_kl(*draw(), some_labels() + 3), r"wanted labels in 0 .. 5 \(-1: none\), got"),
        (lambda: match.decoupled_kl(*draw(), some_labels() - 2), r"wanted labels in 0 .. 5 \(-1: none\), got -2"),
        (lambda: loss(match.virtual_teacher(), *draw(), batch(some_labels(labels=9) + 1)), "wanted labels in 0 .. 5"),
        (lambda: loss(match.decoupled_kd(), *draw(1), batch(None, labelled=torch.ones(1))), "decoupled_kd: .* labels"),
        (
            lambda: loss(match.virtual_teacher(), *draw(1), batch(None, labelled=torch.ones(1))),
            "virtual_teacher: .* labels",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(UsageError, match=says):
        call()


def test_names_say_what_is_unusual():
    assert match.decoupled_kd(of="exit.0", against="self").name == "decoupled_kd/exit-0/self"
    assert match.virtual_teacher(of="exit.0").name == "virtual_teacher/exit-0"
    assert match.regression(name="mine").name == "mine"
    assert match.dist().name == "dist"
    assert match.multi_label(against="teacher.fr").name == "multi_label/teacher-fr"


def test_the_listing_says_what_they_are():
    rows = {entry["name"]: entry for entry in match.describe()}
    ours = ("decoupled_kd", "dist", "logit_standardisation", "multi_label", "regression", "virtual_teacher")
    assert {name: rows[name]["per"] for name in ours if rows[name]["per"] != "examples"} == {
        "decoupled_kd": "labelled",
        "virtual_teacher": "labelled",
    }
    assert [name for name in ours if rows[name]["coupled"]] == ["dist"]
    assert all(rows[name]["kind"] == "divergence" for name in ("binary_kl", "correlation_distance", "decoupled_kl"))
    assert rows["virtual_teacher"]["needs"] == {"learner": ["logits"], "source": []}
