"""Width: how wide, how many heads, how many units; and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.errors import UsageError
from understudy.students.cutting.axes import Axes


@dataclass(frozen=True)
class Sizes:
    """Hidden size, attention heads, those of keys and values, dimensions of a head, feed-forward units."""

    width: int
    heads: int
    key_heads: int
    head_size: int
    feed_forward: int

    @classmethod
    def of(cls, axes: Axes) -> Sizes:
        """Those of a model."""
        return cls(axes.width, axes.heads, axes.key_heads, axes.head_size, axes.feed_forward)


def sizes_of(axes: Axes, *, width: int | None, heads: int | None, feed_forward: int | None) -> Sizes:
    """The sizes of a narrower model; what is not said follows: heads keep their size, units their number.

    Where positions turn the dimensions of a head (`Axes.free`) a head always keeps its size. Where several heads share
    keys and values, all that share some are kept or left out together.

    Raises:
        UsageError: a size that is none, larger than the teacher's, a width that the heads do not divide, or heads that
            are not whole groups.
    """
    there = {"width": (width, axes.width), "heads": (heads, axes.heads)}
    there["feed_forward"] = (feed_forward, axes.feed_forward)
    for name, (wanted, most) in there.items():
        if wanted is not None and not 1 <= wanted <= most:
            raise UsageError(f"{name} of a cut student is between 1 and the teacher's {most}, not {wanted}")
    size, group = axes.head_size, axes.group
    coupled = axes.heads * size == axes.width
    wide = axes.width if width is None else width
    if heads is None and coupled:
        step, what = size * group, f"heads of {size}" if group == 1 else f"groups of {group} heads of {size}"
        if wide % step:
            raise UsageError(
                f"a width of {wide} is no number of {what}: {_nearest(wide, step, axes.width)} would "
                f"work{_heads(wide, axes.heads, group)}"
            )
        heads = wide // size
    elif heads is None:
        heads = axes.heads
    elif width is None and coupled:
        wide = heads * size
    if heads % group:
        raise UsageError(
            f"{heads} heads are no number of groups: {group} heads share keys and values here, so heads is one of "
            f"{', '.join(map(str, range(group, axes.heads + 1, group)))}"
        )
    if wide % heads:
        raise UsageError(
            f"{heads} heads do not divide a width of {wide}: a width of {_nearest(wide, heads, axes.width)} would "
            f"work{_heads(wide, heads, group)}"
        )
    mine = size if axes.free or not coupled else wide // heads
    if mine > size:
        raise UsageError(
            f"{heads} heads in a width of {wide} have {mine} dimensions each, more than the teacher's "
            f"{size}: at least {-(-wide // size)} heads are wanted, or a width of at most {heads * size}"
        )
    return Sizes(wide, heads, heads // group, mine, feed_forward or axes.feed_forward)


def _nearest(wanted: int, step: int, most: int) -> str:
    """The multiples of a step around a number, as words."""
    below, above = wanted // step * step, -(-wanted // step) * step
    return " or ".join(str(size) for size in dict.fromkeys((below, above)) if step <= size <= most)


def _heads(wide: int, most: int, group: int) -> str:
    """The largest number of heads, up to ``most`` and in whole groups, that divides a width, as words; "" if none."""
    found = next((n for n in range(min(most, wide), 0, -1) if wide % n == 0 and n % group == 0), None)
    return "" if found is None else f", or heads={found}"
