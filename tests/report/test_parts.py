"""Bars, significance, colours, ticks: each against an independent reckoning."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from understudy.report.charts import verdict_line
from understudy.report.classes import moved, table
from understudy.report.drawing import Axis, spread
from understudy.report.facts import read
from understudy.report.knowledge import softened, stops
from understudy.report.page import source, thin

from .conftest import Pair


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0, 10.0])
def test_softened_is_softmax(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 4, 12)
    shown, rest = softened(logits.tolist(), temperature)
    np.testing.assert_allclose(shown, softmax(logits / temperature), rtol=1e-12)
    assert rest == 0
    assert softened([9000.0, -9000.0, None], temperature)[0] == [1, 0, 0]


def test_the_rest_is_exact_at_1_and_a_bound_elsewhere() -> None:
    for seed in range(20):
        logits = np.sort(np.random.default_rng(seed).normal(0, 2, 151))[::-1]
        joint = float(logsumexp(logits[8:]))
        for temperature in (0.5, 1.0, 2.0, 7.0):
            true = softmax(logits / temperature)
            shown, rest = softened(logits[:8].tolist(), temperature, joint, 143)
            assert sum(shown) + rest == pytest.approx(1)
            if temperature == 1:
                np.testing.assert_allclose(shown, true[:8], rtol=1e-9)
            elif temperature > 1:
                assert rest > true[8:].sum()
                assert all(np.array(shown) < true[:8])
            else:
                assert rest < true[8:].sum()


def test_the_slider_stops_at_the_temperature_of_the_run() -> None:
    assert {0.5, 1.0, 2.0, 10.0} <= set(stops(None))
    assert 2.2 not in stops(None)
    assert 2.2 in stops(2.2)
    assert stops(40.0) == stops(None)
    assert stops(2.2) == sorted(stops(2.2))


def test_classes_are_sorted_by_loss_and_marked(intents: Pair) -> None:
    facts = read(intents[0])
    every, shown = moved(facts), table(facts)
    assert shown is not None
    assert [m.change for m in every] == sorted(m.change for m in every)
    assert len(every) == 151
    assert [row["label"] for row in shown["losses"]] == [m.label for m in every[:20]]
    assert [row["label"] for row in shown["gains"]] == [m.label for m in reversed(every[-5:])]
    assert every[0].label == "exchange_rate"
    assert every[0].significant
    assert shown["losses"][0]["change"] == "−27.0"


def test_p_values_come_adjusted_and_are_not_adjusted_again() -> None:
    per_class = [{"label": str(p), "teacher": 0.9, "artefact": 0.8, "p_value": p} for p in (0.01, 0.05, 0.051, None)]
    marked = [m.label for m in moved(read({"comparison": {"per_class": per_class}})) if m.significant]
    assert marked == ["0.01", "0.05"]


def test_axes_and_spread() -> None:
    assert Axis(0.0, 1.0).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Axis(1e4, 1e6, log=True).ticks() == [1e4, 3e4, 1e5, 3e5, 1e6]
    for low, high in ((1.0, 1.0), (0.0, 0.0), (0.93, 0.99), (-5.0, 1e9)):
        axis = Axis.around([low, high])
        assert 0 <= axis.at(low) <= axis.at(high) <= 1
        assert 2 <= len(axis.ticks()) <= 7
    for low, high in ((5.0, 5.0), (1e-3, 9e7)):
        axis = Axis.around([low, high], log=True)
        assert 0 < axis.at(low) <= axis.at(high) < 1
        assert len(axis.ticks()) <= 5
    moved_ = spread([50.0, 50.0, 51.0, 90.0], 15, 0, 100)
    gaps = np.diff(np.sort(moved_))
    assert gaps.min() > 14.9
    assert moved_[3] <= 100


def test_thinned_curves_keep_their_mean_and_ends() -> None:
    points = [(float(k), float(k % 7)) for k in range(5000)]
    thinned = thin(points, 160)
    assert len(thinned) == 160
    assert thinned[0][0] < 20
    assert thinned[-1][0] > 4980
    assert np.mean([y for _, y in thinned]) == pytest.approx(3, abs=0.05)
    assert thin(points[:10]) == points[:10]


def _schemes() -> list[dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", source("style.css"), re.S)[:2]
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block)) for block in blocks]


def _linear(colour: str) -> np.ndarray:
    colour = colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira, Fernandes (2009), severity 1
SEEN = {
    "everyone": np.eye(3),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_are_legible_and_told_apart_by_everybody(scheme: int) -> None:
    colours = _schemes()[scheme]
    roles = ("teacher", "twin", "student", "artefact", "baseline")

    def luminance(name: str) -> float:
        return float(_linear(colours[name]) @ [0.2126, 0.7152, 0.0722])

    pairs = [
        (name, ground)
        for name in (*roles, "ink", "soft", "good", "bad", "unsure", "flat")
        for ground in ("paper", "card")
    ]
    for name, ground in [*pairs, ("on-bad", "fail")]:
        light, dark = sorted((luminance(name), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{name} on {ground}"
    for who, matrix in SEEN.items():
        seen = {role: _lab(np.clip(matrix @ _linear(colours[role]), 0, 1)) for role in roles}
        for a, b in itertools.combinations(roles, 2):
            assert np.linalg.norm(seen[a] - seen[b]) > 20, f"{a} and {b} look alike to {who}"


@pytest.mark.parametrize(("reach", "anchors"), [(0.006, {"middle"}), (0.02, {"end", "start"}), (0.2, {"end", "start"})])
def test_the_numbers_of_a_narrow_margin_do_not_lie_on_each_other(digits: Pair, reach: float, anchors: set[str]) -> None:
    digits[0]["comparison"]["difference"] = {"value": 0.0, "low": -reach, "high": reach}
    drawn = str(verdict_line(read(digits[0])))
    said = re.findall(r'<text x="[\d.]+%" y="76.0" text-anchor="(\w+)" class="tick">(.*?)</text>', drawn)
    assert {anchor for anchor, number in said if number != "0"} == anchors
    assert ("0" in [number for _, number in said]) == (reach < 0.1)


def test_a_tick_between_two_per_cents_keeps_its_half(digits: Pair) -> None:
    facts = read(digits[0])
    assert [facts.tick(value, 0.1).replace("\u00a0", " ") for value in (0.95, 0.925)] == ["95 %", "92.5 %"]
    digits[0]["comparison"]["metric"] = "pearson"
    assert [read(digits[0]).tick(value, 0.1) for value in (0.95, 0.925)] == ["0.95", "0.925"]
