"""What is estimated from a head and a sample of the tail: laws over all draws, not over many."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from understudy import objectives as match
from understudy.errors import UsageError
from understudy.objectives.sampled import BUCKETS, Sampled, draw, sampled_forward_kl, with_bucket

V, K = 6, 2


def logits(seed: int, *shape: int) -> Tensor:
    return 2 * torch.randn(*shape, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def every_draw(teacher: Tensor, n: int, temperature: float) -> list[tuple[float, Sampled]]:
    """All samples of n tokens that can be drawn from the tail, with their probabilities."""
    log_p = torch.log_softmax(teacher / temperature, -1)
    top = log_p.topk(K)
    rest = [token for token in range(V) if token not in top.indices.tolist()]
    mass = torch.logsumexp(log_p[rest], 0)
    found = []
    for tokens in itertools.product(rest, repeat=n):
        tail = torch.tensor(tokens)
        share = float((log_p[tail] - mass).sum().exp())
        found.append((share, Sampled(top.indices, top.values, tail, log_p[tail], mass)))
    assert math.isclose(sum(share for share, _ in found), 1.0)
    return found


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("control", [True, False])
@pytest.mark.parametrize("near", [True, False])  # on both sides of where the control variate is used
def test_value_and_gradient_are_those_of_the_whole_in_the_mean_over_all_draws(
    n: int, temperature: float, control: bool, near: bool
) -> None:
    teacher = logits(1)
    student = (teacher + 0.05 * logits(0) if near else logits(0)).requires_grad_()
    value, slope = 0.0, torch.zeros(V, dtype=torch.float64)
    for share, said in every_draw(teacher, n, temperature):
        one = sampled_forward_kl(student, said, temperature=temperature, control=control)
        value += share * float(one.detach())
        slope += share * torch.autograd.grad(one, student)[0]
    whole = match.forward_kl(student, teacher, temperature=temperature)
    assert (float(whole.detach()) < 0.02) is near
    assert value == pytest.approx(float(whole.detach()), rel=1e-10)
    torch.testing.assert_close(slope, torch.autograd.grad(whole, student)[0], rtol=1e-9, atol=1e-12)


def test_every_single_draw_is_nothing_at_equality_and_not_negative_near_it() -> None:
    teacher = logits(1)
    for _, said in every_draw(teacher, 2, 1.0):
        student = teacher.clone().requires_grad_()
        value = sampled_forward_kl(student, said)
        assert abs(float(value.detach())) < 1e-12
        assert torch.autograd.grad(value, student)[0].abs().max() < 1e-12
        for seed in range(5):
            assert float(sampled_forward_kl(teacher + 0.05 * logits(seed + 10), said)) > 0
    plain = [
        sampled_forward_kl(teacher.clone().requires_grad_(), said, control=False)
        for _, said in every_draw(teacher, 1, 1.0)
    ]
    assert max(abs(float(one.detach())) for one in plain) < 1e-12  # its value is right, its slope is what the draw says
    student = teacher.clone().requires_grad_()
    loose = sampled_forward_kl(student, every_draw(teacher, 1, 1.0)[0][1], control=False)
    assert torch.autograd.grad(loose, student)[0].abs().max() > 1e-3


def noise(student: Tensor, teacher: Tensor, weight: float | None) -> float:
    """Squared error of a draw's gradient, its mean over all draws: with our own c, or one of a fixed weight."""
    student = student.clone().requires_grad_()
    whole = torch.autograd.grad(match.forward_kl(student, teacher), student)[0]
    found = 0.0
    for share, said in every_draw(teacher, 2, 1.0):
        loose = sampled_forward_kl(student, said, control=weight is None)
        if weight is not None:
            log_r = torch.log_softmax(student, -1)[said.tail] - said.tail_log_p + said.log_mass
            outside = torch.ones(V, dtype=torch.bool).index_fill(0, said.head, False)
            log_r = log_r - torch.logsumexp(torch.log_softmax(student, -1)[outside], 0)
            loose = loose + weight * said.log_mass.exp() * (log_r.exp() - 1).mean()
        found += share * float((torch.autograd.grad(loose, student)[0] - whole).square().sum())
    return found


def test_the_control_variate_weighs_little_where_it_would_add_noise() -> None:
    """Far from the teacher less noise than at a weight of 1; near it less than at 0, and none at equality."""
    far, near = [], []
    for seed in range(20):
        teacher = logits(seed)
        far.append([noise(logits(seed + 100), teacher, weight) for weight in (None, 1.0)])
        close = teacher + 0.05 * logits(seed + 100)
        near.append([noise(close, teacher, weight) for weight in (None, 0.0)])
    assert sum(ours for ours, _ in far) < 0.5 * sum(other for _, other in far)
    assert sum(ours for ours, _ in near) < 0.2 * sum(other for _, other in near)


@pytest.mark.parametrize("name", [*BUCKETS, "forward_kl"])
def test_a_bucket_is_a_lower_bound_and_nothing_at_equality(name: str) -> None:
    student, teacher = logits(3, 40), logits(4, 40)
    said = draw(teacher, k=K, n=1, temperature=2.0)
    whole = getattr(match, name)(student, teacher, temperature=2.0)
    bucket = with_bucket(name, student, said, temperature=2.0)
    assert (bucket <= whole + 1e-12).all()
    assert (bucket > 0).all()
    same = teacher.clone().requires_grad_()
    value = with_bucket(name, same, said, temperature=2.0)
    assert value.abs().max() < 1e-12
    assert torch.autograd.grad(value.sum(), same)[0].abs().max() < 1e-9


def test_a_bucket_of_forward_kl_is_the_top_k_with_a_bucket() -> None:
    student, teacher = logits(3, 40), logits(4, 40)
    ours = with_bucket("forward_kl", student, draw(teacher, k=3, n=1))
    torch.testing.assert_close(ours, match.forward_kl_top_k(student, teacher, k=3))


def test_draws_are_of_the_tail_in_proportion_and_repeatable() -> None:
    teacher = logits(1)
    generator = torch.Generator().manual_seed(3)
    said = draw(teacher, k=K, n=20_000, generator=generator)
    p = torch.softmax(teacher, -1)
    rest = [token for token in range(V) if token not in said.head.tolist()]
    counts = torch.bincount(said.tail, minlength=V).double() / 20_000
    assert counts[said.head].sum() == 0
    torch.testing.assert_close(counts[rest], p[rest] / p[rest].sum(), atol=0.012, rtol=0)
    torch.testing.assert_close(said.log_mass.exp(), p[rest].sum())
    again = draw(teacher, k=K, n=20_000, generator=torch.Generator().manual_seed(3))
    assert torch.equal(said.tail, again.tail)


def test_a_teacher_that_is_certain_has_no_tail_and_harms_nothing() -> None:
    teacher = torch.full((3, V), -math.inf, dtype=torch.float64)
    teacher[:, :K] = 1.0
    student = logits(0, 3).requires_grad_()
    said = draw(teacher, k=K, n=4)
    value = sampled_forward_kl(student, said)
    torch.testing.assert_close(value, match.forward_kl(student, teacher))
    assert torch.isfinite(torch.autograd.grad(value.sum(), student)[0]).all()
    assert torch.isfinite(with_bucket("forward_kl", student, said)).all()


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(UsageError, match="k from 1 to 5"):
        draw(logits(0), k=V, n=1)
    with pytest.raises(UsageError, match="temperature"):
        draw(logits(0), k=1, n=1, temperature=0)
    with pytest.raises(UsageError, match=r"positions \[3\]"):
        sampled_forward_kl(logits(0), draw(logits(0, 3), k=1, n=1))
    with pytest.raises(UsageError, match="wanted one of"):
        with_bucket("uld", logits(0), draw(logits(0), k=1, n=1))
