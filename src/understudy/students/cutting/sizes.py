"""Width: how wide, how many heads, how many units; and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.errors import UsageError
from understudy.students.cutting.axes import Axes


@dataclass(frozen=True)
class Sizes:
    """Hidden size, attention heads, dimensions of a head, feed-forward units."""

    width: int
    heads: int
    head_size: int
    feed_forward: int


def sizes_of(axes: Axes, *, width: int | None, heads: int | None, feed_forward: int | None) -> Sizes:
    """The sizes of a narrower model; what is not said follows: heads keep their size, units their number.

    Raises:
        UsageError: a size that is none, larger than the teacher's, or a width that the heads do not divide.
    """
    there = {"width": (width, axes.width), "heads": (heads, axes.heads)}
    there["feed_forward"] = (feed_forward, axes.feed_forward)
    for name, (wanted, most) in there.items():
        if wanted is not None and not 1 <= wanted <= most:
            raise UsageError(f"{name} of a cut student is between 1 and the teacher's {most}, not {wanted}")
    size = axes.head_size
    if heads is None:
        wide = axes.width if width is None else width
        if wide % size:
            raise UsageError(
                f"a width of {wide} is no number of heads of {size}: {_nearest(wide, size, axes.width)} would work, "
                f"or another number of heads (heads={_divisor(wide, axes.heads)})"
            )
        heads = wide // size
    else:
        wide = heads * size if width is None else width
        if wide % heads:
            raise UsageError(
                f"{heads} heads do not divide a width of {wide}: a width of {_nearest(wide, heads, axes.width)} would "
                f"work, or heads={_divisor(wide, heads)}"
            )
        if wide // heads > size:
            raise UsageError(
                f"{heads} heads in a width of {wide} have {wide // heads} dimensions each, more than the teacher's "
                f"{size}: at least {-(-wide // size)} heads are wanted, or a width of at most {heads * size}"
            )
    return Sizes(wide, heads, wide // heads, feed_forward or axes.feed_forward)


def _nearest(wanted: int, step: int, most: int) -> str:
    """The multiples of a step around a number, as words."""
    below, above = wanted // step * step, -(-wanted // step) * step
    return " or ".join(str(size) for size in dict.fromkeys((below, above)) if step <= size <= most)


def _divisor(wide: int, most: int) -> int:
    """The largest number of heads, up to ``most``, that divides a width."""
    return next(n for n in range(min(most, wide), 0, -1) if wide % n == 0)
