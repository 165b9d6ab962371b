"""Tiles give what the whole gives: values, and the gradients of states, head and bias."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from understudy import objectives as match
from understudy.errors import UsageError
from understudy.objectives import tiles
from understudy.objectives.tiles import in_tiles

VALUES = {
    "forward": partial(match.forward_kl, temperature=2.0),
    "forward in place": partial(match.forward_kl, temperature=2.0, spent=True),
    "reverse": match.reverse_kl,
    "jsd": partial(match.jensen_shannon, beta=0.3),
    "skew": match.skew_forward_kl,
    "tv": match.total_variation,
}
T, V, H = 23, 31, 5


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slopes(sums: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(sums, leaves))


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("tile", [1, 7, 64, None])
@pytest.mark.parametrize("weighed", ["evenly", "by the mask", "otherwise"])
@pytest.mark.parametrize("few", [1, 3, None])
def test_tiles_are_the_whole(
    name: str, tile: int | None, weighed: str, few: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if few is not None:
        monkeypatch.setattr(tiles, "_CACHED", few * 4 * V)
    value = VALUES[name]
    states, head, bias = drawn(T, H), drawn(V, H, seed=1), drawn(V, seed=2)
    theirs, second = drawn(T, H + 2, seed=3), drawn(V, H + 2, seed=4)
    mask = (drawn(T, seed=5) > 0).float() * (0.5 + torch.arange(T) % 3)
    up = {"evenly": torch.ones(T), "by the mask": 0.25 * mask, "otherwise": mask * drawn(T, seed=6)}[weighed]
    for leaf in (states, head, bias):
        leaf.requires_grad_()
    dense = value(torch.addmm(bias, states, head.T), theirs @ second.T)
    given = None if weighed == "evenly" else mask
    tiled = in_tiles(value, states, head, bias=bias, against=(theirs, second), mask=given, tile=tile)
    wanted = dense if given is None else torch.where(mask != 0, dense, 0.0)
    torch.testing.assert_close(tiled, wanted, rtol=1e-5, atol=1e-6)
    pairs = zip(
        slopes((tiled * up).sum(), states, head, bias), slopes((wanted * up).sum(), states, head, bias), strict=True
    )
    for ours, whole in pairs:
        torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


def test_labels_and_shapes_of_sentences() -> None:
    states, head = drawn(3, 8, H).requires_grad_(), drawn(V, H, seed=1).requires_grad_()
    labels = torch.arange(24).view(3, 8)
    tiled = in_tiles(match.cross_entropy, states, head, labels, tile=5)
    dense = match.cross_entropy(states @ head.T, labels)
    torch.testing.assert_close(tiled, dense)
    for ours, whole in zip(slopes(tiled.mean(), states, head), slopes(dense.mean(), states, head), strict=True):
        torch.testing.assert_close(ours, whole)


@pytest.mark.parametrize(("many", "at_once"), [(128_000, 4), (1_000_000, 1), (1_000, 40)])
def test_a_value_sees_few_logits_of_many_tokens_at_once(many: int, at_once: int) -> None:
    """What it makes beside the logits is small then. Counted, as the memory of a process is never the same twice."""
    seen: list[int] = []

    def value(logits: Tensor) -> Tensor:
        seen.append(len(logits))
        return logits.logsumexp(-1)

    states, head = drawn(40, 2).requires_grad_(), drawn(many, 2, seed=1)
    slopes(in_tiles(value, states, head).sum(), states)
    assert max(seen) == at_once
    assert sum(seen) == len(states)


def test_padding_may_hold_anything_and_an_empty_mask_is_nothing() -> None:
    states, head = drawn(T, H), drawn(V, H, seed=1)
    mask = torch.ones(T)
    mask[::2] = 0
    spoilt = torch.where(mask[:, None] == 0, torch.nan, states).requires_grad_()
    said = in_tiles(lambda logits: logits.logsumexp(-1), spoilt, head, mask=mask)
    (slope,) = slopes((said * mask).sum(), spoilt)
    assert torch.isfinite(said).all()
    assert torch.isfinite(slope).all()
    head = head.requires_grad_()
    said = in_tiles(lambda logits: logits.logsumexp(-1), states, head, mask=torch.zeros(T))
    assert said.sum() == 0
    assert slopes(said.sum(), head)[0].abs().sum() == 0


def test_the_gradient_of_half_precision_is_that_of_double_to_a_few_bits() -> None:
    """The head's gradient is summed in fp32, whatever the states are in."""
    states, head = drawn(512, 64), drawn(V, 64, seed=1)
    theirs = drawn(512, V, seed=3)
    exact = [one.double().requires_grad_() for one in (states, head)]
    wanted = slopes(match.forward_kl(exact[0] @ exact[1].T, theirs.double()).mean(), *exact)
    for kind, bound in ((torch.float32, 1e-6), (torch.bfloat16, 2e-2)):
        mine = [one.to(kind).requires_grad_() for one in (states, head)]
        said = slopes(in_tiles(match.forward_kl, *mine, theirs, tile=32).mean(), *mine)
        for ours, whole in zip(said, wanted, strict=True):
            assert ours.dtype == kind
            assert (ours.double() - whole).norm() < bound * whole.norm()


def test_what_does_not_fit_is_said() -> None:
    states, head = drawn(T, H), drawn(V, H)
    with pytest.raises(UsageError, match=rf"a student's head \[V, {H}\].*got \[{V}, {H + 1}\]"):
        in_tiles(match.cross_entropy, states, drawn(V, H + 1))
    with pytest.raises(UsageError, match=rf"a teacher's head \[V, {H}\]"):
        in_tiles(match.forward_kl, states, head, against=(states, drawn(V, H + 1)))
    with pytest.raises(UsageError, match=rf"of positions \[{T}\], got \[{T - 1}\]"):
        in_tiles(match.cross_entropy, states, head, torch.zeros(T - 1, dtype=torch.long))
    said = in_tiles(lambda logits: logits.logsumexp(-1), states.requires_grad_(), head)
    with pytest.raises(UsageError, match="differentiated once"):
        torch.autograd.grad(said.sum(), states, create_graph=True)
