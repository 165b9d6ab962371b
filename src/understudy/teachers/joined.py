"""An encoder of several: what members of an ensemble read, each its own encoding of the same raw rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.encoding import Encoder
from understudy.errors import UsageError
from understudy.files import content_hash


class JoinedEncoder:
    """Several encoders as one; the inputs of each go by its name: ``fr/input_ids``.

    Args:
        encoders: name -> encoder; names without a slash.
    """

    kind = "joined"

    def __init__(self, encoders: Mapping[str, Encoder]) -> None:
        self.encoders = dict(encoders)
        self.fields = tuple(dict.fromkeys(field for encoder in encoders.values() for field in encoder.fields))

    @property
    def fingerprint(self) -> str:
        """Changes with any of the encoders, and with what it is called."""
        return content_hash(
            "joined", *(part for name, one in self.encoders.items() for part in (name, one.fingerprint))
        )

    def encode(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Features of all rows by name."""
        return {name: encoder.encode(inputs) for name, encoder in self.encoders.items()}

    def collate(self, features: Mapping[str, Any], indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """``name/input`` -> array, for some rows."""
        return {
            f"{name}/{key}": array
            for name, encoder in self.encoders.items()
            for key, array in encoder.collate(features[name], indices).items()
        }

    def lengths(self, features: Mapping[str, Any]) -> np.ndarray:
        """int64 [N]: what a row costs all of them together."""
        return np.sum([np.asarray(one.lengths(features[name])) for name, one in self.encoders.items()], axis=0)

    def save(self, folder: Path) -> dict[str, Any]:
        """Raises UsageError: several encoders are no part of an artefact."""
        raise UsageError("an ensemble that reads each row in several ways has no artefact: distil it into one student")


def join(encoders: Mapping[str, Encoder]) -> tuple[Encoder, dict[str, str]]:
    """One encoder for several models, and the prefix of each model's inputs in what it gives.

    Models with the same encoder share one encoding. Where all do, it is theirs and there are no prefixes.
    """
    first: dict[str, str] = {}
    for name, encoder in encoders.items():
        first.setdefault(encoder.fingerprint, name)
    if len(first) == 1:
        return next(iter(encoders.values())), dict.fromkeys(encoders, "")
    own = JoinedEncoder({name: encoders[name] for name in first.values()})
    return own, {name: f"{first[encoder.fingerprint]}/" for name, encoder in encoders.items()}
