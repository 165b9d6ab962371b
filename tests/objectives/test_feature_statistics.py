"""Variational information, neuron selectivity, probabilistic transfer and review, against NumPy and torchdistill."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from understudy import objectives as match
from understudy.errors import UsageError
from understudy.records import Batch, Outputs, Targets


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(rows: int = 2, **masks: torch.Tensor) -> Batch:
    masks = {"examples": torch.ones(rows), **masks}
    return Batch(tuple(map(str, range(rows))), {}, torch.zeros(rows, dtype=torch.int64), masks)


def said(term: match.Term, *pairs: tuple[torch.Tensor, torch.Tensor]) -> tuple[Outputs, Targets]:
    """The signals of a term of layers a, b, ... against the same."""
    mine, theirs = sorted(term.needs.learner), sorted(term.needs.source)
    outputs = {name: student for name, (student, _) in zip(mine, pairs, strict=True)}
    return Outputs(outputs), Targets({name: teacher for name, (_, teacher) in zip(theirs, pairs, strict=True)})


def values(term: match.Term, *pairs, rows: Batch | None = None, connector: nn.Module | None = None) -> np.ndarray:
    extra = {} if connector is None else {"connector": connector}
    return term.value(*said(term, *pairs), rows or batch(len(pairs[0][0])), **extra).detach().numpy()


@pytest.fixture(scope="module")
def oracle():
    return pytest.importorskip("torchdistill.losses.mid_level", exc_type=ImportError)


class TestVariationalInformation:
    term = match.variational_information({"a": "a"})

    def made(self, *shapes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, nn.Module]:
        student, teacher = draw(*shapes[0]), draw(*shapes[1], seed=1)
        connector = self.term.connector(*said(self.term, (student, teacher)))
        with torch.no_grad():
            connector[0].alpha.copy_(draw(len(connector[0].alpha), seed=2))
        return student, teacher, connector

    def test_is_the_gaussian_log_likelihood_upside_down(self):
        student, teacher, connector = self.made((2, 3, 4, 5), (2, 6, 4, 5))
        weight, bias = (p.detach().numpy() for p in connector[0].mean.parameters())
        mean = np.einsum("oi,nihw->nohw", weight, student.numpy()) + bias[:, None, None]
        variance = (np.log1p(np.exp(connector[0].alpha.detach().numpy())) + 1e-5)[:, None, None]
        wanted = (0.5 * ((mean - teacher.numpy()) ** 2 / variance + np.log(variance))).mean((1, 2, 3))
        got = values(self.term, (student, teacher), connector=connector)
        np.testing.assert_allclose(got, wanted, atol=1e-13)
        normal = torch.distributions.Normal(torch.tensor(mean), torch.tensor(variance).sqrt())
        likelihood = -normal.log_prob(teacher).mean((1, 2, 3)) - 0.5 * math.log(2 * math.pi)
        np.testing.assert_allclose(got, likelihood.numpy(), atol=1e-13)

    def test_agrees_with_torchdistill(self, oracle):
        student, teacher, connector = self.made((2, 3, 4, 5), (2, 6, 4, 5))
        mean, variance = connector[0](student.movedim(1, -1))
        there = {"path": "x", "io": "output"}
        loss = oracle.VIDLoss({"pair": {"student": there, "teacher": there}})
        told = {"x": {"output": (mean.movedim(-1, 1), variance[:, None, None])}}, {"x": {"output": teacher}}
        got = values(self.term, (student, teacher), connector=connector).mean()
        assert got == pytest.approx(float(loss(*told).detach()), abs=1e-13)

    def test_variances_start_at_five_as_in_the_usual_code(self):
        student, teacher = draw(2, 3), draw(2, 6, seed=1)
        connector = self.term.connector(*said(self.term, (student, teacher)))
        np.testing.assert_allclose(connector[0](student)[1].detach().numpy(), np.full(6, 5.0), atol=1e-12)
        assert sorted(name for name, _ in connector.named_parameters()) == ["0.alpha", "0.mean.bias", "0.mean.weight"]

    def test_is_negative_where_the_prediction_is_good(self):
        _, teacher, connector = self.made((2, 3), (2, 3))
        with torch.no_grad():
            connector[0].mean.weight.copy_(torch.eye(3))
            connector[0].mean.bias.zero_()
            connector[0].alpha.fill_(-40.0)
        got = values(self.term, (teacher, teacher), connector=connector)
        np.testing.assert_allclose(got, [0.5 * math.log(1e-5)] * 2, rtol=1e-6)

    def test_per_token_and_never_over_padding(self):
        student, teacher, connector = self.made((2, 4, 3), (2, 4, 6))
        term, rows = match.variational_information({"a": "a"}, per="tokens"), batch(tokens=torch.ones(2, 4))
        by_token = values(term, (student, teacher), rows=rows, connector=connector)
        assert by_token.shape == (2, 4)
        by_row = values(self.term, (student, teacher), connector=connector)  # patches: no mask of tokens
        np.testing.assert_allclose(by_row, by_token.mean(1), atol=1e-14)
        with pytest.raises(UsageError, match='variational_information: wanted per="tokens"'):
            values(self.term, (student, teacher), rows=rows, connector=connector)

    def test_positions_that_differ_are_refused(self):
        student, teacher, connector = self.made((2, 4, 3), (2, 5, 6))
        with pytest.raises(UsageError, match=r"same positions, got shapes \[2, 4, 3\] and \[2, 5, 6\]"):
            values(self.term, (student, teacher), connector=connector)


def discrepancy(student: np.ndarray, teacher: np.ndarray) -> float:
    """MMD^2 of the channels of one example, [C, positions], kernel (x . y)^2, pair by pair."""
    s = [x / np.linalg.norm(x) if x.any() else x for x in student]
    t = [x / np.linalg.norm(x) if x.any() else x for x in teacher]

    def kernel(first: list[np.ndarray], second: list[np.ndarray]) -> float:
        return float(np.mean([np.dot(x, y) ** 2 for x in first for y in second]))

    return kernel(s, s) + kernel(t, t) - 2 * kernel(s, t)


class TestNeuronSelectivity:
    term = match.neuron_selectivity({"a": "a"})

    @pytest.mark.parametrize("shape", [(5, 6), (2, 2)], ids=["by channels", "by positions"])
    def test_is_the_mmd_of_patterns(self, shape):
        student, teacher = draw(3, 4, *shape), draw(3, 7, *shape, seed=1)
        student[0, 1] = 0  # a neuron that is never active
        patterns = zip(student.flatten(2).numpy(), teacher.flatten(2).numpy(), strict=True)
        wanted = [discrepancy(mine, theirs) for mine, theirs in patterns]
        np.testing.assert_allclose(values(self.term, (student, teacher)), wanted, atol=1e-14)

    def test_does_not_mind_which_neuron_it_is_nor_its_size(self):
        teacher = draw(3, 4, 5, 6)
        student = torch.cat([teacher, teacher], dim=1)[:, torch.tensor([5, 0, 3, 7, 2, 1, 6, 4])] * 3
        np.testing.assert_allclose(values(self.term, (student, teacher)), np.zeros(3), atol=1e-14)

    def test_its_two_ends(self):
        here, there = torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4)
        here[..., 0], there[..., 1] = 1, 2
        assert values(self.term, (here, there)) == pytest.approx(2.0)
        assert values(self.term, (here, here)) == 0

    def test_the_larger_map_is_averaged_down(self):
        student, teacher = draw(2, 4, 3, 3), draw(2, 5, 6, 3, seed=1)
        smaller = torch.tensor(teacher.numpy().reshape(2, 5, 3, 2, 3).mean(3))
        got = values(self.term, (student, teacher))
        np.testing.assert_allclose(got, values(self.term, (student, smaller)), atol=1e-14)

    @pytest.mark.parametrize("widths", [(3, 2), (6, 9)], ids=["by channels", "by positions"])
    def test_padding_is_no_position(self, widths):
        student, teacher = draw(2, 5, widths[0]), draw(2, 5, widths[1], seed=1)
        tokens = torch.tensor([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
        rows = batch(tokens=tokens)
        got = values(self.term, (student, teacher), rows=rows)
        wanted = [
            discrepancy(student[0, :3].numpy().T, teacher[0, :3].numpy().T),
            discrepancy(student[1].numpy().T, teacher[1].numpy().T),
        ]
        np.testing.assert_allclose(got, wanted, atol=1e-14)
        for rubbish in (math.nan, math.inf, 1e30):
            student[0, 3:], teacher[0, 3:] = rubbish, -rubbish
            leaf = student.clone().requires_grad_(True)
            total = self.term.total(*said(self.term, (leaf, teacher)), rows)
            assert float(total.detach()) == pytest.approx(sum(wanted), abs=1e-14)
            gradient = torch.autograd.grad(total, leaf)[0]
            assert gradient.isfinite().all()
            assert (gradient[0, 3:] == 0).all()

    @pytest.mark.parametrize(
        ("student", "teacher", "masks"),
        [
            ((2, 5), (2, 5), {}),
            ((2, 5, 3), (2, 4, 3), {}),
            ((2, 5, 3), (2, 3, 5, 1), {}),
            ((2, 5, 3), (2, 5, 3), {"tokens": torch.ones(2, 4)}),
        ],
    )
    def test_what_has_no_common_positions_is_refused(self, student, teacher, masks):
        with pytest.raises(UsageError, match="neuron_selectivity: wanted"):
            values(self.term, (draw(*student), draw(*teacher)), rows=batch(**masks))


def neighbours(rows: np.ndarray) -> np.ndarray:
    """P[j, i]: how likely i is a neighbour of j, over i != j."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    kernel = (rows @ rows.T + 1) / 2
    np.fill_diagonal(kernel, 0)
    return kernel / kernel.sum(1, keepdims=True)


class TestProbabilistic:
    term = match.probabilistic()

    def test_is_the_divergence_of_neighbours(self):
        student, teacher = draw(6, 4), draw(6, 9, seed=1)
        q, p = neighbours(student.numpy()), neighbours(teacher.numpy())
        other = ~np.eye(6, dtype=bool)
        wanted = [float((p[j, o] * np.log(p[j, o] / q[j, o])).sum()) for j, o in enumerate(other)]
        # What keeps similarities above 0 costs 1e-7 of them.
        np.testing.assert_allclose(values(self.term, (student, teacher)), wanted, atol=1e-6)
        np.testing.assert_allclose(values(self.term, (teacher[:, :4], teacher[:, :4])), np.zeros(6), atol=1e-15)

    def test_agrees_with_torchdistill_but_for_the_row_itself(self, oracle):
        n = 7
        angles = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n  # every row sees the others alike
        teacher = torch.stack([angles.cos(), angles.sin()], dim=1)
        student = torch.stack([(2 * angles).cos(), (2 * angles).sin(), torch.ones(n)], dim=1)
        mine, theirs = "student", "teacher"
        loss = oracle.PKTLoss(mine, "input", theirs, "input", eps=1e-12)
        told = loss({mine: {"input": student.clone()}}, {theirs: {"input": teacher.clone()}})
        with_itself = float(told) * n  # it divides by n^2
        # Its rows have one neighbour more, themselves, of similarity 1: with sums t and s of the others' it says
        # 1 / (t + 1) log((s + 1) / (t + 1)) + sum of K_t / (t + 1) (log(K_t / K_s) + log((s + 1) / (t + 1))).
        kernels = [F.normalize(x, dim=1) @ F.normalize(x, dim=1).T / 2 + 0.5 for x in (student, teacher)]
        s, t = (float(kernel[0, 1:].sum()) for kernel in kernels)
        wanted = (t + 1) / t * (with_itself - math.log((s + 1) / (t + 1))) + math.log(s / t)
        np.testing.assert_allclose(values(self.term, (student, teacher)), [wanted] * n, atol=1e-6)
        assert abs(wanted - with_itself) > 0.01

    def test_rows_that_do_not_count_are_nobodys_neighbours(self):
        student, teacher = draw(6, 4), draw(6, 9, seed=1)
        counted = torch.tensor([1.0, 0, 2.5, 1, 0, 1])
        got = values(self.term, (student, teacher), rows=batch(6, examples=counted))
        kept = counted != 0
        np.testing.assert_allclose(got[kept.numpy()], values(self.term, (student[kept], teacher[kept])), atol=1e-15)
        assert (got[~kept.numpy()] == 0).all()

    @pytest.mark.parametrize("rows", [1, 2])
    def test_who_has_no_choice_of_neighbours_says_nothing(self, rows):
        student = draw(rows, 4).requires_grad_(True)
        total = self.term.total(*said(self.term, (student, draw(rows, 4, seed=1))), batch(rows))
        assert float(total.detach()) == pytest.approx(0, abs=1e-15)
        assert (torch.autograd.grad(total, student)[0].abs() < 1e-15).all()

    def test_opposite_rows_and_zeros_are_borne(self):
        teacher = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, 0]])
        for student in (torch.tensor([[1.0, 0], [1, 0], [-1, 0], [0, 0]]), torch.zeros(4, 2), -teacher, 1e20 * teacher):
            leaf = student.clone().requires_grad_(True)
            total = self.term.total(*said(self.term, (leaf, teacher)), batch(4))
            assert total.isfinite()
            assert torch.autograd.grad(total, leaf)[0].isfinite().all()

    def test_what_is_not_one_row_each_is_refused(self):
        with pytest.raises(UsageError, match=r"probabilistic: wanted .*\[2, 3, 4\] and \[2, 4\]: choose pooled"):
            values(self.term, (draw(2, 3, 4), draw(2, 4)))
        named = match.probabilistic("pooler", 6)
        assert named.needs == match.Needs(frozenset({"module:pooler"}), frozenset({"hidden.6"}))


def convolved(maps: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    """Any convolution with zeros around, tap by tap."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    reach = weight.shape[2] // 2
    padded = np.pad(maps, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    height, width = maps.shape[2:]
    total = bias[:, None, None]
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            tap = padded[:, :, i : i + height, j : j + width]
            total = total + np.einsum("oi,nihw->nohw", weight[:, :, i, j], tap)
    return total


def nearest(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    rows = np.arange(height) * maps.shape[2] // height
    return maps[:, :, rows][:, :, :, np.arange(width) * maps.shape[3] // width]


class TestReview:
    term = match.review({"a": "a", "b": "b"})

    def made(self) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], nn.Module]:
        pairs = [(draw(2, 3, 8, 8), draw(2, 2, 6, 6, seed=1)), (draw(2, 5, 4, 4, seed=2), draw(2, 6, 2, 2, seed=3))]
        torch.manual_seed(0)
        return pairs, self.term.connector(*said(self.term, *pairs))

    def test_is_the_fusion_from_deep_to_shallow_and_the_loss_at_several_sizes(self):
        pairs, connector = self.made()
        shallow, deep = connector
        (first, target), (second, deep_target) = ([x.numpy() for x in pair] for pair in pairs)
        passed = nearest(convolved(second, deep.narrow), 2, 2)
        error = (convolved(passed, deep.answer) - deep_target) ** 2
        pooled = (convolved(passed, deep.answer) - deep_target).mean((2, 3)) ** 2
        wanted = (error.mean((1, 2, 3)) + 0.5 * pooled.mean(1)) / 1.5  # of 2 x 2 only 1 x 1 is smaller
        own = convolved(first, shallow.narrow)
        deeper = nearest(passed, 8, 8)
        shares = 1 / (1 + np.exp(-convolved(np.concatenate([own, deeper], 1), shallow.attend)))
        fused = nearest(own * shares[:, :1] + deeper * shares[:, 1:], 6, 6)
        gap = convolved(fused, shallow.answer) - target
        halves = gap.reshape(2, 2, 2, 3, 2, 3).mean((3, 5))
        quarters = F.adaptive_avg_pool2d(torch.tensor(gap), 4).numpy()
        parts = [(x**2).mean((1, 2, 3)) for x in (gap, quarters, halves, gap.mean((2, 3), keepdims=True))]
        wanted += sum(share * part for share, part in zip((1, 0.5, 0.25, 0.125), parts, strict=True)) / 1.875
        np.testing.assert_allclose(values(self.term, *pairs, connector=connector), wanted / 2, atol=1e-12)

    @pytest.mark.parametrize("size", [1, 2, 4, 7])
    def test_the_loss_at_several_sizes_agrees_with_torchdistill(self, oracle, size):
        student, teacher = draw(2, 3, size, size), draw(2, 3, size, size, seed=1)
        term = match.review({"a": "a"})
        connector = term.connector(*said(term, (student, teacher)))
        answer, _ = connector[0](student, None, (size, size))
        loss = oracle.HierarchicalContextLoss("x", "output", "x", "output")
        told = loss({"x": {"output": (answer.detach(), None)}}, {"x": {"output": teacher}})
        assert values(term, (student, teacher), connector=connector).mean() == pytest.approx(float(told), abs=1e-13)

    def test_the_connector_is_as_wide_as_the_deepest_layer_and_has_no_memory_of_the_batch(self):
        _, connector = self.made()
        shapes = {name: tuple(p.shape) for name, p in connector.named_parameters() if name.endswith("weight")}
        assert shapes == {
            "0.narrow.weight": (5, 3, 1, 1),
            "0.attend.weight": (2, 10, 1, 1),
            "0.answer.weight": (2, 5, 3, 3),
            "1.narrow.weight": (5, 5, 1, 1),
            "1.answer.weight": (6, 5, 3, 3),
        }
        assert not list(connector.buffers())

    def test_the_deeper_layer_learns_from_the_shallower_target(self):
        pairs, connector = self.made()
        leaf = pairs[1][0].clone().requires_grad_(True)
        connector[1].answer.requires_grad_(False)
        (_, deep_target) = pairs[1]
        outputs, targets = said(self.term, pairs[0], (leaf, deep_target))
        total = self.term.total(outputs, targets, batch(), connector)
        both = torch.autograd.grad(total, leaf)[0]
        alone = match.review({"b": "b"})
        single = alone.total(*said(alone, (leaf, deep_target)), batch(), connector[1:]) / 2
        assert not torch.allclose(both, torch.autograd.grad(single, leaf)[0])

    def test_other_layers_are_refused(self):
        term = match.review({1: 2})
        with pytest.raises(UsageError, match=r"student hidden.1 \[2, 4, 3\] .*hidden.2 \[2, 4, 3\]: .*hidden_states"):
            term.connector(*said(term, (draw(2, 4, 3), draw(2, 4, 3))))
