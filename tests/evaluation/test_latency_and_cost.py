"""Clocks and money."""

from __future__ import annotations

import json
import time

import pytest

from understudy.errors import DataError, UsageError
from understudy.evaluation import cost, latency, throughput


def test_latency_counts_every_row_and_no_warm_up() -> None:
    seen: list[int] = []

    def predict_one(row: int) -> None:
        seen.append(row)
        time.sleep(0.02 if row == 9 else 0.001)

    got = latency(predict_one, range(10), threads=1, warmup=3, repeats=2)
    assert seen == [0, 1, 2, *range(10), *range(10)]
    assert got["calls"] == 20
    assert got["batch"] == 1
    assert got["threads"] == 1
    assert 1 <= got["p50"] < got["p95"] <= got["p99"]
    assert got["p99"] >= 20  # milliseconds, and the slow row is in the tail
    with pytest.raises(DataError):
        latency(predict_one, [], threads=1)


def test_throughput_takes_the_best_pass_over_all_rows() -> None:
    sizes: list[int] = []

    def predict(rows: list[int]) -> None:
        sizes.append(len(rows))
        time.sleep(0.03 if len(sizes) < 4 else 0.002)  # a slow start must not count

    got = throughput(predict, list(range(10)), batch=4, threads=2, seconds=0.0, passes=3)
    assert sizes == [4] + [4, 4, 2] * 3
    assert got["batch"] == 4
    assert got["threads"] == 2
    assert got["passes"] == 3
    assert 10 / 0.03 < got["value"] <= 10 / 0.006
    with pytest.raises(UsageError):
        throughput(predict, [1], batch=0, threads=1)


def test_throughput_spends_the_time_it_is_given() -> None:
    got = throughput(lambda rows: time.sleep(0.005), [1, 2], batch=2, threads=1, seconds=0.1, passes=1)
    assert 5 <= got["passes"] <= 25


def given(**changes) -> dict:
    basis = {"label_seconds": 3600.0, "teacher_calls": 100_000, "train_seconds": 1800.0, "twin_seconds": 1800.0}
    return cost(**(basis | changes))


def test_break_even_against_a_priced_teacher() -> None:
    """Spent: an hour of machine at 2, 0.1 million calls at 10. A million calls save 10 - 1e6 / 1000 / 3600 * 2."""
    got = given(calls_per_day=50_000, teacher_cost_per_million=10, artefact_per_second=1000, machine_price_per_hour=2)
    assert got["spent"] == pytest.approx(2 + 1)
    assert got["student_cost_per_million"] == pytest.approx(0.5556, abs=1e-4)
    assert got["break_even_days"] == pytest.approx(3 / (0.05 * (10 - 0.55556)), rel=1e-4)
    assert got["sentence"].startswith("Pays for itself after 6.4 days at 50,000 calls a day")


def test_break_even_in_machine_time() -> None:
    got = given(calls_per_day=1e6, teacher_per_second=10, artefact_per_second=1000, machine_price_per_hour=0.36)
    assert got["teacher_cost_per_million"] == pytest.approx(10)
    assert got["student_cost_per_million"] == pytest.approx(0.1)
    assert got["spent"] == pytest.approx(0.72)  # two hours
    assert got["break_even_days"] == pytest.approx(0.72 / 9.9)
    assert "less than a day" in got["sentence"]
    assert "counts as 0.36" in got["sentence"]


def test_not_worth_it_is_said() -> None:
    dearer = given(calls_per_day=1e6, teacher_per_second=1000, artefact_per_second=900)
    assert dearer["break_even_days"] is None
    assert dearer["sentence"].startswith("Not worth it")
    slow = given(calls_per_day=10, teacher_cost_per_million=10, artefact_per_second=1000)
    assert slow["break_even_days"] > 365
    assert slow["sentence"].startswith("Not worth it: at 10 calls a day")


def test_without_prices_there_is_no_claim() -> None:
    got = given()
    assert got["break_even_days"] is None
    assert "not measured" in got["sentence"]
    calls = given(teacher_cost_per_million=10, artefact_per_second=1000)
    assert calls["break_even_days"] is None
    assert "calls:" in calls["sentence"]
    assert {"label_seconds", "teacher_calls", "train_seconds", "twin_seconds"} <= set(got)
    json.dumps(got, allow_nan=False)
