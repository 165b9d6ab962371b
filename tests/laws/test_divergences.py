"""Laws of every public divergence (the table is in conftest.py)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from understudy import objectives
from understudy.objectives import describe, distances, divergences
from understudy.objectives.responses import labels as builders_of_labels

ROWS, LABELS = 6, 5


def draw(seed: int = 0, *, dtype: torch.dtype = torch.float64, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, ROWS, LABELS, generator=generator, dtype=torch.float64) * scale
    return student.to(dtype), teacher.to(dtype)


def slope(function, student: Tensor, teacher: Tensor) -> Tensor:
    leaf = student.detach().clone().requires_grad_(True)
    return torch.autograd.grad(function(leaf, teacher).sum(), leaf)[0]


def test_the_table_is_complete(tables):
    in_divergences, in_terms = tables
    listed = describe()
    assert {law.name for law in in_divergences} == {row["name"] for row in listed if row["kind"] == "divergence"}
    # `shorthand` builds a list of terms that are listed themselves
    assert {law.builder for law in in_terms} - {"shorthand"} == {row["name"] for row in listed if row["kind"] == "term"}
    builders = {law.builder for law in in_terms} | {law.name for law in in_divergences}
    assert len(builders) == 46
    named = {"Needs", "Term", "describe", "layer_map", "schedules", "standardise"}
    assert set(objectives.__all__) == builders | named
    for module in (objectives, divergences, distances, builders_of_labels):
        assert list(module.__all__) == sorted(module.__all__)


def test_states_its_value_at_equality(divergence):
    _, teacher = draw()
    value = divergence.function(teacher.clone(), teacher)
    if divergence.at_equality is not None:
        torch.testing.assert_close(value, torch.full_like(value, divergence.at_equality), atol=1e-12, rtol=0)
    else:
        assert (value > 1e-6).all(), "no value at equality is claimed, yet it is 0: claim it"


def test_has_no_gradient_at_equality(divergence):
    _, teacher = draw()
    gradient = slope(divergence.function, teacher, teacher)
    if divergence.no_gradient_at_equality:
        assert gradient.abs().max() < 1e-12
    else:
        assert gradient.abs().max() > 1e-3, "the gradient at equality is said to be a flaw, yet it is 0: claim it"


@pytest.mark.parametrize("seed", range(5))
def test_stays_in_its_range(divergence, seed):
    for scale in (0.01, 1.0, 30.0):
        value = divergence.function(*draw(seed, scale=scale))
        assert value.shape == (ROWS,)
        if divergence.at_least is not None:
            assert value.min() >= divergence.at_least - 1e-12
        if divergence.at_most is not None:
            assert value.max() <= divergence.at_most + 1e-12


@pytest.mark.parametrize("noise", [0.0, 1e-4, 1e-2])
def test_never_goes_negative_near_convergence_in_bf16(divergence, noise):
    if divergence.at_least is None:
        return
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(64, 500, generator=generator) * 3
    student = teacher + noise * torch.randn(64, 500, generator=generator)
    assert divergence.function(student.bfloat16(), teacher.bfloat16()).min() >= -1e-6


def test_never_teaches_the_teacher(divergence):
    student, teacher = (logits.requires_grad_(True) for logits in draw())
    divergence.function(student, teacher).sum().backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_positions_do_not_touch_each_other(divergence):
    student, teacher = draw()
    whole = divergence.function(student, teacher)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(divergence.function(student[order], teacher[order]), whole[order], atol=1e-12, rtol=0)
    single = torch.cat([divergence.function(student[i : i + 1], teacher[i : i + 1]) for i in range(ROWS)])
    torch.testing.assert_close(single, whole, atol=1e-12, rtol=0)
    deeper = divergence.function(student.view(2, 3, LABELS), teacher.view(2, 3, LABELS))
    torch.testing.assert_close(deeper, whole.view(2, 3), atol=1e-12, rtol=0)


def test_the_order_of_labels_does_not_matter(divergence):
    student, teacher = draw()
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(
        divergence.function(student[:, order], teacher[:, order]), divergence.function(student, teacher)
    )


def test_a_constant_added_to_the_logits(divergence):
    student, teacher = draw()
    moved = divergence.function(student + 11.0, teacher - 7.0)
    same = torch.allclose(moved, divergence.function(student, teacher), atol=1e-10)
    assert same is divergence.shift


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_is_finite_at_the_extremes(divergence, dtype):
    hot, cold = torch.full((4, 3), -1e4), torch.full((4, 3), -1e4)
    hot[:, 0], cold[:, 2] = 1e4, 1e4
    zero, normal = torch.zeros(4, 3), draw(dtype=torch.float32)[0][:4, :3]
    cases = [hot, cold, zero, normal]
    for student in cases:
        for teacher in cases:
            for rows, labels in ((4, 3), (1, 3), (4, 2), (1, 2)):
                s, t = student[:rows, :labels].to(dtype), teacher[:rows, :labels].to(dtype)
                value = divergence.function(s, t)
                assert value.isfinite().all(), (s, t, value)
                assert slope(divergence.function, s, t).isfinite().all(), (s, t)


def test_bf16_inputs_are_as_good_as_fp64(divergence):
    student, teacher = draw(dtype=torch.bfloat16)
    value = divergence.function(student, teacher)
    exact = divergence.function(student.double(), teacher.double())
    assert value.dtype == torch.float32
    assert exact.dtype == torch.float64
    torch.testing.assert_close(value.double(), exact, atol=1e-5, rtol=1e-5)
    gradient = slope(divergence.function, student, teacher)
    assert gradient.dtype == torch.bfloat16  # autograd's rule; the arithmetic before the last rounding is fp32
    torch.testing.assert_close(
        gradient.double(), slope(divergence.function, student.double(), teacher.double()), atol=1e-5, rtol=2**-7
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_is_fp32_under_autocast(divergence, dtype):
    student, teacher = draw(dtype=dtype)
    outside = divergence.function(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        inside = divergence.function(student, teacher)
    assert inside.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(inside, outside)


def test_temperature_divides_the_logits_and_nothing_else(divergence):
    student, teacher = draw()
    if not divergence.temperature:
        with pytest.raises(TypeError):
            divergence.function(student, teacher, temperature=2.0)
        return
    plain = divergence.function(student, teacher)
    torch.testing.assert_close(divergence.function(student * 3, teacher * 3, temperature=3.0), plain)
    assert not torch.allclose(divergence.function(student, teacher, temperature=3.0), plain)


def test_autograd_is_the_slope_of_the_value(divergence):
    student, teacher = draw(3)
    assert torch.autograd.gradcheck(
        lambda leaf: divergence.function(leaf, teacher), student.requires_grad_(True), eps=1e-6, atol=1e-6
    )


def test_labels_that_do_not_exist_change_nothing(divergence):
    student, teacher = draw()
    nothing = torch.full((ROWS, 3), -math.inf, dtype=student.dtype)
    wide_student, wide_teacher = torch.cat([student, nothing], -1), torch.cat([teacher, nothing], -1)
    torch.testing.assert_close(
        divergence.function(wide_student, wide_teacher), divergence.function(student, teacher), atol=1e-12, rtol=1e-12
    )
    gradient = slope(divergence.function, wide_student, wide_teacher)
    torch.testing.assert_close(gradient[:, :LABELS], slope(divergence.function, student, teacher))
    assert (gradient[:, LABELS:] == 0).all()


def test_support_renormalises_on_the_labels_that_the_source_knows(divergence):
    student, teacher = draw()
    known = torch.tensor([True, False, True, True, False])
    if not divergence.support:
        with pytest.raises(TypeError):
            divergence.function(student, teacher, support=known)
        return
    value = divergence.function(student, teacher, support=known)
    torch.testing.assert_close(value, divergence.function(student[:, known], teacher[:, known]))
    gradient = slope(lambda s, t: divergence.function(s, t, support=known), student, teacher)
    assert (gradient[:, ~known] == 0).all()
    assert (gradient[:, known].abs() > 0).any()
