"""The terms of answers in a text: start and end over the words of a row, against NumPy in fp64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from understudy.records import Batch, Outputs, Targets
from understudy.tasks import TASKS

TASK = TASKS["question-answering"]
WORDS = (5, 3, 8)  # "no answer" and the words of each row


def rows(seed: int) -> tuple[torch.Tensor, list[np.ndarray]]:
    """Logits [3, 2, 8], -inf where there is no word, and the same row by row."""
    random = np.random.default_rng(seed)
    each = [random.normal(size=(2, count)) * 3 for count in WORDS]
    wide = np.full((3, 2, max(WORDS)), -np.inf)
    for row, values in zip(wide, each, strict=True):
        row[:, : values.shape[1]] = values
    return torch.from_numpy(wide), each


def softmax(logits: np.ndarray) -> np.ndarray:
    parts = np.exp(logits - logits.max())
    return parts / parts.sum()


def batch(weights: list[float]) -> Batch:
    mask = torch.tensor(weights, dtype=torch.float64)[:, None].expand(3, 2)
    labels = torch.tensor([[1, 3], [0, 0], [7, 7]])
    return Batch(("a", "b", "c"), {}, labels, {"ends": mask, "labelled": mask})


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 0.0, 2.0]])
def test_the_soft_term_is_the_kl_of_both_ends_over_the_words_of_each_row(weights: list[float]) -> None:
    student, ours = rows(0)
    teacher, theirs = rows(1)
    student.requires_grad_(True)
    temperature = 3.0
    wanted = 0.0
    for weight, one, other in zip(weights, ours, theirs, strict=True):
        for end in range(2):
            q, p = softmax(one[end] / temperature), softmax(other[end] / temperature)
            wanted += weight * temperature**2 * float((p * (np.log(p) - np.log(q))).sum())
    term = TASK.soft(temperature, 1.0)
    total = term.total(Outputs({"logits": student}), Targets({"logits": teacher}), batch(weights))
    assert float(total.detach()) == pytest.approx(wanted, rel=1e-9)
    assert float(term.count(batch(weights))) == 2 * sum(weights)
    total.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert (student.grad[torch.isinf(student.detach())] == 0).all()


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 0.0, 2.0]])
def test_the_hard_term_is_the_cross_entropy_of_both_ends(weights: list[float]) -> None:
    student, ours = rows(2)
    student.requires_grad_(True)
    labels = batch(weights).labels.tolist()
    wanted = sum(
        -weight * float(np.log(softmax(one[end])[label[end]]))
        for weight, one, label in zip(weights, ours, labels, strict=True)
        for end in range(2)
    )
    total = TASK.hard().total(Outputs({"logits": student}), Targets({}), batch(weights))
    assert float(total.detach()) == pytest.approx(wanted, rel=1e-9)
    total.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
