"""One loop for every objective, way of teaching and kind of student."""

from understudy.training.balance import balanced, pulls
from understudy.training.distillation import Distillation
from understudy.training.loop import train
from understudy.training.precision import probe
from understudy.training.progress import Step, Training
from understudy.training.rollouts import Rollouts
from understudy.training.settings import Settings
from understudy.training.state import Lower

__all__ = [
    "Distillation",
    "Lower",
    "Rollouts",
    "Settings",
    "Step",
    "Training",
    "balanced",
    "probe",
    "pulls",
    "train",
]
