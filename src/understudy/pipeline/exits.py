"""Where rows may leave a student with exits, decided on validation: temperatures, one threshold, and what it saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy import runtime
from understudy.pipeline.journal import Facts
from understudy.pipeline.material import Material
from understudy.pipeline.timing import declared_threads, spread
from understudy.statistics import METRICS, fit_temperature, softmax
from understudy.students import Exits
from understudy.teachers.label import Inputs, asked, call

POINTS = 20  # thresholds that are tried, besides never leaving
TIMED_ROWS, BATCH, PASSES = 256, 32, 5  # a part's cost: the quickest of so many passes over so many rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Leaving:
    """What was decided for the artefact with exits.

    Attributes:
        settings: threshold, temperature and cost of each part, as the manifest has them.
        logits: of validation, as the artefact gives them.
        facts: what run.json says.
    """

    settings: list[Facts]
    logits: Array
    facts: Facts


def decide(
    material: Material, draft: Path, raw: Sequence[Any], write: Callable[[list[Facts]], None], *, exact: float
) -> Leaving:
    """The cheapest threshold, shared by all exits, whose metric on validation holds; the draft is left with it.

    Each exit's logits are divided by a temperature of its own, so that one confidence means the same at each. The
    thresholds that are tried are confidences of validation rows, evenly taken. A lower one lets more rows leave
    earlier, so the cheapest is the lowest, whatever the clock says: the choice is the same on every machine. It must
    lose at most ``export.max_drop`` points against the full depth, exact and INT8, and is measured with the artefact
    itself before it is taken (INT8 activations have one scale per batch, so who else is in a batch may matter to the
    last digit). Where none holds, nobody leaves early.

    Args:
        material: recipe and rows.
        draft: the INT8 artefact, in which nobody leaves.
        raw: the validation rows.
        write: writes the draft anew with the settings of each part.
        exact: the metric of the fp32 module at full depth.
    """
    recipe, labels = material.recipe, material.splits.validation.labels
    metric = METRICS[str(recipe.evaluation.metric)]
    threads = recipe.evaluation.threads or 1
    predictor = runtime.load(draft, threads=threads)
    every, _ = predictor.every_exit(raw)
    temperatures = [fit_temperature(one, labels) for one in every]
    costs = part_costs(predictor, raw, threads=threads)
    scaled = every / np.array(temperatures)[:, None, None]
    drawn = curve(scaled, labels, metric.function, costs)
    full = metric.function(labels, every[-1].argmax(1))

    def holds(value: float) -> bool:
        return all(
            100 * metric.gain(reference, value) <= float(recipe.export.max_drop or 0.0) for reference in (exact, full)
        )

    tried = [one["threshold"] for one in drawn if one["threshold"] is None or holds(one["metric"])]
    for threshold in tried:
        settings = _settings(threshold, temperatures, costs)
        write(settings)
        shipped = runtime.load(draft, threads=threads)
        logits = shipped.logits(raw)
        reached = metric.function(labels, logits.argmax(1))
        if holds(reached):
            break  # else the next; the last one is None, and stays
    facts = {
        "threshold": threshold,
        "rows": len(labels),
        **left(shipped.exits(raw), logits.argmax(1) == labels, shipped.manifest["exits"]),
        "metric": {"name": metric.name, "with_exits": reached, "full_depth": full, "exact": exact},
        "curve": drawn,
        "measured": (
            f"Cost: seconds of the parts up to an exit / of all parts, the quickest of {PASSES} passes over "
            f"{min(TIMED_ROWS, len(raw))} validation rows, batch {BATCH}, {threads} thread{'s' * (threads != 1)}, "
            "one process; encoding the rows is not in it"
        ),
    }
    return Leaving(settings, logits, facts)


def _settings(threshold: float | None, temperatures: Sequence[float], costs: Array) -> list[Facts]:
    last = len(costs) - 1
    return [
        {"threshold": 0.0 if number == last else threshold, "temperature": temperature, "cost": float(cost)}
        for number, (temperature, cost) in enumerate(zip(temperatures, costs, strict=True))
    ]


def left(exits: Array, correct: Array, settings: Sequence[Facts]) -> Facts:
    """``per_exit`` (who left where, and how often rightly) and ``mean_cost`` of some rows; 1 is the full depth.

    >>> settings = [{"cost": 0.25, "threshold": 0.9}, {"cost": 0.75, "threshold": 0.0}]
    >>> left(np.array([0, 0, 1, 0]), np.array([True, True, False, False]), settings)["mean_cost"]
    0.4375

    Args:
        exits: int [N], the exit that answered each row.
        correct: bool [N].
        settings: ``cost`` of each part, its own share of the full depth.
    """
    upto = np.cumsum([float(one["cost"]) for one in settings])
    found: list[Facts] = []
    for number, one in enumerate(settings):
        gone = exits == number
        found.append(
            {
                "exit": number,
                "share_of_rows": float(gone.mean()) if len(gone) else 0.0,
                "cost": float(upto[number]),
                "accuracy_of_those_who_left": float(correct[gone].mean()) if gone.any() else None,
                "threshold": one.get("threshold"),
            }
        )
    return {"per_exit": found, "mean_cost": float(sum(one["share_of_rows"] * one["cost"] for one in found))}


def curve(scaled: Array, labels: Array, function: Callable[[Array, Array], float], costs: Array) -> list[Facts]:
    """``threshold``, mean ``cost`` and ``metric`` of some thresholds, the lowest first; the last one is None: never.

    Args:
        scaled: [E, N, K], every exit's logits divided by its temperature.
        labels: [N].
        function: (labels, predicted) -> metric.
        costs: [E], each part's share of the full depth.
    """
    sure = softmax(scaled).max(-1)
    said = scaled.argmax(-1)
    upto = np.cumsum(costs)
    levels = np.quantile(sure[:-1], np.linspace(0, 1, POINTS))
    tried = [*np.unique(np.floor(levels * 1e6) / 1e6).tolist(), None]
    found = []
    for threshold in tried:
        leaves = sure >= (np.inf if threshold is None else threshold)
        leaves[-1] = True
        exits = leaves.argmax(0)
        predicted = said[exits, np.arange(len(labels))]
        value = float(function(labels, predicted))
        found.append({"threshold": threshold, "cost": float(upto[exits].mean()), "metric": value})
    return found


def part_costs(predictor: runtime.Predictor, raw: Sequence[Any], *, threads: int) -> Array:
    """float64 [E], sum 1: the share of each part in the time of the full depth, on real rows."""
    some = spread(raw, TIMED_ROWS)
    with declared_threads(threads):
        predictor.every_exit(some, batch=BATCH)
        seconds = np.min([predictor.every_exit(some, batch=BATCH)[1] for _ in range(PASSES)], axis=0)
    shares: Array = seconds / seconds.sum()
    return shares


def score_every(module: Exits, encoder: Any, inputs: Inputs, *, batch_size: int = 64) -> Array:
    """float32 [E, N, K]: the logits of every exit and of the full depth, in PyTorch."""
    features = encoder.encode(inputs)
    order = np.argsort(encoder.lengths(features), kind="stable")
    device = next(module.parameters()).device
    names = [*(f"exit.{i}.logits" for i in range(len(module.at))), "logits"]
    parts = []
    with asked(module):
        for start in range(0, len(order), batch_size):
            arrays = encoder.collate(features, order[start : start + batch_size])
            said = call(module, {name: torch.from_numpy(array).to(device) for name, array in arrays.items()})
            parts.append(torch.stack([said[name].float() for name in names]).cpu().numpy())
    found = np.concatenate(parts, axis=1)
    back = np.empty_like(found)
    back[:, order] = found
    return back
