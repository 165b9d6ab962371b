"""Whether two versions of one model say the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from understudy.answers import SPAN, unit
from understudy.errors import UsageError
from understudy.ragged import Ragged


def vector_parity(reference: np.ndarray, candidate: np.ndarray, *, most_error: float) -> dict[str, Any]:
    """How far a candidate's vectors point from the reference's on the same rows.

    >>> vector_parity(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]]), most_error=0.1)["passed"]
    True

    Args:
        reference: [N, D], of any length.
        candidate: [N, D].
        most_error: the gate on the largest of 1 - cosine.

    Returns:
        As `parity`, errors being 1 - cosine, and ``agreement`` the share of rows that hold the gate.
    """
    if reference.shape != candidate.shape or reference.ndim != 2 or not len(reference):
        raise UsageError(f"parity wants two arrays [N, D] with N > 0, got {reference.shape} and {candidate.shape}")
    finite = np.isfinite(candidate).all(axis=1) & np.isfinite(reference).all(axis=1)
    ours, theirs = (unit(np.where(finite[:, None], one, 0.0)).astype(np.float64) for one in (reference, candidate))
    error = np.where(finite, np.maximum(1 - (ours * theirs).sum(axis=1), 0.0), np.inf)
    return {
        "rows": len(reference),
        "max_abs_error": float(error.max()),
        "mean_abs_error": float(error.mean()),
        "agreement": float((error <= most_error).mean()),
        "passed": bool(error.max() <= most_error),
    }


def parity(
    reference: np.ndarray | Ragged,
    candidate: np.ndarray | Ragged,
    *,
    most_error: float | None = None,
    least_agreement: float | None = None,
    spans: bool = False,
) -> dict[str, Any]:
    """How far a candidate's logits are from the reference's on the same rows.

    >>> parity(np.array([[1.0, 0.0]]), np.array([[1.5, 0.0]]), most_error=0.1)["passed"]
    False

    Args:
        reference: logits [N, K] of the model that was measured before (PyTorch, or fp32); of sentences those of all
            words, [M, K], and ``rows`` are words.
        candidate: logits [N, K] of the model that ships.
        most_error: the gate on the largest absolute difference, in logits.
        least_agreement: the gate on the share of rows with the same best label, 0..1.
        spans: whether they are logits of answers in a text, whose rows agree where their answers do.

    Returns:
        ``rows``, ``max_abs_error`` and ``mean_abs_error`` in logits, ``agreement`` 0..1, and ``passed``. A candidate
        with a number that is not finite agrees nowhere on that row and has an infinite error.
    """
    answers = [SPAN.predicted(one) for one in (reference, candidate)] if spans else None
    reference, candidate = _numbers(reference), _numbers(candidate)
    if reference.shape != candidate.shape or reference.ndim != 2 or not len(reference):
        raise UsageError(f"parity wants two arrays [N, K] with N > 0, got {reference.shape} and {candidate.shape}")
    finite = np.isfinite(candidate).all(axis=1) & np.isfinite(reference).all(axis=1)
    error = np.where(finite[:, None], np.abs(reference - candidate), np.inf)
    same = finite & (reference.argmax(axis=1) == candidate.argmax(axis=1))
    found = {
        "rows": len(reference),
        "max_abs_error": float(error.max()),
        "mean_abs_error": float(error.mean()),
        "agreement": float(same.mean() if answers is None else (answers[0] == answers[1]).all(axis=1).mean()),
    }
    passed = (most_error is None or found["max_abs_error"] <= most_error) and (
        least_agreement is None or found["agreement"] >= least_agreement
    )
    return {**found, "passed": bool(passed)}


def _numbers(logits: np.ndarray | Ragged) -> np.ndarray:
    found: np.ndarray = np.asarray(logits.values if isinstance(logits, Ragged) else logits, np.float64)
    return found
