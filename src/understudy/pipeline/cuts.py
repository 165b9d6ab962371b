"""From a recipe's student to what is cut from a teacher: its sub-words first, then its layers, width and rank."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from understudy import students
from understudy.encoding import CausalEncoder, Encoder, MaskedEncoder, SubwordEncoder
from understudy.errors import RecipeError
from understudy.pipeline.material import Material
from understudy.teachers import Loaded

ROWS, BATCH = 256, 32  # training rows on which importance is measured, and how many at once
WRAPPERS = (students.Normalised, students.Embedder, students.Reader, students.MaskedLM, students.CausalLM)
LISTED = 32  # entries of a list that run.json shows


@dataclass(frozen=True, eq=False)
class Cut:
    """What a recipe's student keeps of a teacher.

    Attributes:
        material: whose rows say what matters and which sub-words are used.
        teacher: one model.
    """

    material: Material
    teacher: Loaded

    @functools.cached_property
    def source(self) -> tuple[nn.Module, Encoder]:
        """The model that layers are cut from, and what the student reads: the teacher's, or with fewer sub-words.

        Of a wrapper it is the model inside (behind the pixels of an image teacher, before the pooling of one that gives
        vectors); what is cut is wrapped again.
        """
        most, encoder = self.material.recipe.student.vocabulary, self.teacher.encoder
        if most is None:
            return self._inner, encoder
        if not isinstance(encoder, SubwordEncoder):
            if isinstance(encoder, MaskedEncoder | CausalEncoder):
                raise RecipeError(
                    "student.vocabulary: whoever is to say the same sub-words shares a tokenizer with its "
                    "teacher: leave it out, and prune what is fine-tuned from this student"
                )
            raise RecipeError(f"student.vocabulary prunes sub-words, and the teacher reads {encoder.kind}")
        texts = [text for field in encoder.fields for text in self.material.learnable.inputs[field]]
        return students.prune_vocabulary(self._inner, encoder, texts, most=most)

    @functools.cached_property
    def whole(self) -> nn.Module:
        """The student as it starts; every training is given a copy."""
        dials = self.material.recipe.student
        measured = any(size is not None for size in (dials.width, dials.heads, dials.feed_forward, dials.rank))
        rows = self._rows() if measured else None
        return self._outer(students.cut(self.source[0], self._layers, **self._dials, rows=rows))

    def fresh(self) -> nn.Module:
        """One for a training: a copy, or with random weights where the recipe says so."""
        if self.material.recipe.student.initialise:
            return copy.deepcopy(self.whole)
        return self._outer(students.cut(self.source[0], self._layers, **self._dials, initialise=False))

    def inheritance(self) -> dict[str, Any]:
        """See `students.inheritance`; lists too long for a page give way to their number."""
        whole = self.whole.model if isinstance(self.whole, WRAPPERS) else self.whole
        found = students.inheritance(whole, self._inner)
        return {key: _short(value) for key, value in found.items()}

    def refuse(self) -> None:
        """Raises what cannot be made of this teacher, whose weights do not matter yet."""
        with torch.random.fork_rng(devices=[]):
            students.cut(self.source[0], self._layers, **self._dials, initialise=False)

    @property
    def _inner(self) -> nn.Module:
        model = self.teacher.model
        return model.model if isinstance(model, WRAPPERS) else model

    def _outer(self, student: nn.Module) -> nn.Module:
        model: Any = self.teacher.model
        return type(model)(student, **model.arguments) if isinstance(model, WRAPPERS) else student

    @property
    def _layers(self) -> Any:
        dials = self.material.recipe.student
        layers = dials.layers
        if layers is None and dials.folder is not None:  # it was cut before
            return len(students.layer_stack(self._inner)[1])
        return list(layers) if isinstance(layers, tuple) else layers

    @property
    def _dials(self) -> dict[str, Any]:
        dials = self.material.recipe.student
        return {key: getattr(dials, key) for key in ("spread", "width", "heads", "feed_forward", "choose", "rank")}

    def _rows(self) -> list[Mapping[str, Any]]:
        train, encoder = self.material.splits.train, self.source[1]
        chosen = np.random.default_rng(self.material.recipe.seed).permutation(len(train))[:ROWS]
        some = train.take(chosen)
        features = encoder.encode(some.inputs)
        order = np.argsort(encoder.lengths(features), kind="stable")
        batches = [encoder.collate(features, order[i : i + BATCH]) for i in range(0, len(order), BATCH)]
        return [self._read(batch) for batch in batches]

    def _read(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """A batch as the model itself takes it: pixels as the teacher's wrapper hands them on."""
        model = self.teacher.model
        if isinstance(model, students.MaskedLM):
            more = {"logits_to_keep": np.zeros(0, np.int64)} if getattr(model, "linear", False) else {}
            return {name: values for name, values in batch.items() if name != "places"} | more
        if not isinstance(model, students.Normalised):
            return batch
        with torch.no_grad():
            return {"pixel_values": model.values(torch.from_numpy(batch["pixels"]))}


def depth_of_cut(layers: Any, total: int, *, narrow: bool) -> int:
    """How many layers a recipe's ``student.layers`` leaves of a stack."""
    if layers is None:
        return total if narrow else max(1, total // 2)
    return len(layers) if isinstance(layers, tuple) else int(layers)


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _short(one) for key, one in value.items()}
    if isinstance(value, list) and any(isinstance(one, list) for one in value):
        return [_short(one) for one in value]
    return f"{len(value):,} entries" if isinstance(value, list) and len(value) > LISTED else value
