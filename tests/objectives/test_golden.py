"""Numbers computed once by hand and by others: the golden table, and independent implementations."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from understudy import objectives as match

STUDENT = torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]], dtype=torch.float64)
TEACHER = torch.tensor([[3.0, 2.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
TOP_2 = partial(match.forward_kl_top_k, k=2)

GOLDEN = [
    ("forward_kl", match.forward_kl, 1, (1.15042077, 0.17218498)),
    ("forward_kl", match.forward_kl, 2, (0.32015667, 0.04616994)),
    ("jensen_shannon .1", partial(match.jensen_shannon, beta=0.1), 1, (0.09710662, 0.01506260)),
    ("jensen_shannon .1", partial(match.jensen_shannon, beta=0.1), 2, (0.02837642, 0.00411862)),
    ("jensen_shannon .5", match.jensen_shannon, 1, (0.24758807, 0.03855048)),
    ("jensen_shannon .5", match.jensen_shannon, 2, (0.07686251, 0.01110714)),
    ("jensen_shannon .9", partial(match.jensen_shannon, beta=0.9), 1, (0.09710662, 0.01322773)),
    ("jensen_shannon .9", partial(match.jensen_shannon, beta=0.9), 2, (0.02837642, 0.00391364)),
    ("reverse_kl", match.reverse_kl, 1, (1.15042077, 0.14580472)),
    ("reverse_kl", match.reverse_kl, 2, (0.32015667, 0.04330097)),
    ("skew_forward_kl .1", match.skew_forward_kl, 1, (0.82991457, 0.13198217)),
    ("skew_forward_kl .9", partial(match.skew_forward_kl, skew=0.9), 1, (0.01568351, 0.00135420)),
    ("skew_reverse_kl .1", match.skew_reverse_kl, 1, (0.82991457, 0.12008947)),
    ("total_variation", match.total_variation, 1, (0.57521038, 0.21321605)),
    ("uld", match.uld, 1, (0.0, 0.42643211)),
    ("top 2 truncate", partial(TOP_2, tail="truncate"), 1, (1.33048191, 0.17034554)),
    ("top 2 bucket", TOP_2, 1, (1.15042077, 0.17218498)),
    ("top 2 teacher", partial(TOP_2, tail="teacher"), 1, (1.55646143, 0.66098342)),
    ("top 2 both", partial(TOP_2, tail="both"), 1, (0.46211716, 0.25826610)),
]


@pytest.mark.parametrize(
    ("name", "function", "temperature", "wanted"), GOLDEN, ids=lambda v: v if type(v) is str else ""
)
def test_golden_numbers(name, function, temperature, wanted):
    value = function(STUDENT, TEACHER, temperature=float(temperature))
    torch.testing.assert_close(value, torch.tensor(wanted, dtype=torch.float64), atol=6e-9, rtol=0)


def test_the_textbook_case():
    logits = torch.tensor([5.0, 1.0, 0.5], dtype=torch.float64)
    assert [round(p, 3) for p in (logits / 1).softmax(-1).tolist()] == [0.971, 0.018, 0.011]
    against_uniform = match.forward_kl(torch.zeros(3, dtype=torch.float64), logits, temperature=2.0)
    entropy = -sum(p * math.log(p) for p in (logits / 2).softmax(-1).tolist())
    assert float(against_uniform) == pytest.approx(math.log(3) - entropy)


def many(labels: int = 151) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(2, 40, labels, generator=generator, dtype=torch.float64).mul(4).unbind(0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_against_scipy(temperature):
    student, teacher = many()
    q, p = (softmax(logits.numpy() / temperature, axis=-1) for logits in (student, teacher))
    oracles = {
        match.forward_kl: rel_entr(p, q).sum(-1),
        match.reverse_kl: rel_entr(q, p).sum(-1),
        match.jensen_shannon: 0.5 * rel_entr(p, (p + q) / 2).sum(-1) + 0.5 * rel_entr(q, (p + q) / 2).sum(-1),
        match.skew_forward_kl: rel_entr(p, 0.1 * p + 0.9 * q).sum(-1),
        match.skew_reverse_kl: rel_entr(q, 0.1 * q + 0.9 * p).sum(-1),
        match.total_variation: abs(p - q).sum(-1) / 2,
    }
    for function, wanted in oracles.items():
        value = function(student, teacher, temperature=temperature)
        torch.testing.assert_close(value, torch.from_numpy(wanted), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("k", [1, 8, 150, 151, 400])
def test_top_k_against_scipy(k):
    student, teacher = (logits.numpy() for logits in many())
    q, p = softmax(student, axis=-1), softmax(teacher, axis=-1)
    for row, value in enumerate(match.forward_kl_top_k(*many(), k=k).tolist()):
        order = p[row].argsort()[::-1]
        top, rest = order[:k], order[k:]
        wanted = rel_entr(p[row, top], q[row, top]).sum() + rel_entr(p[row, rest].sum(), q[row, rest].sum())
        assert value == pytest.approx(wanted, abs=1e-10)
        assert value <= rel_entr(p[row], q[row]).sum() + 1e-12


def test_against_torch():
    student, teacher = many()
    wanted = torch.nn.functional.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    torch.testing.assert_close(match.forward_kl(student, teacher), wanted)
    labels = teacher.argmax(-1)
    for smoothing in (0.0, 0.1):
        torch.testing.assert_close(
            match.cross_entropy(student, labels, smoothing=smoothing),
            torch.nn.functional.cross_entropy(student, labels, reduction="none", label_smoothing=smoothing),
        )
    torch.testing.assert_close(match.squared_error(student, teacher), (student - teacher).square().mean(-1))
    picked = -log_softmax(student.numpy(), axis=-1)[range(40), labels.numpy()]
    torch.testing.assert_close(match.cross_entropy(student, labels), torch.from_numpy(picked))


def test_a_hundred_rows_of_a_large_vocabulary_in_fp32():
    student, teacher = many(30_000)
    exact = match.forward_kl(student, teacher)
    torch.testing.assert_close(match.forward_kl(student.float(), teacher.float()).double(), exact, atol=0, rtol=1e-4)


@pytest.mark.parametrize("tail", ["bucket", "truncate"])
def test_what_the_student_of_a_top_k_ends_with(tail):
    """Trained on the top k alone, a student forgets the tail; the bucket keeps its mass (PITFALLS 12)."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(1, 60, generator=generator, dtype=torch.float64)
    student = torch.zeros_like(teacher).requires_grad_(True)
    optimiser = torch.optim.Adam([student], lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        match.forward_kl_top_k(student, teacher, k=6, tail=tail).sum().backward()
        optimiser.step()
    true = float(match.forward_kl(student, teacher).detach())
    assert true < 0.35 if tail == "bucket" else true > 2.0, true
