"""Depth: which layers of a stack a student keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from understudy.errors import UsageError, choices

Spread = Literal["uniform", "first", "last"]
SPREADS = ("uniform", "first", "last")


def uniform_layers(total: int, kept: int) -> list[int]:
    """Which ``kept`` of ``total`` layers to keep, evenly spaced, the first always among them: floor(i * total / kept).

    With ``kept`` half of ``total`` that is every other layer, as DistilBERT began (Sanh et al. 2019). Two neighbours
    are never further apart than ceil(total / kept) nor closer than floor(total / kept).

    >>> uniform_layers(6, 3), uniform_layers(12, 4), uniform_layers(6, 4)
    ([0, 2, 4], [0, 3, 6, 9], [0, 1, 3, 4])

    Raises:
        UsageError: ``kept`` outside 1 .. ``total``.
    """
    if not 1 <= kept <= total:
        raise UsageError(f"a student keeps between 1 and {total} of {total} layers, not {kept}")
    return [i * total // kept for i in range(kept)]


def chosen_layers(layers: Sequence[int] | int | None, total: int, spread: str = "uniform") -> list[int]:
    """Layers by number: as they are listed, or so many of them, spread as asked; None: half of them.

    >>> chosen_layers(2, 6), chosen_layers(2, 6, "first"), chosen_layers(2, 6, "last"), chosen_layers([1, 5], 6)
    ([0, 3], [0, 1], [4, 5], [1, 5])

    Raises:
        UsageError: layers that are not there, a spread that is not known, or one for layers that are listed.
    """
    if spread not in SPREADS:
        raise UsageError(f'no spread of layers "{spread}": {choices(spread, SPREADS)}')
    if layers is None or isinstance(layers, int):
        even = uniform_layers(total, max(1, total // 2) if layers is None else layers)
        kept = len(even)
        return {"uniform": even, "first": list(range(kept)), "last": list(range(total - kept, total))}[spread]
    chosen = [int(layer) for layer in layers]
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= total:
        raise UsageError(f"layers are increasing numbers from 0 to {total - 1}, at least one, got {list(layers)}")
    if spread != "uniform":
        raise UsageError(f'layers {chosen} are listed one by one, so there is nothing to spread: leave "{spread}" out')
    return chosen
