"""What laws do not say: infinities that are meant, settings at their ends, and refusals."""

from __future__ import annotations

import doctest
import importlib
import inspect
import math
import re
from functools import partial

import pytest
import torch

from understudy import objectives as match
from understudy.errors import UsageError

ROOMS = ("numerics", "divergences", "distances", "term", "schedules", "listing", "responses.labels")
KLS = [
    match.forward_kl,
    match.reverse_kl,
    match.jensen_shannon,
    match.skew_forward_kl,
    match.skew_reverse_kl,
    match.total_variation,
    partial(match.forward_kl_top_k, k=2),
]
NARROW, WIDE = torch.zeros(2, 77), torch.zeros(2, 151)


@pytest.mark.parametrize("function", [*KLS, match.squared_error], ids=lambda f: getattr(f, "func", f).__name__)
def test_shapes_that_differ_are_named(function):
    with pytest.raises(UsageError, match=r"student 77 (labels|columns), teacher 151"):
        function(NARROW, WIDE)
    with pytest.raises(UsageError, match=r"\[2, 77\] and \[3, 77\]"):
        function(NARROW, torch.zeros(3, 77))


@pytest.mark.parametrize("function", [*KLS, match.uld, match.soft_labels], ids=lambda f: getattr(f, "func", f).__name__)
@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf, "auto", None])
def test_temperatures_that_cannot_be(function, temperature):
    arguments = () if function is match.soft_labels else (NARROW, NARROW)
    with pytest.raises(UsageError, match="wanted temperature in "):
        function(*arguments, temperature=temperature)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: match.jensen_shannon(NARROW, NARROW, beta=0.0), "discontinuous"),
        (lambda: match.jensen_shannon(NARROW, NARROW, beta=1.0), "forward_kl or reverse_kl"),
        (lambda: match.jensen_shannon(NARROW, NARROW, beta=math.nan), "beta"),
        (lambda: match.skew_forward_kl(NARROW, NARROW, skew=1.0), r"wanted skew in \[0, 1\), got 1.0"),
        (lambda: match.skew_reverse_kl(NARROW, NARROW, skew=-0.1), "skew"),
        (lambda: match.forward_kl_top_k(NARROW, NARROW, k=0), "k as an integer of at least 1, got 0"),
        (lambda: match.forward_kl_top_k(NARROW, NARROW, k=2.0), "k as an integer"),
        (lambda: match.forward_kl_top_k(NARROW, NARROW, k=2, tail="buckets"), 'did you mean "bucket"'),
        (lambda: match.uld(NARROW, torch.zeros(3, 77)), "same positions"),
        (lambda: match.forward_kl(NARROW, NARROW, support=torch.ones(77)), "bool mask"),
        (lambda: match.forward_kl(NARROW, NARROW, support=torch.ones(5, dtype=torch.bool)), r"\[77\]"),
        (lambda: match.forward_kl(NARROW, NARROW, support=torch.zeros(77, dtype=torch.bool)), "at least one label"),
        (lambda: match.cross_entropy(NARROW, torch.tensor([0, 77])), r"labels in 0 .. 76 .*got 0 .. 77"),
        (lambda: match.cross_entropy(NARROW, torch.tensor([-2, 0])), "got -2 .. 0"),
        (lambda: match.cross_entropy(NARROW, torch.zeros(3, dtype=torch.int64)), "one integer label for each"),
        (lambda: match.cross_entropy(NARROW, torch.zeros(2)), "torch.float32"),
        (lambda: match.cross_entropy(NARROW, torch.zeros(2, dtype=torch.int64), smoothing=1.0), "smoothing"),
    ],
)
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(UsageError, match=says):
        call()


def test_forward_kl_is_one_node_that_keeps_one_tensor():
    """Its gradient is written out, refuses to be differentiated again, and costs nothing where nobody asks for it."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 50, generator=generator)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        match.forward_kl(student, teacher, temperature=2.0)
        assert not kept
        leaf = student.clone().requires_grad_(True)
        value = match.forward_kl(leaf, teacher, temperature=2.0)
    assert [tensor.shape for tensor in kept] == [leaf.shape]
    with pytest.raises(UsageError, match=r"once: use skew_forward_kl\(..., skew=0.0\)"):
        torch.autograd.grad(value.sum(), leaf, create_graph=True)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    torch.testing.assert_close(slope, ((student / 2).softmax(-1) - (teacher / 2).softmax(-1)) / 2)
    assert torch.equal(leaf, student)  # it works in place, and not on what it was given
    again = match.skew_forward_kl(leaf, teacher, skew=0.0, temperature=2.0)
    torch.testing.assert_close(again, value)
    (same,) = torch.autograd.grad(again.sum(), leaf, create_graph=True)
    torch.testing.assert_close(same, slope)
    same.square().sum().backward()
    assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("missing", [False, True])
def test_forward_kl_in_the_memory_of_its_logits_says_the_same(temperature, missing):
    torch.manual_seed(0)
    mine, theirs = torch.randn(5, 9) * 4, torch.randn(5, 9) * 4
    if missing:
        mine[:, 7:], theirs[:, 6:] = -math.inf, -math.inf
    theirs[0] = mine[0]
    if missing:
        theirs[0, 6:], mine[0, 6:] = -math.inf, -math.inf
    wanted = mine.clone().requires_grad_(True)
    value = match.forward_kl(wanted, theirs, temperature=temperature)
    (slope,) = torch.autograd.grad(value.sum(), wanted)
    own, other = mine.clone().requires_grad_(True), theirs.clone()
    said = match.forward_kl(own, other, temperature=temperature, spent=True)
    (found,) = torch.autograd.grad(said.sum(), own)
    torch.testing.assert_close(said, value, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found, slope, atol=1e-7, rtol=1e-5)
    assert said[0] == 0
    assert (found[0] == 0).all()
    assert not torch.equal(own, wanted)
    assert not torch.equal(other, theirs)


def test_a_label_that_one_side_excludes():
    allows, excludes = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -math.inf]])
    assert match.forward_kl(excludes, allows) == math.inf  # the student excludes what the teacher finds possible
    assert match.reverse_kl(allows, excludes) == math.inf
    for finite in (match.forward_kl(allows, excludes), match.reverse_kl(excludes, allows)):
        assert float(finite) == pytest.approx(math.log(1.5), abs=1e-6)
    for bounded in (match.jensen_shannon, match.skew_forward_kl, match.skew_reverse_kl, match.total_variation):
        for student, teacher in ((allows, excludes), (excludes, allows)):
            leaf = student.clone().requires_grad_(True)
            value = bounded(leaf, teacher)
            value.backward()
            assert 0 < float(value.detach()) < 1.0
            assert leaf.grad.isfinite().all()
    assert match.squared_error(allows, excludes) == math.inf


def test_top_k_of_a_teacher_that_knows_fewer_labels_than_k():
    student = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    teacher = torch.tensor([[1.0, 2.0, -math.inf, -math.inf, -math.inf, -math.inf]]).expand(3, 6)
    value = match.forward_kl_top_k(student, teacher, k=4)
    torch.testing.assert_close(value, match.forward_kl(student, teacher))
    value.sum().backward()
    assert student.grad.isfinite().all()


def test_top_k_with_nothing_but_padding_in_the_tail():
    padding = torch.full((3, 2), -math.inf)
    student, teacher = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    leaf = torch.cat([student, padding], dim=-1).requires_grad_(True)
    value = match.forward_kl_top_k(leaf, torch.cat([teacher, padding], dim=-1), k=2)
    torch.testing.assert_close(value, match.forward_kl(student, teacher))
    value.sum().backward()
    assert leaf.grad.isfinite().all()
    assert leaf.grad[:, :2].abs().sum() > 0


def test_jensen_shannon_tends_to_zero_where_others_jump():
    student, teacher = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([3.0, 2.0, 1.0]).double()
    assert match.jensen_shannon(student, teacher, beta=1e-6) < 1e-5
    assert match.jensen_shannon(student, teacher, beta=1 - 1e-6) < 1e-5
    per_beta = match.jensen_shannon(student, teacher, beta=1e-6) / 1e-6
    torch.testing.assert_close(per_beta, match.forward_kl(student, teacher), rtol=1e-4, atol=0)


def test_uld_compares_vocabularies_of_different_sizes():
    student, teacher = torch.tensor([[2.0, 1.0]]), torch.tensor([[0.5, 2.0, 1.0]])
    q, p = student.softmax(-1)[0].tolist(), sorted(teacher.softmax(-1)[0].tolist(), reverse=True)
    wanted = abs(q[0] - p[0]) + abs(q[1] - p[1]) + p[2]
    assert float(match.uld(student, teacher)) == pytest.approx(wanted, abs=1e-6)
    assert float(match.uld(teacher, student)) == pytest.approx(wanted, abs=1e-6)


def test_rows_without_a_label_cost_nothing():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    labels = torch.tensor([[1, -1, 0], [-1, -1, 3]], dtype=torch.int32)
    for smoothing in (0.0, 0.2):
        value = match.cross_entropy(logits, labels, smoothing=smoothing)
        gradient = torch.autograd.grad(value.sum(), logits)[0]
        assert value.shape == labels.shape
        for cost, slope in ((value, value), (gradient, gradient.abs().sum(-1))):
            assert (cost[labels < 0] == 0).all()
            assert (slope[labels >= 0] > 0).all()
    assert match.cross_entropy(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).shape == (0,)
    assert float(match.cross_entropy(torch.zeros(4), torch.tensor(2))) == pytest.approx(math.log(4))


def public(room: str) -> dict[str, object]:
    module = importlib.import_module(f"understudy.objectives.{room}")
    return {name: getattr(module, name) for name in module.__all__}


@pytest.mark.parametrize("room", ROOMS)
def test_examples_in_docstrings_run(room):
    module = importlib.import_module(f"understudy.objectives.{room}")
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted >= 1


def test_every_public_function_says_where_it_is_from_and_shows_itself():
    names = [row["name"] for row in match.describe()]
    for name in names:
        text = inspect.getdoc(getattr(match, name)) or ""
        assert ">>> " in text, name
        assert "Raises:" in text, name
        assert "Formula:" in text, name
        if name not in ("cosine_distance", "squared_error", "correlation_distance", "binary_kl"):
            assert re.search(r"Source:[^>]*(arXiv\s\d{4}\.\d{4,5})", text, re.S), name
    assert len(names) == len(set(names)) == 45
