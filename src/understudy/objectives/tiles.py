"""Values of language-model logits that never exist all at once: hidden states and heads in, one number a position out.

Logits of T positions over V tokens are the largest thing in the training of a language model, several times over: those
of student and teacher, their logarithms, and a gradient. Here a few positions at a time are multiplied with the heads,
and what is kept of them is their value, the gradient of their hidden states, and their part of the head's gradient. So
the memory is that of one tile, whatever T is, and every product is made once, as without tiles. Within a tile values
are worked out of fewer positions still, whose logits stay in a CPU's cache: what a divergence needs besides them is
small then, and near.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from understudy.errors import UsageError
from understudy.objectives.numerics import wide

__all__ = ["in_tiles"]

Value = Callable[..., Tensor]
Head = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]
_BYTES = 3 << 23  # of the logits of one tile, in fp32, on a CPU
_ELSEWHERE = 1 << 27  # the same on other devices, for which such a tile would be too little work; not measured
_CACHED = 1 << 21  # of those whose value a CPU works out at once
_FEWEST = 16  # positions: products of fewer rows only read the head


class _Tiles(torch.autograd.Function):
    """See `in_tiles`. The head's gradient is summed up as if every position weighed what its mask says."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Value,
        tile: int,
        weights: Tensor,
        states: Tensor,
        head: Tensor,
        bias: Tensor | None,
        against: Head | None,
        others: tuple[Tensor, ...],
    ) -> Tensor:
        ctx.read = partial(_read, value, against, others)
        ctx.tile = tile
        values, (of_states, *ctx.sums) = _walk(ctx, weights, states, head, bias, ctx.needs_input_grad[3:6])
        ctx.save_for_backward(weights, states, head, bias, of_states)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise UsageError("in_tiles can be differentiated once")
        weights, states, head, bias, of_states = ctx.saved_tensors
        wants, (of_head, of_bias), ctx.sums = ctx.needs_input_grad[4:6], ctx.sums, (None, None)
        own = None if of_states is None else (of_states * gradient[:, None]).to(states.dtype)
        share = _share(gradient, weights)
        there = (of_head is not None, of_bias is not None)  # what was summed up is handed out, once
        if any(wants) and (share is None or there != wants):  # positions weigh otherwise: all over again
            again = torch.where(weights != 0, gradient, 0.0)
            _, (_, of_head, of_bias) = _walk(ctx, again, states, head, bias, (False, *wants))
            share = gradient.new_ones(())
        head_slope = None if of_head is None else of_head.mul_(share).to(head.dtype)
        bias_slope = None if of_bias is None else of_bias.mul_(share).to(bias.dtype)
        return None, None, None, own, head_slope, bias_slope, None, None


def in_tiles(
    value: Value,
    states: Tensor,
    head: Tensor,
    *others: Tensor,
    bias: Tensor | None = None,
    against: Head | None = None,
    mask: Tensor | None = None,
    tile: int | None = None,
) -> Tensor:
    """``value(states @ head.T + bias, *others)`` of every position, of a tile of positions at a time.

    Values and slopes are those of the whole, the head's gradient is summed up in fp32 at least. It can be
    differentiated once.

    Args:
        value: ``(logits [n, V], *others) -> [n]``, each position by itself: a function of `divergences`, for one.
        states: [..., H] of the student.
        head: [V, H].
        others: [..., *] what else ``value`` reads of each position, without gradient: labels, stored targets.
        bias: [V].
        against: states [..., H'], head [V', H'] and perhaps bias [V'] of a teacher, whose logits are the first of the
            others, and have no gradient.
        mask: [...] what each position weighs in the sum that is differentiated; where it is 0 the value is 0, and
            nothing is computed. A gradient in another proportion than the mask is right too, and costs a second pass.
        tile: positions at a time; chosen by V unless said.

    Returns:
        [...] fp32; fp64 of states in fp64.

    >>> states, head = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> in_tiles(lambda logits: logits.logsumexp(-1), states, head)
    tensor([1.8620, 1.8620])

    Raises:
        UsageError: states and head do not fit, or anything else has other positions.
    """
    shape, taught = states.shape[:-1], [*others, *([] if against is None else [against[0]])]
    for what, tensor, wanted in (("a student's head", head, states), *_heads(against)):
        if tensor.ndim != 2 or tensor.shape[1] != wanted.shape[-1]:
            raise UsageError(
                f"wanted {what} [V, {wanted.shape[-1]}] for states {list(wanted.shape)}, got {list(tensor.shape)}"
            )
    for one in (*taught, *([] if mask is None else [mask])):
        if one.shape[: len(shape)] != shape:
            raise UsageError(f"wanted everything of positions {list(shape)}, got {list(one.shape)}")
    positions = shape.numel()
    weights = torch.ones(positions, device=states.device) if mask is None else wide(mask).detach().reshape(-1)
    most = _BYTES if states.device.type == "cpu" else _ELSEWHERE
    step = tile or max(_FEWEST, most // (4 * len(head)))
    flat = [one.detach().reshape(positions, *one.shape[len(shape) :]) for one in taught]
    theirs = None if against is None else (flat.pop(), *(part.detach() for part in against[1:]))
    given: Any = (value, step, weights, states.reshape(positions, -1), head, bias, theirs, tuple(flat))
    said: Tensor = _Tiles.apply(*given)
    return said.view(shape)


def _heads(against: Head | None) -> list[tuple[str, Tensor, Tensor]]:
    return [] if against is None else [("a teacher's head", against[1], against[0])]


def _read(
    value: Value, against: Head | None, others: tuple[Tensor, ...], rows: Tensor, logits: Tensor, slopes: bool
) -> Tensor:
    """The value of some positions, a few at a time; the logits' memory holds their slopes then, if these are wanted."""
    theirs = [] if against is None else [_logits(against[0][rows], *against[1:])]
    parts = [one.split(_few(logits)) for one in (logits, *theirs, *(one[rows] for one in others))]
    values = []
    for own, *rest in zip(*parts, strict=True):
        leaf = own.detach().requires_grad_(slopes)
        with torch.enable_grad():
            said = value(leaf, *rest)
            total = said.sum()
        values.append(said.detach())
        if slopes:
            own.copy_(torch.autograd.grad(total, leaf)[0])
    return torch.cat(values)


def _few(logits: Tensor) -> int:
    """Positions whose value is worked out at once: on a CPU what fits its cache, elsewhere all of a tile."""
    return len(logits) if logits.device.type != "cpu" else max(1, _CACHED // (logits.element_size() * logits.shape[1]))


def _logits(states: Tensor, head: Tensor, bias: Tensor | None = None) -> Tensor:
    return wide(states @ head.T if bias is None else torch.addmm(bias, states, head.T))


def _walk(
    ctx: Any, weights: Tensor, states: Tensor, head: Tensor, bias: Tensor | None, wants: tuple[bool, bool, bool]
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:
    """Values of all positions, and the slopes that are wanted: of states unweighted, of head and bias weighted."""
    kept = torch.promote_types(states.dtype, torch.float32)
    values = torch.zeros(len(states), dtype=kept, device=states.device)
    of_states = torch.zeros_like(states, dtype=kept) if wants[0] else None
    of_head = torch.zeros_like(head, dtype=kept) if wants[1] else None
    of_bias = torch.zeros_like(bias, dtype=kept) if wants[2] and bias is not None else None
    for rows in weights.nonzero()[:, 0].split(ctx.tile):
        own = states[rows]
        logits = _logits(own, head, bias)
        values[rows] = ctx.read(rows, logits, any(wants)).to(kept)
        if not any(wants):
            continue
        slope = logits.to(head.dtype)
        if of_states is not None:
            of_states[rows] = (slope @ head).to(kept)
        if of_head is None and of_bias is None:
            continue
        slope *= weights[rows, None].to(slope.dtype)
        if of_head is not None:
            _add(of_head, slope, own)
        if of_bias is not None:
            of_bias += slope.sum(0, dtype=kept)
    return values, (of_states, of_head, of_bias)


def _add(sums: Tensor, slope: Tensor, own: Tensor) -> None:
    if sums.dtype == slope.dtype:
        sums.addmm_(slope.T, own)
    else:
        sums += slope.T @ own


def _share(gradient: Tensor, weights: Tensor) -> Tensor | None:
    """c where the gradient is c times the weights; None where it is not."""
    there = weights != 0
    if not there.any():
        return gradient.new_zeros(())
    some, wanted = gradient[there], weights[there]
    share = some[0] / wanted[0]
    return share if torch.allclose(some, share * wanted, rtol=1e-6, atol=0.0) else None
