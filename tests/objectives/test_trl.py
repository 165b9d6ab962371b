"""Divergences per token beside TRL's: an independent implementation of what GKD learns from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from understudy.objectives import forward_kl, jensen_shannon, reverse_kl, soft_tokens
from understudy.records import Batch, Outputs, Targets

N, P, V, WIDE, NARROW = 3, 7, 50, 12, 8
BETAS = (0.0, 0.1, 0.5, 0.9, 1.0)

# How theirs is ours. Their beta is the teacher's share of the mixture, as here; they define its ends as the two KLs
# (0: forward, 1: reverse), where the formula itself tends to 0, so here the ends have names of their own. Their
# temperature divides the logits, and no more: the factor temperature^2 is our term's. Their "none" with labels gives
# [tokens that count, V], of which a sum over V is our number per token; "batchmean" with labels divides the sum of all
# by the tokens that count, and so does the training loop.


@pytest.fixture(scope="module")
def theirs() -> Any:
    """trl 1.16.0 (pip install --no-deps trl==1.16.0); it asks for nothing more than is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        found = pytest.importorskip("trl.experimental.gkd", reason="trl 1.16.0 is not there", exc_type=ImportError)
    return found.GKDTrainer.generalized_jsd_loss


def ours(beta: float) -> Callable[..., Tensor]:
    ends = {0.0: forward_kl, 1.0: reverse_kl}
    return ends.get(beta) or partial(jensen_shannon, beta=beta)


def drawn() -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """What student and teacher say, and labels of which some are -100."""
    torch.manual_seed(0)
    student, teacher = ({"states": torch.randn(N, P, size), "head": torch.randn(V, size)} for size in (NARROW, WIDE))
    labels = torch.randint(0, V, (N, P))
    labels[0, 4:] = labels[2, :3] = -100
    return student, teacher, labels


def logits(said: dict[str, Tensor]) -> Tensor:
    return said["states"] @ said["head"].T


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_number_per_token(theirs: Any, beta: float, temperature: float) -> None:
    student, teacher, labels = drawn()
    mine = ours(beta)(logits(student), logits(teacher), temperature=temperature)[labels != -100]
    dials = {"beta": beta, "temperature": temperature, "reduction": "none"}
    wanted = theirs(logits(student), logits(teacher), labels=labels, **dials).sum(-1)
    torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6)
    other = theirs(logits(teacher), logits(student), labels=labels, **dials).sum(-1)
    assert beta == 0.5 or not torch.allclose(mine, other, rtol=0.02)  # who is who matters


@pytest.mark.parametrize("beta", BETAS)
def test_the_loss_of_a_batch_and_its_gradient_in_tiles(theirs: Any, beta: float) -> None:
    """Theirs of logits, ours of hidden states and heads: value, and slopes of states and head."""
    student, teacher, labels = drawn()
    temperature, found = 2.0, []
    for which in ("ours", "theirs"):
        said = {name: value.clone().requires_grad_() for name, value in student.items()}
        if which == "ours":
            batch = Batch(("a", "b", "c"), {}, None, {"words": (labels != -100).float()})
            term = soft_tokens(temperature, divergence=ours(beta))
            loss = term.total(Outputs(said), Targets(teacher), batch) / term.count(batch) / temperature**2
        else:
            loss = theirs(logits(said), logits(teacher), labels=labels, beta=beta, temperature=temperature)
        loss.backward()
        found.append([loss.detach(), said["states"].grad, said["head"].grad])
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-6)
    assert (found[0][1][labels == -100] == 0).all()
