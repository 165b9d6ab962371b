"""Questions and texts in, the answers that stand in the texts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.encoding import RowError
from understudy.passages import text_of, word_places
from understudy.runtime.predictor import Predictor, Row, as_sequence


class Reader(Predictor):
    """An artefact that answers questions. A row is ``{"question": ..., "context": ...}``."""

    def predict(self, rows: Sequence[Row], *, batch: int = 32) -> list[dict[str, Any]]:
        """Every row as it came, plus its answer, which replaces columns of these names:

        answer        the letters of the context; an empty text where it has no answer
        start, end    the letter of the context that it begins at, and the one behind its last; None without an answer
        probability   of its first word times that of its last, each of all words of the text, calibrated
        """
        rows = as_sequence(rows)
        logits, cut = self._said(rows, batch=batch)
        _, field = self._encoder.fields
        answers = []
        for number, (row, said) in enumerate(zip(rows, self._voice.said(logits), strict=True)):
            if not isinstance(row, Mapping):
                raise RowError(number, field, f"wanted an object with question and context, got a {type(row).__name__}")
            first, last = said["span"]
            found: dict[str, Any] = {"answer": text_of(row[field], first, last), "start": None, "end": None}
            if first:
                places = word_places(row[field])
                found |= {"start": int(places[first - 1, 0]), "end": int(places[last - 1, 1])}
            answers.append({**row, **found, "probability": said["probability"]})
        for number in cut.nonzero()[0].tolist():
            answers[number]["truncated"] = True
        return answers

    def predict_one(self, row: Row) -> dict[str, Any]:
        """`predict` of one row."""
        return self.predict([row])[0]
