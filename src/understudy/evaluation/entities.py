"""Which entities are found, mistaken, missed and made up, by teacher and artefact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy import tags
from understudy.evaluation.scored import Scored
from understudy.statistics import benjamini_hochberg, mcnemar

Spans = NDArray[np.int64]
SHOWN, LONGEST = 12, 40  # sentences of the evidence, and words from which others go before them


def per_type(teacher: Scored, artefact: Scored, *, label_names: Sequence[str]) -> list[dict[str, Any]]:
    """F1 of the entities of each type that some row has, the greatest loss first.

    The exact McNemar test compares who finds the entities that are there, one by one, adjusted over the types.

    Returns:
        ``{"label", "teacher", "artefact", "p_value", "rows", "measure"}`` per type; ``rows`` are entities.
    """
    types = tags.types_of(label_names)
    truth = _spans(teacher.labels, teacher.labels)
    ours, theirs = (_spans(one.labels, one.predicted) for one in (teacher, artefact))
    kept, found = (_among(truth, said) for said in (ours, theirs))
    kinds = truth[:, 3]
    present = np.unique(kinds).tolist()
    tests = [mcnemar(int((kept & ~found)[kinds == k].sum()), int((~kept & found)[kinds == k].sum())) for k in present]
    table = [
        {
            "label": types[k],
            "teacher": _f1(kept, ours, kinds, k),
            "artefact": _f1(found, theirs, kinds, k),
            "p_value": float(p),
            "rows": int((kinds == k).sum()),
            "measure": "entity_f1",
        }
        for k, p in zip(present, benjamini_hochberg(tests), strict=True)
    ]
    return sorted(table, key=lambda line: line["artefact"] - line["teacher"])


def span_facts(
    words: Sequence[Sequence[str]], teacher: Scored, artefact: Scored, *, label_names: Sequence[str], most: int = SHOWN
) -> dict[str, Any]:
    """The ``spans`` of evidence.json.

    Args:
        words: of the test rows.
        teacher: scores on them.
        artefact: scores on them.
        label_names: of all tags.
        most: sentences that are shown.

    Returns:
        ``types``: names, in the order of the data.

        ``confusion``: for ``teacher`` and ``artefact`` each a table of counts, [T + 1][T + 1]. A row is a type of the
        data, a column what was said of exactly the same words; the last of either is no entity. So a row sums to the
        entities of a type, a column to those that were said, and one of which an end is wrong is both missed and made
        up, as entity F1 counts it.

        ``lost``: sentences with entities that the teacher has right and the artefact has not: ``{"row", "words",
        "gold", "teacher", "artefact"}``, the last three lists of ``[start, end, type]``, words counted from 0, ``end``
        not included; those with the most such entities first, and of equals the shortest.
    """
    types = tags.types_of(label_names)
    truth = _spans(teacher.labels, teacher.labels)
    said = {
        "teacher": _spans(teacher.labels, teacher.predicted),
        "artefact": _spans(artefact.labels, artefact.predicted),
    }
    lost = _among(truth, said["teacher"]) & ~_among(truth, said["artefact"])
    counts = np.bincount(truth[lost, 0], minlength=len(words))
    lengths = np.array([len(sentence) for sentence in words])
    order = np.lexsort((lengths, -counts, lengths > LONGEST))
    shown = [int(row) for row in order if counts[row]][:most]
    return {
        "types": list(types),
        "confusion": {name: _confused(truth, one, len(types)) for name, one in said.items()},
        "lost": [
            {
                "row": row,
                "words": list(words[row]),
                "gold": _listed(truth, row, types),
                **{name: _listed(one, row, types) for name, one in said.items()},
            }
            for row in shown
        ],
    }


def _spans(labels: NDArray[Any], predicted: NDArray[Any]) -> Spans:
    return tags.spans(tags.side_by_side(labels, predicted)[1])


def _among(these: Spans, those: Spans) -> NDArray[np.bool_]:
    """[S]: which of the first are in the second, words and type."""
    words = 1 + int(max(these[:, 2].max(initial=0), those[:, 2].max(initial=0)))
    types = 1 + int(max(these[:, 3].max(initial=0), those[:, 3].max(initial=0)))
    return np.isin(tags.keys(these, words, types), tags.keys(those, words, types))


def _f1(right: NDArray[np.bool_], said: Spans, kinds: NDArray[np.int64], kind: int) -> float:
    there, given = int((kinds == kind).sum()), int((said[:, 3] == kind).sum())
    return 2 * float((right & (kinds == kind)).sum()) / max(there + given, 1)


def _confused(truth: Spans, said: Spans, types: int) -> list[list[int]]:
    there = {(row, start, end): kind for row, start, end, kind in truth.tolist()}
    given = {(row, start, end): kind for row, start, end, kind in said.tolist()}
    table = [[0] * (types + 1) for _ in range(types + 1)]
    for place in {**there, **given}:
        table[there.get(place, types)][given.get(place, types)] += 1
    return table


def _listed(spans: Spans, row: int, types: Sequence[str]) -> list[list[Any]]:
    return [[start, end, types[kind]] for _, start, end, kind in spans[spans[:, 0] == row].tolist()]
