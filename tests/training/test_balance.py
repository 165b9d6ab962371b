"""How strongly terms pull, and weights by shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.training.small import Small, feed
from understudy.objectives import hard_labels, logit_mse, schedules, soft_labels
from understudy.records import Outputs
from understudy.teachers import Live
from understudy.training.balance import balanced, pulls


def terms():
    return [soft_labels(4.0, 0.7), logit_mse(0.01), hard_labels(0.29)]


def test_a_pull_is_the_gradient_of_the_mean_and_nothing_is_changed() -> None:
    data, student, teacher = feed(), Small(dropout=0.3, norm=True), Live(Small(seed=9))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    found = {row["name"]: row for row in pulls(student, data, terms(), teacher=teacher, batch_size=14)}
    assert student.training
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in student.parameters())

    student.eval()
    from understudy.data.sampling import epoch_batches

    batch = data.batch(epoch_batches(data.lengths, 14, seed=0, epoch=0)[0])
    term = logit_mse()
    said = Outputs({"logits": student(batch.inputs["student"]["x"])})
    value = term.total(said, teacher.targets(batch).of("teacher"), batch) / 14
    gradient = torch.autograd.grad(value, list(student.parameters()), allow_unused=True)
    norm = torch.cat([one.flatten() for one in gradient if one is not None]).norm()
    assert found["logit_mse"]["value"] == pytest.approx(float(value.detach()), rel=1e-5)
    assert found["logit_mse"]["gradient_norm"] == pytest.approx(float(norm), rel=1e-5)
    assert found["hard_labels"]["count"] == float(batch.masks["labelled"].sum()) < 14


def test_balanced_weights_pull_in_the_shares_that_were_asked_for() -> None:
    data, student, teacher = feed(), Small(), Live(Small(seed=9))
    norms = {row["name"]: row["gradient_norm"] for row in pulls(student, data, terms(), teacher=teacher)}
    found, sentence = balanced(terms(), norms)
    pull = {term.name: term.weight * norms[term.name] for term in found}
    assert pull["soft_labels"] / pull["hard_labels"] == pytest.approx(0.7 / 0.29, rel=1e-4)
    assert pull["soft_labels"] / pull["logit_mse"] == pytest.approx(70, rel=1e-4)
    assert sum(pull.values()) == pytest.approx(sum(t.weight * norms[t.name] for t in terms()), rel=1e-4)
    assert "logit_mse" in sentence


def test_a_schedule_is_multiplied_and_a_term_without_gradient_stays() -> None:
    faded = replace(logit_mse(), weight=schedules.linear(2.0, steps=4, start=1.0, end=0.0))
    found, _ = balanced(
        [faded, soft_labels(), hard_labels()], {"logit_mse": 1.0, "soft_labels": 0.0, "hard_labels": 3.0}
    )
    factor = (2 * 1 + 3) / 3
    assert [found[0].weight_at(step) for step in (0, 2, 4)] == pytest.approx([2 * factor, factor, 0], rel=1e-5)
    assert found[1].weight == 1.0
    assert found[2].weight == pytest.approx(factor / 3, rel=1e-5)
