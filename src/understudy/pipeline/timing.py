"""Speed as it is declared: on so many threads, from the raw row to the answer, each model in its best configuration."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from understudy import runtime
from understudy.encoding import Encoder
from understudy.evaluation import latency, throughput
from understudy.pipeline.journal import Facts
from understudy.teachers import Loaded, score_rows

BATCHES = (32, 256, 4096)
Predict = Callable[[Sequence[Any]], Any]


@contextmanager
def declared_threads(threads: int) -> Iterator[None]:
    """PyTorch and every BLAS on exactly so many threads, and back."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        torch.set_num_threads(before)


def in_torch(model: nn.Module, encoder: Encoder) -> Predict:
    """raw rows -> logits through PyTorch, with the encoder's own work counted."""

    def predict(rows: Sequence[Any]) -> Any:
        return score_rows(
            model, encoder, {name: [row[name] for row in rows] for name in encoder.fields}, batch_size=256
        )

    return predict


def of_teacher(teacher: Loaded) -> Predict:
    """raw rows -> logits of a teacher, whatever it is: a module through PyTorch, a function by itself."""
    fields = teacher.encoder.fields

    def predict(rows: Sequence[Any]) -> Any:
        return teacher.scores({name: [row[name] for row in rows] for name in fields}, batch_size=256)

    return predict


def speed_of(teacher: Loaded, rows: Sequence[Any], *, threads: int, **more: Any) -> Facts:
    """As ``timed``; of a teacher that keeps its own time, what it took while it labelled."""
    if teacher.speed is not None:
        return teacher.speed(threads)
    return timed(of_teacher(teacher), rows, threads=threads, **more)


def timed(
    predict: Predict, rows: Sequence[Any], *, threads: int, latency_rows: int, cost: Callable[[Any], int]
) -> Facts:
    """``latency_ms`` and the best ``throughput_per_s`` over some batch sizes, on real rows sorted by length."""
    with declared_threads(threads):
        predict(rows[:2])
        began = time.perf_counter()
        predict(rows[:16])
        each = max((time.perf_counter() - began) / 16, 1e-6)
        ones = spread(rows, min(latency_rows, max(20, int(4 / each))))
        found = latency(lambda row: predict([row]), ones, threads=threads, warmup=min(20, len(ones)))
        some = sorted(spread(rows, min(4096, max(128, int(1.0 / each)))), key=cost)
        speeds = [
            throughput(predict, some, batch=batch, threads=threads, seconds=0.5, passes=3)
            for batch in BATCHES
            if batch == BATCHES[0] or len(some) >= batch
        ]
    return {"latency_ms": found, "throughput_per_s": max(speeds, key=lambda speed: speed["value"])}


def spread(rows: Sequence[Any], most: int) -> list[Any]:
    """At most so many rows, evenly taken from all: a sample with the lengths of the whole."""
    most = min(most, len(rows))
    return [rows[i * len(rows) // most] for i in range(most)]


def best_of(
    own_facts: Facts,
    write: Callable[[Path], None] | None,
    rows: Sequence[Any],
    *,
    threads: int,
    engine: str = "torch",
    **more: Any,
) -> Facts:
    """The faster of a model's own engine and ONNX Runtime, and which one it is.

    Args:
        own_facts: as ``timed`` measured it.
        write: writes the model as an artefact folder; None where it has no ONNX form.
        engine: its own: torch, or python for a function.
    """
    choices = {engine: own_facts}
    if write is not None:
        with tempfile.TemporaryDirectory(prefix="understudy-") as place:
            write(Path(place) / "fp32")
            predictor = runtime.load(Path(place) / "fp32", threads=threads)
            choices["onnxruntime"] = timed(
                lambda some: predictor.numbers(some, batch=len(some)), rows, threads=threads, **more
            )
    engine = max(choices, key=lambda name: choices[name]["throughput_per_s"]["value"])
    others = {name: facts["throughput_per_s"]["value"] for name, facts in choices.items()}
    return {**choices[engine], "engine": engine, "engines": others}
