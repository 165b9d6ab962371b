"""Correlations and z-scores against NumPy in fp64, closed forms and others' code."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from tests.objectives.answers import LABELS, ROWS, batch, close, draw, loss, row, slope, some_labels
from torch import Tensor, nn

from understudy import objectives as match
from understudy.errors import UsageError
from understudy.objectives import Needs, Term
from understudy.records import Outputs, Targets

INF = math.inf


class TestCorrelation:
    def test_is_one_less_the_correlation_of_numpy(self):
        student, teacher = draw()
        wanted = [1 - np.corrcoef(s, t)[0, 1] for s, t in zip(student.numpy(), teacher.numpy(), strict=True)]
        close(match.correlation_distance(student, teacher), wanted)
        close(
            match.correlation_distance(row(1, 2, 3), row(10, 20, 0)), [1.5]
        )  # covariance -10, deviations 2 and 20 / 2

    def test_scale_and_offset_are_free_and_signs_are_not(self):
        student, teacher = draw()
        close(match.correlation_distance(student, 3.0 * student - 7.0), np.zeros(ROWS))
        close(match.correlation_distance(student, -student), np.full(ROWS, 2.0))
        assert slope(lambda s: match.correlation_distance(s, 3.0 * student - 7.0), student).abs().max() < 1e-12
        assert slope(lambda s: match.correlation_distance(s, teacher), student).abs().max() > 0.01

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_what_does_not_vary_is_far_from_what_does(self, dtype):
        flat, zero, other = row(0.1, 0.1, 0.1, dtype=dtype), row(0, 0, 0, dtype=dtype), row(0.2, 0.3, 0.5, dtype=dtype)
        for x, y, wanted in ((flat, other, 1), (other, flat, 1), (zero, other, 1), (flat, zero, 0), (flat, flat, 0)):
            assert match.correlation_distance(x, y).tolist() == [wanted]
            assert (slope(lambda s, y=y: match.correlation_distance(s, y), x) == 0).all()

    def test_small_numbers_keep_their_shape(self):
        """Squares of 1e-30 are 0 in fp32; with an epsilon in the norms this was 1, even at equality."""
        small = row(1e-30, 2e-30, 4e-30, dtype=torch.float32)
        assert float(match.correlation_distance(small, small)) == 0
        like = row(1, 2, 4, dtype=torch.float32)
        assert float(match.correlation_distance(small, like)) == pytest.approx(0, abs=1e-6)

    def test_never_negative_near_convergence(self):
        student, teacher = draw(200, 50)
        near = (student + 1e-5 * teacher).float()
        distance = match.correlation_distance(near, student.float())
        assert distance.min() > 0
        torch.testing.assert_close(
            distance.double(), match.correlation_distance(near.double(), student), rtol=0.02, atol=1e-13
        )


def dist_by_hand(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> tuple[float, float]:
    """Inter and intra of the paper: means of 1 - correlation over rows, and over labels."""
    q, p = (softmax(logits.numpy() / temperature, axis=-1) for logits in (student, teacher))
    inter = [1 - np.corrcoef(q[i], p[i])[0, 1] for i in range(len(q))]
    intra = [1 - np.corrcoef(q[:, k], p[:, k])[0, 1] for k in range(q.shape[1])]
    return float(np.mean(inter)), float(np.mean(intra))


class TestDist:
    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_is_the_papers_mean_of_both_parts(self, temperature):
        student, teacher = draw()
        inter, intra = dist_by_hand(student, teacher, temperature)
        for weights in ((1.0, 1.0), (2.0, 0.5), (1.0, 0.0), (0.0, 1.0)):
            term = match.dist(temperature, inter=weights[0], intra=weights[1])
            wanted = temperature**2 * (weights[0] * inter + weights[1] * intra)
            close(loss(term, student, teacher), wanted)

    def test_rows_that_do_not_count_take_no_part(self):
        student, teacher = draw()
        counted = torch.tensor([1.0, 0.0, 1.0] * 4, dtype=torch.float64)
        some = counted != 0
        rows = batch(some_labels(), examples=counted)
        close(loss(match.dist(), student, teacher, rows), sum(dist_by_hand(student[some], teacher[some])))
        value = match.dist().value(Outputs({"logits": student}), Targets({"logits": teacher}), rows)
        assert (value[~some] == 0).all()

    def test_positions_of_sequences_are_rows(self):
        student, teacher = draw()
        tokens = torch.tensor([[1.0, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.float64)
        rows = batch(None, tokens=tokens)
        flat = tokens.flatten() != 0
        got = loss(match.dist(per="tokens"), student.view(4, 3, -1), teacher.view(4, 3, -1), rows)
        close(got, sum(dist_by_hand(student[flat], teacher[flat])))

    def test_one_row_says_nothing_about_rows(self):
        student, teacher = draw(1)
        assert float(loss(match.dist(inter=0.0), student, teacher)) == 0
        close(loss(match.dist(), student, teacher), loss(match.dist(intra=0.0), student, teacher))
        lonely = batch(torch.zeros(2), examples=torch.tensor([0.0, 1.0], dtype=torch.float64))
        gradient = slope(lambda s: loss(match.dist(inter=0.0), s, draw(2)[1], lonely), draw(2)[0])
        assert (gradient == 0).all()

    def test_two_labels_have_rows_to_compare_and_nothing_else(self):
        student, teacher = draw(labels=2)
        with pytest.raises(UsageError, match=r"at least 3 labels, got 2: .* use soft_labels \(or inter=0\)"):
            loss(match.dist(), student, teacher)
        close(loss(match.dist(inter=0.0), student, teacher), dist_by_hand(student, teacher)[1])

    def test_a_label_that_nobody_has_is_in_no_mean(self):
        student, teacher = draw()
        nothing = torch.full((ROWS, 2), -INF, dtype=torch.float64)
        wider = torch.cat([student, nothing], -1), torch.cat([teacher, nothing], -1)
        close(loss(match.dist(), *wider), sum(dist_by_hand(student, teacher)))

    def test_certain_teachers_and_students_without_an_opinion(self):
        certain = 1e4 * nn.functional.one_hot(some_labels(), LABELS).float()
        for student in (torch.zeros(ROWS, LABELS), certain, -certain):
            assert loss(match.dist(), student, certain).isfinite()
            assert slope(lambda s: loss(match.dist(), s, certain), student).isfinite().all()
        assert float(loss(match.dist(), certain, certain)) == 0
        # No row and no label of the student varies: nothing correlates.
        assert float(loss(match.dist(), torch.zeros(ROWS, LABELS), certain)) == 2

    def test_against_torchdistill(self):
        theirs = pytest.importorskip("torchdistill.losses.mid_level", reason="the oracle's package is not installed")
        student, teacher = draw(scale=1.0)
        oracle = theirs.DISTLoss("s", "output", "t", "output", beta=0.7, gamma=1.3, tau=3.0)
        wanted = oracle({"s": {"output": student}}, {"t": {"output": teacher}})
        close(loss(match.dist(3.0, inter=0.7, intra=1.3), student, teacher), wanted, 1e-9)


class TestStandardisation:
    def test_is_the_z_score_of_numpy(self):
        logits, _ = draw()
        wanted = (logits.numpy() - logits.numpy().mean(-1, keepdims=True)) / logits.numpy().std(-1, keepdims=True)
        close(match.standardise(logits), wanted)
        close(
            match.standardise(torch.cat([logits, torch.full((ROWS, 1), -INF, dtype=torch.float64)], -1))[:, :-1], wanted
        )

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
    def test_one_label_above_all_is_the_bound_of_the_paper(self, dtype):
        """Size at most sqrt(K - 1) (section 4.3), whatever the scale of the logits."""
        for height in (1e-3, 1.0, 1e4):
            z = match.standardise(row(height, 0, 0, 0, 0, dtype=dtype))
            assert z.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            close(z, [[2.0, -0.5, -0.5, -0.5, -0.5]], 1e-6)

    def test_logits_that_do_not_vary_are_zero_with_gradient_zero(self):
        for level in (0.0, 0.1, -3e4):
            logits = torch.full((2, 7), level)
            assert (match.standardise(logits) == 0).all()
            assert (slope(lambda x: match.standardise(x).square(), logits) == 0).all()

    def test_labels_outside_the_support_are_gone(self):
        logits, _ = draw()
        support = torch.tensor([True, False, True, True, False, True])
        z = match.standardise(logits, support=support)
        close(z[:, support], match.standardise(logits[:, support]))
        assert (z[:, ~support] == -INF).all()

    def test_the_wrapped_term_sees_z_scores_and_then_its_temperature(self):
        student, teacher = draw()
        zs, zt = (
            torch.from_numpy((x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True))
            for x in (student.numpy(), teacher.numpy())
        )
        got = loss(match.logit_standardisation(match.soft_labels(3.0)), student, teacher)
        q, p = (softmax(z.numpy() / 3, axis=-1) for z in (zs, zt))
        close(got, 9 * rel_entr(p, q).sum() / ROWS)
        close(
            loss(match.logit_standardisation(match.decoupled_kd()), student, teacher),
            loss(match.decoupled_kd(), zs, zt),
        )

    def test_only_the_shape_of_the_logits_matters(self):
        """The student of the paper's toy case that is right but quieter than its teacher: loss 0 (section 4.3.1)."""
        _, teacher = draw()
        quiet = 0.1 * teacher + 5.0
        term = match.logit_standardisation(match.soft_labels())
        close(loss(term, quiet, teacher), 0.0)
        assert slope(lambda s: loss(term, s, teacher), quiet).abs().max() < 1e-12
        assert float(loss(match.soft_labels(), quiet, teacher)) > 0.5

    def test_keeps_everything_else_of_the_term(self):
        inner = match.dist(2.0, 0.3, of="exit.0", against="self", per="tokens")
        outer = match.logit_standardisation(inner)
        same = {"weight", "per", "needs", "of", "against", "coupled", "connector"}
        assert all(getattr(outer, field) == getattr(inner, field) for field in same)
        assert outer.name == "logit_standardisation/exit-0/self"
        assert outer.formula == f"{inner.formula}, logits as z-scores over labels"
        assert match.logit_standardisation(inner, name="mine").name == "mine"

    def test_other_signals_and_the_connector_pass_through(self):
        def value(outputs, targets, batch, *, connector):
            assert "features" in outputs
            return connector(outputs["features"]).squeeze(-1) + outputs["logits"][:, 0] - targets["logits"][:, 0]

        needs = Needs(frozenset({"logits", "features"}), frozenset({"logits"}))
        inner = Term("mine", value, needs=needs, connector=lambda outputs, targets: nn.Linear(2, 1))
        student, teacher = draw(3)
        rows = batch(torch.zeros(3), examples=torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))
        connector = nn.Linear(2, 1).double()
        features = torch.ones(3, 2, dtype=torch.float64)
        said = Outputs({"logits": student, "features": features})
        got = match.logit_standardisation(inner).total(said, Targets({"logits": teacher}), rows, connector)
        z = match.standardise(student)[:, 0] - match.standardise(teacher)[:, 0]
        close(got.detach(), (2 * connector(features)[0, 0] + z[0] + z[2]).detach())

    def test_what_reads_no_logits_on_both_sides_is_refused(self):
        with pytest.raises(UsageError, match=r'got "hard_labels", which reads nothing of the source: wrap soft_labels'):
            match.logit_standardisation(match.hard_labels())
        hidden = replace(match.logit_mse(name="mine"), needs=Needs(frozenset({"hidden.1"}), frozenset({"logits"})))
        with pytest.raises(UsageError, match=r'got "mine", which reads hidden.1 of the learner'):
            match.logit_standardisation(hidden)
        with pytest.raises(UsageError, match=r"at least 3 labels, got 2: the z-scores .* always 1 and -1"):
            loss(match.logit_standardisation(match.soft_labels()), *draw(labels=2))

    def test_against_torchdistill(self):
        """Theirs divides by the deviation over K - 1: the paper's, over K, at a temperature that much smaller."""
        theirs = pytest.importorskip("torchdistill.losses.mid_level", reason="the oracle's package is not installed")
        student, teacher = draw()
        temperature = 2.0 * math.sqrt((LABELS - 1) / LABELS)
        oracle = theirs.LogitStdKDLoss("s", "output", "t", "output", temperature, eps=0.0, alpha=0.0)
        wanted = 4 * oracle({"s": {"output": student}}, {"t": {"output": teacher}})
        close(loss(match.logit_standardisation(match.soft_labels(2.0)), student, teacher), wanted)
