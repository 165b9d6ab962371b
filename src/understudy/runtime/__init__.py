"""The torch-free predictor: from the raw input (a string, pixels) to a label, with numpy and little else.

>>> from understudy import runtime
>>> runtime.load("runs/tickets").predict(["where is my card?"])  # doctest: +SKIP
[{'text': 'where is my card?', 'label': 'card_arrival', 'probabilities': {...}, 'abstained': False}]
"""

from __future__ import annotations

from understudy.runtime.artefact import MANIFEST, SCHEMA, find, read_manifest
from understudy.runtime.predictor import Predictor, load
from understudy.runtime.static import StaticModel
from understudy.runtime.stream import stream
from understudy.runtime.voices import same_answers

__all__ = ["MANIFEST", "SCHEMA", "Predictor", "StaticModel", "find", "load", "read_manifest", "same_answers", "stream"]
