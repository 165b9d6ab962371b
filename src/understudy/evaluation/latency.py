"""Time on real rows: percentiles one row at a time, and the best throughput in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from understudy.errors import DataError, UsageError


def latency(
    predict_one: Callable[[Any], object],
    rows: Sequence[Any],
    *,
    threads: int,
    warmup: int = 20,
    repeats: int = 1,
) -> dict[str, float | int]:
    """Milliseconds from one raw row to its label.

    Args:
        predict_one: raw row -> anything; must have finished when it returns.
        rows: real rows of the test split, taken in order, so that short and long ones count as they come.
        threads: that the predictor was given; only stated, set it before.
        warmup: calls that are not counted.
        repeats: passes over the rows.

    Returns:
        ``{"p50", "p95", "p99", "batch": 1, "threads", "calls"}``, milliseconds.
    """
    if not len(rows) or repeats < 1:
        raise DataError(f"latency needs a row and a repeat at least, got {len(rows)} and {repeats}")
    for call in range(warmup):
        predict_one(rows[call % len(rows)])
    nanoseconds = np.empty((repeats, len(rows)))
    for repeat in range(repeats):
        for index, row in enumerate(rows):
            start = time.perf_counter_ns()
            predict_one(row)
            nanoseconds[repeat, index] = time.perf_counter_ns() - start
    p50, p95, p99 = (float(p) for p in np.percentile(nanoseconds / 1e6, [50, 95, 99]))
    return {"p50": p50, "p95": p95, "p99": p99, "batch": 1, "threads": threads, "calls": int(nanoseconds.size)}


def throughput(
    predict: Callable[[Sequence[Any]], object],
    rows: Sequence[Any],
    *,
    batch: int,
    threads: int,
    seconds: float = 2.0,
    passes: int = 3,
) -> dict[str, float | int]:
    """Rows per second, the best of several passes over the same rows: noise only ever slows a pass down.

    Args:
        predict: a list of at most ``batch`` raw rows -> anything; must have finished when it returns.
        rows: real rows; sort them by length first if the model may choose its order.
        batch: rows per call; the last one may be shorter.
        threads: that the predictor was given; only stated, set it before.
        seconds: to be spent at least, after one batch that is not counted.
        passes: to be made at least, however long they take.

    Returns:
        ``{"value", "batch", "threads", "passes"}``, rows per second.
    """
    if not len(rows) or batch < 1 or passes < 1:
        raise UsageError(f"throughput needs rows, a batch and a pass, got {len(rows)}, {batch} and {passes}")
    batches = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    predict(batches[0])
    best, spent, made = float("inf"), 0.0, 0
    while made < passes or spent < seconds:
        start = time.perf_counter_ns()
        for one in batches:
            predict(one)
        took = (time.perf_counter_ns() - start) / 1e9
        best, spent, made = min(best, took), spent + took, made + 1
        if took == 0:  # a clock too coarse for these rows: stop rather than spin
            break
    return {"value": len(rows) / max(best, 1e-9), "batch": batch, "threads": threads, "passes": made}
