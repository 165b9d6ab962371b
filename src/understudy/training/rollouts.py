"""On-policy batches: the student writes what comes after a prompt, and teacher and student are compared on that.

Learnt from texts alone a student meets, when it writes, beginnings that it never saw: its own. Here some of the batches
are its own (generalised knowledge distillation: Agarwal et al. 2024, arXiv 2306.13649, algorithm 1; with ``reverse_kl``
it is near to MiniLLM: Gu et al. 2024, arXiv 2306.08543, without its policy gradient).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.encoding import CausalEncoder
from understudy.encoding.causal import TEXT
from understudy.errors import UsageError
from understudy.records import Batch
from understudy.teachers.writing import NOWHERE, drawing, numbers_of, speaker_of, write

_WHETHER = 0x6F6E  # keeps these draws apart from those of the rows' order


@dataclass(frozen=True)
class Rollouts:
    """A ``prepare`` of `train` that lets the student write a share of the batches.

    Whether a batch is written is a function of (seed, step), and each token of (seed, step, content key of its row) and
    of the student's weights: neither micro-batches nor processes nor an interruption take part, but for the last digits
    of a forward in other company. Nothing is drawn of the global random state, dropout is off, and no gradient goes
    through what is drawn. In a written batch labels count nothing (mask ``labelled``), and every token that was written
    counts in ``words``, its end too. Of prompts with completions the prompt is kept; of a plain text the first half of
    its tokens. A text ends with its end, and a turn of a conversation with what its template puts there.

    Args:
        encoder: of all models of the training, which read alike.
        share: of the batches, 0 to 1.
        temperature: of what is drawn from the student's distribution, in (0, inf).
        longest: tokens that are written of a row, at most; fewer where the encoder's limit leaves less room. None: as
            many as the row itself has behind its prompt, its end among them.
        seed: of whatever is drawn.

    Raises:
        UsageError: a share, a temperature or a length that cannot be.
    """

    encoder: CausalEncoder
    share: float
    temperature: float = 1.0
    longest: int | None = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise UsageError(f"on_policy_share is a share of the batches, 0 to 1, got {self.share}")
        if not 0.0 < self.temperature < float("inf"):
            raise UsageError(f"rollout_temperature must be above 0, got {self.temperature}")
        if self.longest is not None and self.longest < 1:
            raise UsageError(f"rollout_tokens must be at least 1, got {self.longest}")

    @property
    def fingerprint(self) -> str:
        """Of everything that decides what is written, beside weights and rows."""
        said = (self.share, self.temperature, self.longest, self.seed)
        return f"rollouts {self.encoder.fingerprint} {said}"

    def due(self, step: int) -> bool:
        """Whether the student writes the batch of an optimiser step."""
        return bool(np.random.default_rng([self.seed, step, _WHETHER]).random() < self.share)

    def __call__(self, batch: Batch, model: nn.Module) -> Batch:
        """The batch as it is, or as the student writes it now.

        Raises:
            UsageError: a student that cannot write, or a batch of something else than next tokens.
        """
        if not self.due(batch.step):
            return batch
        inputs = batch.inputs["student"]
        if "places" not in inputs:
            raise UsageError("on_policy_share is of next tokens (causal-lm), and this batch has none")
        ids, lengths, left = self._prompts(inputs)
        room = left if self.longest is None else torch.clamp(self.encoder.limit - lengths, max=self.longest)
        room = torch.clamp(room, min=1)
        whole: Any = model
        names = [f"{self.seed} {batch.step} {key}" for key in batch.keys]
        written = write(
            speaker_of(whole.students[whole.names.index("student")], "the student"),
            ids,
            lengths,
            room=room,
            choose=drawing(self.encoder.size, numbers_of(names, int(room.max())).to(ids.device), self.temperature),
            ends=self.encoder.end_ids,
        )
        return self._rewritten(batch, ids, lengths, written)

    def _prompts(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """What is kept of each row, int64 [N, L] and anything behind it; how long that is, how much is left, [N]."""
        ids, whole = inputs["input_ids"], inputs["attention_mask"].sum(1)
        first = torch.minimum(inputs["places"][:, 0] + 1, whole)  # of the tokens that count
        kept = first + (whole - first) // 2 if self.encoder.fields == TEXT else first
        return ids[:, : int(kept.max())], kept, whole - kept

    def _rewritten(self, batch: Batch, ids: Tensor, lengths: Tensor, written: Tensor) -> Batch:
        rows, most = written.shape
        there = written != NOWHERE
        where = lengths[:, None] + torch.arange(most, device=ids.device)
        width = int((lengths + there.sum(1)).max())
        place = torch.arange(width, device=ids.device)[None, :]
        read = torch.full((rows, width + most), self.encoder.padding_id, dtype=torch.int64, device=ids.device)
        read[:, : ids.shape[1]] = ids
        read.scatter_(1, where, torch.where(there, written, self.encoder.padding_id))
        attention = (place < (lengths + there.sum(1))[:, None]).long()
        inputs = {
            "input_ids": torch.where(attention != 0, read[:, :width], self.encoder.padding_id),
            "attention_mask": attention,
            "places": torch.where(there, where - 1, 0),
        }
        weights = batch.masks["examples"][:, None]
        counted = there.to(weights.dtype) * weights
        masks = {"words": counted, "labelled": torch.zeros_like(counted), "tokens": attention * weights}
        return replace(
            batch,
            inputs=dict.fromkeys((*batch.inputs, "teacher"), inputs),
            labels=written,
            masks={**batch.masks, **masks},
            written=True,
        )
