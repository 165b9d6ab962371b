"""The dials: where a learning rate starts, peaks and ends, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.errors import UsageError
from understudy.training import Settings


def rates(steps: int, **dials: Any) -> list[float]:
    settings = Settings(learning_rate=2.0, **dials)
    return [settings.learning_rate_at(step, steps) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.06, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 1000])
def test_every_schedule_rises_to_the_peak_and_falls_from_it(schedule: str, warmup: float, steps: int) -> None:
    found = rates(steps, schedule=schedule, warmup=warmup)
    warm = round(warmup * steps)
    assert max(found) == 2.0  # the peak is reached, and nothing is above it
    assert min(found) > 0.0
    assert found[:warm] == pytest.approx([2.0 * (i + 1) / warm for i in range(warm)])
    assert found[warm:] == sorted(found[warm:], reverse=True)
    if schedule == "constant":
        assert set(found[warm:]) <= {2.0}
    elif steps == 1000 and warmup < 1:
        assert found[-1] < 0.005
        middle = found[warm + (steps - warm) // 2]
        assert middle == pytest.approx(1.0, abs=0.01)


def test_endpoints() -> None:
    assert rates(4, warmup=0.0) == [2.0, 1.5, 1.0, 0.5]
    assert rates(4, warmup=0.5) == [1.0, 2.0, 2.0, 1.0]
    assert rates(3, warmup=0.0, schedule="cosine") == pytest.approx([2.0, 1.5, 0.5])


@pytest.mark.parametrize(
    ("dial", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("accumulation", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("clip", 0.0),
        ("patience", 0),
        ("max_steps", 0),
        ("warmup", 1.5),
        ("schedule", "linaer"),
        ("precision", "fp16"),
    ],
)
def test_what_cannot_be_is_refused_by_name(dial: str, value: Any) -> None:
    with pytest.raises(UsageError, match=dial):
        Settings(**{dial: value})
