"""Where knowledge comes from: live models, stored targets, and how both are opened, aligned and asked."""

from understudy.teachers.label import score_rows, scorer
from understudy.teachers.labels import Alignment, align
from understudy.teachers.live import Live
from understudy.teachers.load import open_teacher
from understudy.teachers.loaded import Loaded, describe, given, weights_hash
from understudy.teachers.own import save_teacher
from understudy.teachers.stored import Stored

__all__ = [
    "Alignment",
    "Live",
    "Loaded",
    "Stored",
    "align",
    "describe",
    "given",
    "open_teacher",
    "save_teacher",
    "score_rows",
    "scorer",
    "weights_hash",
]
