"""Laws of every public term (the table is in conftest.py): what the one division of the loop relies on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.laws.law import of_rows

SPLITS = ([9], [3, 3, 3], [1] * 9, [2, 6, 1], [8, 1])


def close(got: Tensor, wanted: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, wanted, atol=tolerance, rtol=tolerance)


def hides(name: str, signal: Tensor, hidden: Tensor) -> Tensor:
    """Where a signal is of what does not count: heads [N, heads, L, ...] have their positions behind the heads."""
    kind = name.partition(".")[0]
    if hidden.ndim == 1 or kind not in ("attention", "query", "key", "value"):
        return hidden
    there = hidden[:, None, :, None]
    if kind == "attention":  # every query looks at every position: as a key it is there a second time
        there = there | hidden[:, None, None, :]
    return there.expand(signal.shape)


def test_states_its_value_and_gradient_at_equality(term, rows):
    if term.at_equality is None:
        return
    here = rows.make(term)
    for name, signal in zip(sorted(here.teacher), here.student.values(), strict=True):
        signal.copy_(here.teacher[name])
    total = here.learn().total()
    close(total, torch.full_like(total, term.at_equality), 1e-12)
    assert all(gradient.abs().max() < 1e-12 for gradient in here.differentiate(total))


def test_never_teaches_the_teacher(term, rows):
    here = rows.make(term).learn()
    for signal in here.teacher.values():
        signal.requires_grad_(signal.is_floating_point())
    here.total().backward()
    assert all(signal.grad is None for signal in here.teacher.values())
    assert all(signal.grad.abs().sum() > 0 for signal in here.student.values())


@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf, 1e30, 0.25])
def test_what_is_masked_changes_neither_loss_nor_gradient(term, rows, rubbish):
    clean = rows.make(term).learn()
    wanted, gradients = clean.total(), clean.differentiate(clean.total())
    assert (clean.mask == 0).any()
    spoilt = rows.make(term)
    hidden = spoilt.mask == 0
    for name, signal in spoilt.noise():
        if of_rows(name):
            signal[hides(name, signal, hidden)] = rubbish
    if term.term.per == "labelled":
        spoilt.labels[hidden] = 0  # a label is there, and does not count
    spoilt.learn()
    total = spoilt.total()
    assert torch.equal(total, wanted)
    for got, expected in zip(spoilt.differentiate(total), gradients, strict=True):
        assert torch.equal(got, expected)
    for (name, signal), gradient in zip(spoilt.student.items(), spoilt.differentiate(total), strict=False):
        assert not of_rows(name) or (gradient[hides(name, signal, hidden)] == 0).all()


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_any_split_into_micro_batches_gives_the_same_loss_and_gradient(term, rows, split):
    if term.term.coupled:
        return  # exempt; `test_rows_that_do_not_count_might_as_well_not_be_there` is its law
    here = rows.make(term).learn()
    loss = here.total() / term.term.count(here.batch())
    parts = [here.take(part.tolist()) for part in torch.arange(9).split(split)]
    count = sum(term.term.count(part.batch()) for part in parts)
    split_loss = sum(part.total() / count for part in parts)
    close(split_loss, loss)
    for got, wanted in zip(here.differentiate(split_loss), here.differentiate(loss), strict=True):
        close(got, wanted)


def test_rows_that_do_not_count_might_as_well_not_be_there(term, rows):
    if term.term.per in ("tokens", "ends", "words"):
        return
    here = rows.make(term).learn()
    some = here.take(here.mask.nonzero().squeeze(1).tolist())
    close(some.total(), here.total())
    for got, wanted in zip(here.differentiate(some.total()), here.differentiate(here.total()), strict=True):
        close(got, wanted)


def test_the_order_of_rows_does_not_matter(term, rows):
    here = rows.make(term)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3)).tolist()
    close(here.take(order).value(), here.value()[order])
    close(here.take(order).total(), here.total())


def test_total_is_the_weighed_sum_and_count_the_sum_of_the_mask(term, rows):
    here = rows.make(term)
    assert here.value().shape == here.mask.shape
    close(here.total(), (here.value() * here.mask).sum())
    close(term.term.count(here.batch()), here.mask.sum())
    assert here.total().shape == term.term.count(here.batch()).shape == ()


def test_nothing_counted_is_zero_with_gradient_zero(term, rows):
    here = rows.make(term)
    here.mask.zero_()
    for signal in here.student.values():
        signal.fill_(math.nan)
    total = here.learn().total()
    assert total == 0
    assert term.term.count(here.batch()) == 0
    assert all((gradient == 0).all() for gradient in here.differentiate(total))


def test_is_finite_at_the_extremes(term, rows):
    for count in (1, 9):
        for scale in (0.0, 1.0, 1e4):
            here = rows.make(term, rows=count, dtype=torch.float32)
            for _, signal in here.noise():
                signal.mul_(scale)
            total = here.learn().total()
            assert total.isfinite()
            assert all(gradient.isfinite().all() for gradient in here.differentiate(total))


def test_bf16_signals_are_as_good_as_fp64(term, rows):
    if "head" in term.term.needs.learner:
        return  # its logits are a product of the model's own, and as exact as the model is
    half = rows.make(term, dtype=torch.bfloat16)
    exact = rows.make(term)
    exact.mask = half.mask.double()
    for mine, its in ((exact.student, half.student), (exact.teacher, half.teacher)):
        for name in mine:
            mine[name] = its[name].double()
    if half.connector is not None:
        exact.connector.load_state_dict(half.connector.state_dict())
    assert half.value().dtype == half.total().dtype == torch.float32
    torch.testing.assert_close(half.total().double(), exact.total(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_is_fp32_under_autocast(term, rows, dtype):
    here = rows.make(term, dtype=dtype)
    outside = here.total()
    with torch.autocast("cpu", torch.bfloat16):
        value, inside = here.value(), here.total()
    assert value.dtype == inside.dtype == torch.float32
    # Only a connector may run in bf16, as any layer may; the arithmetic of the term itself must not move by a bit.
    exact = here.connector is None or not any(True for _ in here.connector.parameters())
    exact = exact and "head" not in here.student  # and so may the product with a head
    torch.testing.assert_close(inside, outside, atol=0, rtol=0 if exact else 0.02)


def test_the_reported_loss_has_the_gradient_that_autograd_gives(term, rows):
    here = rows.make(term, seed=5)
    names = list(here.student)

    def total(*signals: Tensor) -> Tensor:
        here.student = dict(zip(names, signals, strict=True))
        return here.total()

    leaves = [signal.requires_grad_(True) for signal in here.student.values()]
    assert torch.autograd.gradcheck(total, leaves, eps=1e-6, atol=1e-6)


def test_the_gradient_keeps_its_size_at_every_temperature(term, rows):
    if term.constant_in_temperature is None:
        return
    here = rows.make(term).learn()
    sizes = []
    for temperature in (2.0, 4.0, 8.0, 16.0):
        loss = term.constant_in_temperature(temperature).total(*here.said(), here.batch())
        sizes.append(float(here.differentiate(loss)[0].norm()))
    # Without its factor the last would be 1/64 (or, of first order, 1/8) of the first.
    assert max(sizes) / min(sizes) < 1.6, sizes


def test_labels_that_do_not_exist_change_nothing(term, rows):
    if not term.logits or term.support is not None:
        return
    here, wider = rows.make(term).learn(), rows.make(term)
    for signals in (wider.student, wider.teacher):
        for name, signal in signals.items():
            nothing = torch.full((*signal.shape[:-1], 2), -math.inf, dtype=signal.dtype)
            signals[name] = torch.cat([signal, nothing], dim=-1)
    wider.learn()
    close(wider.total(), here.total())
    gradient, expected = wider.differentiate(wider.total())[0], here.differentiate(here.total())[0]
    close(gradient[..., :-2], expected)
    assert (gradient[..., -2:] == 0).all()


def test_reads_what_it_says_that_it_needs(term, rows):
    here = rows.make(term)
    assert set(here.student) == term.term.needs.learner
    if term.term.against != "labels":
        assert set(here.teacher) == term.term.needs.source
    here.total()


def test_says_what_it_is(term):
    assert term.term.formula
    assert term.term.source
    assert term.term.of in term.term.formula
