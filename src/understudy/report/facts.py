"""run.json as values that can be drawn: whatever is missing or not finite is None, and nothing is computed twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from understudy.report import formats
from understudy.report.formats import number
from understudy.wording import FRACTIONS, metric_name, words

ROLES = ("teacher", "twin", "student", "artefact", "baseline")
MEANING = {
    "teacher": "the large model that is to be replaced",
    "twin": "the same student, same budget, trained without the teacher",
    "student": "the small model, taught by the teacher",
    "artefact": "the exported student: what ships",
    "candidate": "the exported student, which failed a gate",
    "baseline": "the best model without a network",
}
ANSWERS = {
    "regression": "score",
    "tabular-regression": "score",
    "multi-label": "labels",
}  # of a run.json that says its task and no answer


def dig(value: Any, *path: str) -> Any:
    """The value at the end of a path of keys, or None as soon as one is missing."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def listed(value: Any, *path: str) -> list[Any]:
    """The list of mappings at the end of a path; empty where it is missing."""
    found = dig(value, *path)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


@dataclass(frozen=True)
class Estimate:
    """A measured number with its 95 % interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def wide(self) -> float | None:
        """The width of the interval."""
        return None if self.low is None or self.high is None else self.high - self.low

    @classmethod
    def read(cls, raw: Any) -> Estimate | None:
        """From ``{"value", "low", "high"}`` or a bare number; None where there is no finite value."""
        value = number(dig(raw, "value")) if isinstance(raw, dict) else number(raw)
        if value is None:
            return None
        low, high = number(dig(raw, "low")), number(dig(raw, "high"))
        return cls(value, low, high) if low is not None and high is not None else cls(value)


@dataclass(frozen=True)
class Model:
    """One row of the table. ``name`` is what the page calls it: a failed export is a candidate, not an artefact."""

    role: str
    name: str
    line: str
    metrics: dict[str, Estimate]
    parameters: float | None
    bytes: float | None
    bits: float | None
    ece_before: float | None
    ece_after: float | None
    latency: dict[str, Any]
    throughput: dict[str, Any]
    engine: str

    @property
    def p50(self) -> float | None:
        """Median latency in milliseconds."""
        return number(self.latency.get("p50"))


@dataclass(frozen=True)
class Gate:
    """A limit, what was measured, and whether it was met. Anything but ``passed: true`` is a failed gate."""

    name: str
    limit: str
    value: str
    passed: bool


@dataclass(frozen=True)
class Facts:
    """What a report needs from run.json.

    Attributes:
        is_share: the metric lives in [0, 1], and is printed in per cent and points.
        is_fraction: it is a correlation or the like, printed as it is, and its differences in points.
        digits: decimals of a per cent: two where the narrowest interval is narrower than half a point, else one.
        fine: decimals of a difference: two where its interval is narrower than a point, else one.
        margin: in the unit of the metric (0.005 is half a point).
    """

    run: dict[str, Any]
    metric: str
    direction: str
    is_share: bool
    is_fraction: bool
    digits: int
    fine: int
    models: dict[str, Model]
    gates: tuple[Gate, ...]
    difference: Estimate | None
    margin: float | None
    verdict: str

    @property
    def task(self) -> str:
        """The task in words."""
        task = str(dig(self.run, "task") or "").replace("-", " ").replace("_", " ")
        return "multi-label classification" if task == "multi label" else task

    @property
    def answer(self) -> str:
        """What a row gets: ``label``, ``score``, ``labels``, ... (`understudy.answers`)."""
        said = dig(self.run, "answer")
        return said if isinstance(said, str) else ANSWERS.get(str(dig(self.run, "task")), "label")

    @property
    def metric_name(self) -> str:
        """What the primary metric is called."""
        return metric_name(self.metric)

    @property
    def in_points(self) -> bool:
        """Whether a difference is written in hundredths."""
        return self.is_share or self.is_fraction

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that were not met."""
        return tuple(gate for gate in self.gates if not gate.passed)

    @property
    def export_name(self) -> str:
        """What the exported model may be called."""
        return "candidate" if self.failed else "artefact"

    def called(self, role: str) -> str:
        """What a role is called on this page."""
        return self.export_name if role == "artefact" else role

    def value(self, value: float | None) -> str:
        """A value of the primary metric."""
        if self.is_fraction:
            return formats.fraction(value, self.digits + 2)
        return formats.share(value, self.digits) if self.is_share else formats.plain(value)

    def tick(self, value: float, reach: float = 1.0) -> str:
        """A value on an axis that spans ``reach``: as short as it stays exact."""
        fine = 0 if reach > 0.04 and abs(100 * value - round(100 * value)) < 1e-6 else 1
        if self.is_fraction:
            return formats.fraction(value, fine + 2)
        return formats.share(value, fine) if self.is_share else formats.plain(value)

    def delta(self, value: float | None, *, unit: bool = True) -> str:
        """A difference of the primary metric, signed, in points where it has any."""
        if value is None:
            return formats.DASH
        if self.in_points:
            return formats.signed(value, self.fine) + (f"{formats.SPACE}points" if unit else "")
        return ("+" if value > 0 else "") + formats.plain(value)


def read(run: dict[str, Any]) -> Facts:
    """The facts of one run. Never raises for a missing part."""
    run = formats.clean(run)
    gates = tuple(_gate(raw) for raw in listed(run, "verdict", "gates"))
    metric = str(dig(run, "comparison", "metric") or "accuracy")
    export = "artefact" if all(gate.passed for gate in gates) else "candidate"
    raw_models = dig(run, "models") or {}
    models = {
        role: _model(role, export if role == "artefact" else role, raw_models[role])
        for role in ROLES
        if isinstance(raw_models.get(role), dict)
    }
    estimates = [model.metrics[metric] for model in models.values() if metric in model.metrics]
    widths = [e.wide for e in estimates if e.wide]
    margin = number(dig(run, "verdict", "margin"))
    difference = Estimate.read(dig(run, "comparison", "difference"))
    narrow = difference is not None and difference.wide is not None and difference.wide < 0.01
    return Facts(
        run=run,
        metric=metric,
        direction=str(dig(run, "comparison", "direction") or "higher"),
        is_share=metric not in FRACTIONS and all(-1 <= e.value <= 1 for e in estimates),
        is_fraction=metric in FRACTIONS,
        digits=2 if widths and min(widths) < 0.005 else 1,
        models=models,
        gates=gates,
        fine=2 if narrow else 1,
        difference=difference,
        margin=abs(margin) if margin else None,
        verdict=str(dig(run, "verdict", "distillation") or "").strip().upper(),
    )


def _model(role: str, name: str, raw: dict[str, Any]) -> Model:
    metrics = {key: Estimate.read(value) for key, value in (dig(raw, "metrics") or {}).items()}
    return Model(
        role=role,
        name=name,
        line=str(dig(raw, "model") or dig(raw, "name") or ""),
        metrics={key: value for key, value in metrics.items() if value is not None},
        parameters=number(dig(raw, "parameters")),
        bytes=number(dig(raw, "bytes")),
        bits=number(dig(raw, "bits")),
        ece_before=number(dig(raw, "ece_before")),
        ece_after=number(dig(raw, "ece_after")),
        latency=dig(raw, "latency_ms") or {},
        throughput=dig(raw, "throughput_per_s") or {},
        engine=str(dig(raw, "engine") or dig(raw, "latency", "engine") or ""),
    )


def _gate(raw: dict[str, Any]) -> Gate:
    name = str(raw.get("name") or "unnamed")
    unit = str(raw.get("unit") or {"ms": "ms", "mb": "MB"}.get(name.lower().split("_")[-1], ""))

    def written(value: Any) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, str):
            return value
        found = number(value)
        return formats.DASH if found is None else f"{formats.plain(found)}{formats.SPACE}{unit}".strip()

    return Gate(words(name), written(raw.get("limit")), written(raw.get("value")), raw.get("passed") is True)
