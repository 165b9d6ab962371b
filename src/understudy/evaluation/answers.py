"""Questions whose answer moved between teacher and artefact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from understudy.evaluation.scored import Scored

SHOWN, LONGEST = 12, 1200  # questions of the evidence, and letters from which texts go behind the others


def moved_answers(
    questions: Sequence[str], teacher: Scored, artefact: Scored, *, most: int = SHOWN
) -> list[dict[str, Any]]:
    """The ``answers`` of evidence.json: those questions first on which the artefact loses most F1, then shorter texts.

    Args:
        questions: of the test rows.
        teacher: scores on them.
        artefact: scores on them.
        most: questions that are shown.

    Returns:
        Of each ``question``, ``context``, ``gold`` (the different answers of the data, none where the text has none),
        and what ``teacher`` and ``artefact`` say, None where they say that there is no answer.
    """
    ours, theirs = teacher.predicted, artefact.predicted
    other = np.flatnonzero((ours != theirs).any(axis=1))
    lost = [_f1(teacher, row) - _f1(artefact, row) for row in other.tolist()]
    lengths = np.array([len(teacher.labels[row].context) for row in other.tolist()], np.int64)
    order = np.lexsort((lengths, -np.array(lost), lengths > LONGEST))
    return [_shown(questions[row], teacher, artefact, row) for row in other[order].tolist()][:most]


def _f1(scored: Scored, row: int) -> float:
    return float(scored.labels[row].scores(*scored.predicted[row].tolist())[1])


def _shown(question: str, teacher: Scored, artefact: Scored, row: int) -> dict[str, Any]:
    gold = teacher.labels[row]
    said = {n: gold.said(*one.predicted[row].tolist()) for n, one in (("teacher", teacher), ("artefact", artefact))}
    return {
        "question": question,
        "context": gold.context,
        "gold": list(dict.fromkeys(gold.texts)),
        **{name: text or None for name, text in said.items()},
    }
