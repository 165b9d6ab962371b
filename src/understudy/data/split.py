"""Splitting by content, and counting what two splits share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from understudy.data.examples import Examples, Splits
from understudy.errors import DataError, UsageError
from understudy.files import content_hash


def split_off(
    examples: Examples, shares: Mapping[str, float], *, seed: int, source: str
) -> tuple[Examples, dict[str, Examples]]:
    """Takes one split per share out of labelled rows; what is left is for training.

    Every distinct content is one unit, so duplicates of a row land in one split. The units are sorted by (label, hash
    of seed and key), and each share takes every (1/share)-th of them: proportional in every class, the right total
    even where no class is large enough by itself, and independent of the order of the rows. The first unit of each
    class stays in training, so no class is left without.

    Args:
        examples: labelled rows.
        shares: name of the split -> share of the rows, in (0, 1), together below 1.
        seed: another seed, another split.
        source: what to call the rows in an error.

    Raises:
        UsageError: shares outside their range.
        DataError: too few different rows.
    """
    if any(not 0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        raise UsageError(
            f"shares of the splits lie between 0 and 1 and leave some rows to train on; got {dict(shares)}"
        )
    units = _units(examples, seed)
    candidates = [key for first, key in zip(_first_of_class(units), [u[2] for u in units], strict=True) if not first]
    chosen: dict[str, str] = {}
    for name, share in shares.items():
        free = [key for key in candidates if key not in chosen]
        wanted = min(max(1, round(share * len(units))), len(free))
        if wanted == 0:
            raise DataError(
                f"{source} has {len(examples):,} rows with {len(units):,} different contents in "
                f"{len({u[0] for u in units})} classes, too few to split {' and '.join(shares)} off: "
                "add rows, or give these splits as files of their own"
            )
        step = len(free) / wanted
        chosen.update((free[int((i + 0.5) * step)], name) for i in range(wanted))
    where = np.array([chosen.get(key, "") for key in examples.keys])
    taken = {name: examples.take(np.flatnonzero(where == name)) for name in shares}
    return examples.take(np.flatnonzero(where == "")), taken


def _units(examples: Examples, seed: int) -> list[tuple[int, str, str]]:
    """(label, rank, key) of each distinct content, sorted; of conflicting labels the commonest, then the smallest.

    Only one label of several divides rows into classes: scores and lists of labels are one class.
    """
    votes: dict[str, Counter[int]] = {}
    strata = examples.labels.tolist() if examples.labels.dtype.kind == "i" and examples.labels.ndim == 1 else None
    for row, key in enumerate(examples.keys):
        votes.setdefault(key, Counter())[0 if strata is None else strata[row]] += 1
    best = {key: min(counter, key=lambda label: (-counter[label], label)) for key, counter in votes.items()}
    return sorted((label, content_hash(str(seed), key), key) for key, label in best.items())


def _first_of_class(units: Sequence[tuple[int, str, str]]) -> list[bool]:
    return [i == 0 or units[i - 1][0] != unit[0] for i, unit in enumerate(units)]


def stratified(labels: NDArray[np.int64], shares: Sequence[float], *, seed: int) -> list[NDArray[np.int64]]:
    """Row positions of each share, proportional in every class; the last share takes what rounding leaves.

    For data without duplicates whose rows have no stable content of their own (bundled arrays).
    """
    rng = np.random.default_rng(seed)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in shares]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.round(np.cumsum(shares)[:-1] * len(rows)).astype(int)
        for part, piece in zip(parts, np.split(rows, cuts), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)).astype(np.int64) for part in parts]


def leaks(splits: Splits) -> dict[str, int]:
    """Rows that splits share, by content.

    Returns:
        ``A_in_B``: rows of split A whose content is also in B (for evaluation splits in what is learned from, and test
        in validation); ``duplicates_in_A``: rows of A beyond the first with their content; ``conflicting``: distinct
        contents that carry two or more labels, all splits together. Of texts in pairs the first and
        ``duplicates_in_train`` alone.
    """
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    if splits.unlabelled is not None:
        parts["unlabelled"] = splits.unlabelled
    known = {name: set(part.keys) for name, part in parts.items()}
    pairs = [("validation", "train"), ("test", "train"), ("test", "validation")]
    pairs += [("validation", "unlabelled"), ("test", "unlabelled")] if "unlabelled" in parts else []
    found = {f"{a}_in_{b}": sum(key in known[b] for key in parts[a].keys) for a, b in pairs}
    if splits.couples:  # a text is in as many pairs as it likes, with other scores
        return found | {"duplicates_in_train": len(splits.train) - len(known["train"])}
    found |= {f"duplicates_in_{name}": len(part) - len(known[name]) for name, part in parts.items()}
    said: dict[str, set[bytes]] = {}
    for part in parts.values():
        for key, label, known in zip(part.keys, part.labels, part.known.tolist(), strict=True):
            if known:
                said.setdefault(key, set()).add(label.tobytes())
    return found | {"conflicting": sum(len(labels) > 1 for labels in said.values())}


def leak_notes(splits: Splits) -> tuple[str, ...]:
    """What ``leaks`` counts, as sentences; nothing where nothing is shared."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    notes = []
    for name, count in leaks(splits).items():
        if not count:
            continue
        if name == "conflicting":
            answer = (
                "score" if splits.scale is not None else "label" if splits.train.labels.ndim == 1 else "set of labels"
            )
            notes.append(f"{_are(count, 'content')} there with more than one {answer}")
        elif name.startswith("duplicates_in_"):
            where = name.removeprefix("duplicates_in_")
            notes.append(f"{_are(count, f'row of {where}', f'rows of {where}')} a repetition of an earlier one")
        else:
            a, b = name.split("_in_")
            notes.append(f"{count:,} of {len(parts[a]):,} {a} rows {'is' if count == 1 else 'are'} also in {b}")
    return tuple(notes)


def _are(count: int, one: str, many: str | None = None) -> str:
    return f"1 {one} is" if count == 1 else f"{count:,} {many or one + 's'} are"
