"""Sentences in, a tag for every word and the entities that they spell out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.encoding import RowError
from understudy.ragged import Ragged
from understudy.runtime.predictor import Predictor, Row, as_sequence
from understudy.tags import spans, types_of

_words = re.compile(r"\w+(?:[^\w\s]+\w+)*|[^\w\s]").finditer


@dataclass(frozen=True)
class Sentence:
    """The words of a row, and where they stand in its text, where it came as one.

    Attributes:
        words: in their order.
        text: that they were taken from; None where they were given.
        places: first letter of each word and the letter behind its last.
    """

    words: Sequence[str]
    text: str | None = None
    places: Sequence[tuple[int, int]] = ()


def split_words(text: str) -> Sentence:
    """A text as words: what white space parts, with the marks before and behind a word as words of their own.

    >>> split_words("Fly to St. John's, now!").words
    ['Fly', 'to', 'St', '.', "John's", ',', 'now', '!']
    """
    found = list(_words(text))
    return Sentence([one.group() for one in found], text, [one.span() for one in found])


class Tagger(Predictor):
    """An artefact that tags words. A row is ``{"tokens": [words]}``, ``{"text": ...}``, a bare text or a list of words.

    A text is split into words by `split_words`.
    """

    def predict(self, rows: Sequence[Row], *, batch: int = 32) -> list[dict[str, Any]]:
        """Every row as it came, plus its answer, which replaces columns of these names:

        tokens   the words, where the row came as a text
        tags     one for each word; O for those that the model had no room for, and then ``truncated`` is true
        spans    the entities: ``{"start", "end", "label", "text"}``, words from ``start`` up to ``end``, not included;
                 of a text also ``begin`` and ``stop``, its letters from the one up to the other
        """
        rows = as_sequence(rows)
        field = self._encoder.fields[0]
        sentences = [read_sentence(number, row, field) for number, row in enumerate(rows)]
        logits, cut = self._said([{field: one.words} for one in sentences], batch=batch)
        tags = [one["tags"] for one in self._voice.said(logits)]
        answers = [self._told(row, one, said) for row, one, said in zip(rows, sentences, tags, strict=True)]
        for row in np.flatnonzero(cut).tolist():
            answers[row]["truncated"] = True
        return answers

    def predict_one(self, row: Row) -> dict[str, Any]:
        """`predict` of one row."""
        return self.predict([row])[0]

    def _columns(self, rows: Sequence[Row]) -> dict[str, Any]:
        field = self._encoder.fields[0]
        return {field: [read_sentence(number, row, field).words for number, row in enumerate(rows)]}

    def _told(self, row: Row, sentence: Sentence, said: Sequence[int]) -> dict[str, Any]:
        """A row with its tags and spans."""
        numbers = np.zeros(len(sentence.words), np.int64)
        numbers[: len(said)] = said
        field = self._encoder.fields[0]
        came: dict[str, Any] = dict(row) if isinstance(row, Mapping) else {}
        if isinstance(row, str):
            came["text"] = row
        if field not in came:
            came[field] = list(sentence.words)
        types = types_of(self.labels)
        return {
            **came,
            "tags": [self.labels[number] for number in numbers],
            "spans": [
                _span(sentence, start, end, types[kind]) for _, start, end, kind in spans(Ragged.of([numbers])).tolist()
            ],
        }


def read_sentence(number: int, row: Any, field: str) -> Sentence:
    """The words of a row; ``number`` counts rows from 0.

    Raises:
        RowError: neither words nor a text, or a text in which there is no word.
    """
    if isinstance(row, Mapping):
        if field in row:
            return Sentence(row[field])
        if not isinstance(row.get("text"), str):
            there = ", ".join(str(name) for name in row) or "nothing"
            raise RowError(number, field, f"there is no such column, nor a text; the row has: {there}")
        row = row["text"]
    if not isinstance(row, str):
        return Sentence(row)  # the encoder says what is wrong with it
    found = split_words(row)
    if not found.words:
        raise RowError(number, "text", "there is no word in it; leave the row out")
    return found


def _span(sentence: Sentence, start: int, end: int, label: str) -> dict[str, Any]:
    found: dict[str, Any] = {"start": start, "end": end, "label": label}
    if sentence.text is None:
        return {**found, "text": " ".join(sentence.words[start:end])}
    begin, stop = sentence.places[start][0], sentence.places[end - 1][1]
    return {**found, "text": sentence.text[begin:stop], "begin": begin, "stop": stop}
