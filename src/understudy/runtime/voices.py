"""From logits to what a caller is told: one class for each kind of answer (`understudy.answers`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from understudy.answers import LABELS, Scale, sigmoid, unit
from understudy.errors import ArtefactError, UsageError
from understudy.passages import best_spans, shares, sureness
from understudy.ragged import Ragged


class Voice(Protocol):
    """Logits [N, K], or a `Ragged` of those of words, in; columns of the answer out."""

    nothing: Any
    """The logits of no row."""

    def probabilities(self, logits: Any) -> Any:
        """float64 [N, K]. Raises UsageError where logits are no probabilities."""

    def numbers(self, logits: Any) -> Any:
        """float64: the probabilities [N, K], or scores [N]."""

    def said(self, logits: Any) -> list[dict[str, Any]]:
        """For each row what is added to its columns."""


class OneLabel:
    """``label``, ``probabilities`` {label: p} and ``abstained``."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.labels = tuple(manifest["labels"])
        self._temperature, self._abstain_below = float(manifest["temperature"]), float(manifest["abstain_below"])
        self.nothing = np.zeros((0, len(self.labels)), np.float32)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """softmax(logits / temperature)."""
        return _softmax(finite(logits), self._temperature)

    numbers = probabilities

    def said(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """See the class."""
        shares = self.probabilities(logits)
        return list(map(self._one, shares.argmax(axis=1).tolist(), shares.tolist()))

    def _one(self, best: int, shares: list[float]) -> dict[str, Any]:
        return {
            "label": self.labels[best],
            "probabilities": dict(zip(self.labels, shares, strict=True)),
            "abstained": shares[best] < self._abstain_below,
        }


class Score:
    """``score``, on the scale of the data."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._scale = Scale(**manifest["scale"])
        self.nothing = np.zeros((0, 1), np.float32)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Raises UsageError."""
        raise UsageError("this artefact gives scores, which have no probabilities: predict says them")

    def numbers(self, logits: np.ndarray) -> np.ndarray:
        """Scores of the data, [N]."""
        return self._scale.back(finite(logits)[:, 0])

    def said(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """See the class."""
        return [{"score": score} for score in self.numbers(logits).tolist()]


class Several:
    """``labels``, those whose probability reaches their own threshold, and ``probabilities`` {label: p}."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.labels = tuple(manifest["labels"])
        self._temperature = float(manifest["temperature"])
        self._thresholds = [float(manifest["label_thresholds"][name]) for name in self.labels]
        self.nothing = np.zeros((0, len(self.labels)), np.float32)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """The sigmoid of each logit / temperature."""
        return sigmoid(finite(logits) / self._temperature)

    numbers = probabilities

    def said(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """See the class."""
        holds = LABELS.predicted(finite(logits) / self._temperature, self._thresholds)
        return [
            {
                "labels": [name for name, is_so in zip(self.labels, row, strict=True) if is_so],
                "probabilities": dict(zip(self.labels, shares, strict=True)),
            }
            for row, shares in zip(holds.tolist(), self.probabilities(logits).tolist(), strict=True)
        ]


class Vector:
    """``embedding``, of length 1."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.scale, self.dimensions = float(manifest["int8_scale"]), int(manifest["dimensions"])
        self.nothing = np.zeros((0, self.dimensions), np.float32)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Raises UsageError."""
        raise UsageError("this artefact gives vectors, which have no probabilities: embed says them")

    def numbers(self, logits: np.ndarray) -> np.ndarray:
        """float32 [N, D], of length 1."""
        return unit(finite(logits))

    def int8(self, logits: np.ndarray) -> np.ndarray:
        """int8 [N, D]: entry / scale, rounded, at most 127 on either side."""
        return np.clip(np.rint(self.numbers(logits) / np.float32(self.scale)), -127, 127).astype(np.int8)

    def said(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """See the class."""
        return [{"embedding": vector} for vector in self.numbers(logits).tolist()]


class Tags:
    """``tags``: the number of the likeliest tag of every word that there was room for."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._temperature = float(manifest["temperature"])
        self.nothing = Ragged(np.zeros((0, len(manifest["labels"])), np.float32), np.zeros(1, np.int64))

    def probabilities(self, logits: Ragged) -> Ragged:
        """softmax(logits / temperature) of every word."""
        finite(logits)
        return logits.holding(_softmax(logits.values, self._temperature))

    numbers = probabilities

    def said(self, logits: Ragged) -> list[dict[str, Any]]:
        """See the class."""
        finite(logits)
        best = logits.holding(logits.values.argmax(axis=1))
        return [{"tags": best[row]} for row in range(len(best))]


class Span:
    """``span``, first and last word of the answer, (0, 0) where there is none, and its ``probability``."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._temperature = float(manifest["temperature"])
        self._above = float(manifest.get("no_answer_above", 0.0))
        self.nothing = Ragged(np.zeros((0, 2), np.float32), np.zeros(1, np.int64))

    def probabilities(self, logits: Ragged) -> Ragged:
        """Of "no answer" and of every word, to be the first of the answer and to be the last."""
        return shares(finite(logits), self._temperature)

    numbers = probabilities

    def said(self, logits: Ragged) -> list[dict[str, Any]]:
        """See the class."""
        likely = self.probabilities(logits)
        spans = best_spans(logits, above=self._above)
        sure = sureness(likely, spans).tolist()
        return [{"span": tuple(span), "probability": p} for span, p in zip(spans.tolist(), sure, strict=True)]


class Masked:
    """``loss``: nats for each hidden token of a text."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.nothing = np.zeros((0, 3), np.float32)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Raises UsageError."""
        raise UsageError("this artefact is a language model, which has no labels: predict says losses of texts")

    def numbers(self, logits: np.ndarray) -> np.ndarray:
        """float64 [N]; 0 of a text in which nothing can be hidden."""
        found = finite(logits).astype(np.float64)
        return np.asarray(found[:, 1] / np.maximum(found[:, 0], 1))

    def said(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """See the class."""
        return [{"loss": loss} for loss in self.numbers(logits).tolist()]


class Next(Masked):
    """``loss``: nats for each token that counts, and ``bits_per_byte`` of the text."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.nothing = np.zeros((0, 4), np.float32)

    def said(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """See the class."""
        found = finite(logits).astype(np.float64)
        bits = found[:, 1] / (np.log(2) * np.maximum(found[:, 3], 1))
        return [
            {"loss": loss, "bits_per_byte": each}
            for loss, each in zip(self.numbers(logits).tolist(), bits.tolist(), strict=True)
        ]


VOICES: Mapping[
    str, type[OneLabel] | type[Score] | type[Several] | type[Vector] | type[Tags] | type[Span] | type[Masked]
] = {
    "label": OneLabel,
    "score": Score,
    "labels": Several,
    "vector": Vector,
    "tags": Tags,
    "span": Span,
    "masked": Masked,
    "next": Next,
}


def voice_of(manifest: Mapping[str, Any]) -> Voice:
    """What speaks for an artefact; one without a word about it gives one label.

    Raises:
        ArtefactError: an answer that this version does not know, or one whose settings are not there.
    """
    kind = str(manifest.get("answer", "label"))
    if kind not in VOICES:
        raise ArtefactError(f'an artefact that answers with "{kind}", which this version does not know')
    try:
        return VOICES[kind](manifest)
    except (KeyError, TypeError) as error:
        raise ArtefactError(f"the artefact lacks what its answers need ({error}); export it again") from error


def _softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    scaled: np.ndarray = logits.astype(np.float64)
    scaled /= temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def finite(logits: Any) -> Any:
    """The logits [N, K] as they are. Raises ArtefactError naming the first row with one that is not finite."""
    values = logits.values if isinstance(logits, Ragged) else logits
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        row = int(logits.owners[place]) if isinstance(logits, Ragged) else place
        raise ArtefactError(f"the model answered row {row + 1} with a logit that is not a finite number")
    return logits


def same_answers(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> float:
    """Share of rows with the same label, labels, tags or answer; of scores and losses, those within a thousandth; of
    vectors, those with a cosine above .999.

    >>> same_answers([{"score": 1.0}], [{"score": 1.0001}]), same_answers([{"label": "a"}], [{"label": "b"}])
    (1.0, 0.0)
    """
    if len(ours) != len(theirs) or not ours:
        return 0.0
    kinds = ("label", "score", "labels", "embedding", "tags", "answer", "loss")
    key = next(name for name in kinds if name in ours[0])
    if key == "embedding":
        same = [float(np.dot(a[key], b[key])) > 0.999 for a, b in zip(ours, theirs, strict=True)]
    elif key in ("score", "loss"):
        same = [abs(a[key] - b[key]) <= 1e-3 * max(1.0, abs(a[key])) for a, b in zip(ours, theirs, strict=True)]
    else:
        same = [a[key] == b[key] for a, b in zip(ours, theirs, strict=True)]
    return sum(same) / len(same)
