"""Aligning a teacher's columns with the labels of the data: by name, shown, and refused with a reason otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from understudy.errors import LabelError

_GENERIC = re.compile(r"LABEL_(\d+)", re.IGNORECASE)
_ADVICE = (
    "fine-tune the teacher on these labels (--set teacher.fine_tune=always) or correct id2label in its config.json"
)


@dataclass(frozen=True)
class Alignment:
    """Which column of the teacher belongs to each label of the data.

    Attributes:
        order: [K] columns of the teacher in the order of the data's labels: ``logits[:, order]``.
        permuted: whether any column moves.
        sentence: one sentence for the log and the report.
        teacher_labels: the teacher's own names in the order of its columns.
    """

    order: tuple[int, ...]
    permuted: bool
    sentence: str
    teacher_labels: tuple[str, ...]


def align(teacher_id2label: Mapping[int, str] | Mapping[str, str], label_names: Sequence[str]) -> Alignment:
    """Aligns by exact name, then without case, underscores and spaces, then by position for ``LABEL_0``-like names.

    >>> align({0: "Music", 1: "TRAVEL_HOTEL"}, ["travel hotel", "music"]).order
    (1, 0)

    Args:
        teacher_id2label: column -> name, as in a Hugging Face config; keys may be strings of digits.
        label_names: names of the data's labels, [K], in the order of its label ids.

    Raises:
        LabelError: when a label has no column, a column has no label, or names are ambiguous.
    """
    theirs = _columns(teacher_id2label)
    ours = [str(name) for name in label_names]
    for how, plain in (("", str), (" (ignoring case, spaces and underscores)", _plain)):
        found = _match([plain(name) for name in theirs], [plain(name) for name in ours])
        if found is not None:
            return _aligned(found, theirs, how)
    if _generic(theirs) and len(theirs) == len(ours):
        sentence = (
            f"labels by position: the teacher only has generic names ({_short(theirs, 2)}), so its column 0 is taken "
            f'for "{ours[0]}", and so on; check the teacher\'s score'
        )
        return Alignment(tuple(range(len(ours))), False, sentence, tuple(theirs))
    raise LabelError(_why(theirs, ours))


def _columns(id2label: Mapping[int, str] | Mapping[str, str]) -> list[str]:
    try:
        named = {int(column): str(name) for column, name in id2label.items()}
    except (TypeError, ValueError):
        raise LabelError(f"wanted column numbers as keys of the teacher's id2label, got {list(id2label)[:5]}") from None
    if sorted(named) != list(range(len(named))):
        raise LabelError(f"wanted the teacher's id2label to name columns 0..{len(named) - 1}, got {sorted(named)[:8]}")
    return [named[column] for column in range(len(named))]


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_]+", name.casefold().strip(" _\t\n")))


def _match(theirs: list[str], ours: list[str]) -> tuple[int, ...] | None:
    """Columns in our order, or None unless the names are unique and the same on both sides."""
    column = {name: index for index, name in enumerate(theirs)}
    unique = len(column) == len(theirs) and len(set(ours)) == len(ours)
    return tuple(column[name] for name in ours) if unique and set(ours) == set(theirs) else None


def _aligned(order: tuple[int, ...], theirs: list[str], how: str) -> Alignment:
    moved = sum(column != index for index, column in enumerate(order))
    if not moved:
        sentence = f"labels: teacher and data have the same {len(order)} names in the same order{how}"
    else:
        sentence = (
            f"labels: teacher and data have the same {len(order)} names in another order{how}; "
            f"{moved} of the teacher's columns are moved to the data's order"
        )
    return Alignment(order, bool(moved), sentence, tuple(theirs))


def _generic(names: list[str]) -> bool:
    numbers = [_GENERIC.fullmatch(name) for name in names]
    return bool(names) and all(found and int(found[1]) == index for index, found in enumerate(numbers))


def _why(theirs: list[str], ours: list[str]) -> str:
    lists = f"the teacher's {len(theirs)}: {_short(theirs)}; the data's {len(ours)}: {_short(ours)}"
    their_names, our_names = {_plain(name) for name in theirs}, {_plain(name) for name in ours}
    missing = [name for name in ours if _plain(name) not in their_names]
    extra = [name for name in theirs if _plain(name) not in our_names]
    if _generic(theirs):
        reason = f"the teacher has {len(theirs)} nameless columns and the data {len(ours)} labels"
    elif not missing and not extra:
        reason = "several names are the same but for case, spaces or underscores"
    else:
        parts = [f"the teacher lacks {_short(missing)}"] if missing else []
        parts += [f"the data lacks {_short(extra)}"] if extra else []
        reason = " and ".join(parts)
    return f"the teacher's labels do not fit the data: {reason}. Labels: {lists}. Do: {_ADVICE}"


def _short(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f'"{name if len(name) <= 40 else name[:37] + "..."}"' for name in names[:most])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > most else shown
