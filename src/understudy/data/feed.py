"""A feed: rows encoded once for every model that will look at them, handed out as batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from understudy.data.ends import Ends
from understudy.data.examples import Examples
from understudy.data.words import Words
from understudy.encoding import CausalEncoder, Encoder, MaskedEncoder, PassageEncoder
from understudy.errors import UsageError
from understudy.files import content_hash
from understudy.records import Batch

View = Callable[..., Any]


class Feed:
    """Examples with each model's own encoding of them.

    Args:
        examples: the rows; label -1 marks a row without one, which counts in soft terms and not in hard ones.
        encoders: model name -> encoder (``{"student": ..., "teacher": ...}``); each encodes all rows once, here. The
            first one's lengths decide which rows share a batch, and its padding what the mask ``tokens`` counts.
        class_weights: [K] weight of a labelled row by its class, default 1.
        view: ``view(pixels, keys, epoch=...)``, a pure function (see ``data.views``), for the pixels of every model.
        answered: of tags: [N] words of each row that a teacher answers whose encoder is not among these, because its
            targets are stored; None: all.
    """

    def __init__(
        self,
        examples: Examples,
        encoders: Mapping[str, Encoder],
        *,
        class_weights: np.ndarray[Any, Any] | None = None,
        view: View | None = None,
        answered: np.ndarray[Any, Any] | None = None,
    ) -> None:
        self.examples = examples
        self.encoders = dict(encoders)
        once = {encoder.fingerprint: encoder.encode(examples.inputs) for encoder in encoders.values()}
        self.features = {name: once[encoder.fingerprint] for name, encoder in encoders.items()}
        self.view = view
        labels = np.array(examples.labels)
        known = examples.known
        self.hiding = all(isinstance(encoder, MaskedEncoder | CausalEncoder) for encoder in encoders.values())
        if self.hiding and len(once) > 1:
            raise UsageError(
                "whoever is to say the same tokens must read alike: these models have other tokenizers or limits; a "
                "teacher of decoders with another vocabulary writes texts to learn from (understudy generate)"
            )
        self.words: Words | Ends | None = None
        if any(encoder.kind == PassageEncoder.kind for encoder in encoders.values()):
            self.words = Ends(labels, self.encoders, self.features)
        elif labels.dtype.kind == "O":
            self.words = Words.of(self.encoders, self.features, answered)
        weights = known.astype(np.float32)
        if class_weights is not None:
            weights[known] = np.asarray(class_weights, dtype=np.float32)[labels[known]]
        self.labels, self.label_weights = labels, weights
        first = next(iter(encoders))
        self.lengths = np.asarray(encoders[first].lengths(self.features[first]), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def fingerprint(self) -> str:
        """Hash of the rows in their order, of how each model reads them, and of their weights; a view is not in it."""
        readers = [part for name, encoder in self.encoders.items() for part in (name, encoder.fingerprint)]
        return content_hash(self.examples.fingerprint, *readers, self.label_weights.tobytes())

    def batch(self, rows: np.ndarray[Any, Any], *, fillers: int = 0, epoch: int = 0) -> Batch:
        """The rows as one batch; the last ``fillers`` of them weigh nothing in any term."""
        keys = tuple(map(self.examples.keys.__getitem__, rows.tolist()))
        said: np.ndarray[Any, Any] | None = None
        if self.hiding:
            inputs, said = self._hidden(rows, epoch)
        else:
            inputs = {name: self._encoded(name, rows, keys, epoch) for name in self.features}
        examples, labelled = np.ones(len(rows), np.float32), self.label_weights[rows]
        if fillers:
            examples[-fillers:] = labelled[-fillers:] = 0
        masks = {"examples": torch.from_numpy(examples), "labelled": torch.from_numpy(labelled)}
        attention = next(iter(inputs.values())).get("attention_mask")
        if attention is not None:
            weights = masks["examples"]
            if len(attention) != len(rows):  # several windows a row
                weights = weights[torch.from_numpy(self._owners(rows))]
            masks["tokens"] = attention * weights.reshape(-1, *[1] * (attention.ndim - 1))
        if said is not None:
            there = torch.from_numpy((said >= 0).astype(np.float32))
            masks |= {"words": there * masks["examples"][:, None], "labelled": there * masks["labelled"][:, None]}
            return Batch(keys=keys, inputs=inputs, labels=torch.from_numpy(said), masks=masks, epoch=epoch)
        if self.words is None:
            labels = torch.from_numpy(self.labels[rows])
            return Batch(keys=keys, inputs=inputs, labels=labels, masks=masks, epoch=epoch)
        tags, places, more = self.words.batch(self, rows, examples, labelled)
        return Batch(keys=keys, inputs=inputs, labels=tags, masks=masks | more, epoch=epoch, places=places)

    def _owners(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        first, encoder = next(iter(self.encoders.items()))
        assert isinstance(encoder, PassageEncoder)
        return encoder.owners(self.features[first], rows)

    def _hidden(self, rows: np.ndarray[Any, Any], epoch: int) -> tuple[dict[str, dict[str, Any]], np.ndarray[Any, Any]]:
        """The same inputs for every model, some tokens hidden in this epoch, and the ids of these, [N, P]."""
        name = next(iter(self.encoders))
        encoder: Any = self.encoders[name]
        arrays, said = encoder.masked(self.features[name], rows, epoch=epoch)
        inputs = {key: torch.from_numpy(array) for key, array in arrays.items()}
        return dict.fromkeys(self.encoders, inputs), said

    def _encoded(self, name: str, rows: np.ndarray[Any, Any], keys: tuple[str, ...], epoch: int) -> dict[str, Any]:
        arrays = self.encoders[name].collate(self.features[name], rows)
        if self.view is not None:
            seen = [key for key in arrays if key.rpartition("/")[2] == "pixels"]  # an ensemble has one for each member
            arrays = {**arrays, **{key: self.view(arrays[key], keys, epoch=epoch) for key in seen}}
        return {key: torch.from_numpy(array) for key, array in arrays.items()}
