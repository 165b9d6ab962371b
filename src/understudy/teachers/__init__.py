"""Where knowledge comes from: live models, stored targets, ensembles and functions; opened, aligned and asked."""

from understudy.teachers.boosting import boosting
from understudy.teachers.causal import says_next
from understudy.teachers.endpoint import endpoint
from understudy.teachers.ensemble import Ensemble, calibration, ensemble, merged
from understudy.teachers.function import function, settle
from understudy.teachers.label import score_rows, scorer
from understudy.teachers.labels import Alignment, align
from understudy.teachers.live import Live
from understudy.teachers.load import open_teacher
from understudy.teachers.loaded import Loaded, Member, describe, given, weights_hash
from understudy.teachers.masked import says_masked
from understudy.teachers.merging import known_labels, merge, reconcile
from understudy.teachers.mixed import Mixed
from understudy.teachers.narrowed import Narrowed
from understudy.teachers.own import save_teacher
from understudy.teachers.sampled import Sampling, StoredTokens, sample_identity, token_scorer, verify_tokens
from understudy.teachers.several import Several
from understudy.teachers.stored import Stored

__all__ = [
    "Alignment",
    "Ensemble",
    "Live",
    "Loaded",
    "Member",
    "Mixed",
    "Narrowed",
    "Sampling",
    "Several",
    "Stored",
    "StoredTokens",
    "align",
    "boosting",
    "calibration",
    "describe",
    "endpoint",
    "ensemble",
    "function",
    "given",
    "known_labels",
    "merge",
    "merged",
    "open_teacher",
    "reconcile",
    "sample_identity",
    "save_teacher",
    "says_masked",
    "says_next",
    "score_rows",
    "scorer",
    "settle",
    "token_scorer",
    "verify_tokens",
    "weights_hash",
]
