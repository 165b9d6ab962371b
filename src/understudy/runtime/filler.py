"""Texts in; what stands behind their masks out, or how likely they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from understudy.encoding import MaskedEncoder
from understudy.runtime.graph import GraphModel
from understudy.runtime.predictor import Predictor, Row, as_sequence

BEST = 5


class Filler(Predictor):
    """An artefact of a masked language model."""

    def predict(self, rows: Sequence[Row], *, batch: int = 32) -> list[dict[str, Any]]:
        """Every row as it came, plus ``loss`` and ``filled``.

        loss     nats for each of the tokens that are hidden of the text for this (15 %, always the same)
        filled   of each mask that the text itself brings, in their order, the five likeliest sub-words:
                 ``[{"token", "probability"}, ...]``
        """
        rows = as_sequence(rows)
        answers = super().predict(rows, batch=batch)
        for answer, filled in zip(answers, self._filled(rows), strict=True):
            answer["filled"] = filled
        return answers

    def predict_one(self, row: Row) -> dict[str, Any]:
        """`predict` of one row."""
        return self.predict([row])[0]

    def _filled(self, rows: Sequence[Row]) -> list[list[list[dict[str, Any]]]]:
        encoder, model = self._encoder, self._model
        assert isinstance(encoder, MaskedEncoder)
        assert isinstance(model, GraphModel)
        found: list[list[list[dict[str, Any]]]] = []
        for features in self._encoded(rows):
            for row in range(len(features)):
                inputs, places = encoder.asked(features, [row])
                logits = model.run(inputs)["logits"][0] if len(places[0]) else np.zeros((0, 1), np.float32)
                found.append([self._best(one, encoder) for one in logits])
        return found

    @staticmethod
    def _best(logits: np.ndarray, encoder: MaskedEncoder) -> list[dict[str, Any]]:
        shares = np.exp(logits.astype(np.float64) - logits.max())
        shares /= shares.sum()
        best = np.argsort(-shares, kind="stable")[:BEST].tolist()
        return [{"token": encoder.token(number), "probability": float(shares[number])} for number in best]
