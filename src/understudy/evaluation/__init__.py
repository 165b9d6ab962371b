"""What was kept, what was lost, how fast it is, what it cost, and whether distilling was worth it."""

from understudy.evaluation.answers import moved_answers
from understudy.evaluation.compare import compare, measure
from understudy.evaluation.cost import cost
from understudy.evaluation.entities import span_facts
from understudy.evaluation.harm import disagreements, out_of_scope, per_class
from understudy.evaluation.latency import latency, throughput
from understudy.evaluation.scored import Scored, calibrated, calibration_of
from understudy.evaluation.verdict import Facts, decide, gate, verdict

__all__ = [
    "Facts",
    "Scored",
    "calibrated",
    "calibration_of",
    "compare",
    "cost",
    "decide",
    "disagreements",
    "gate",
    "latency",
    "measure",
    "moved_answers",
    "out_of_scope",
    "per_class",
    "span_facts",
    "throughput",
    "verdict",
]
