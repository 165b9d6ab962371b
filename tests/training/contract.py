"""One optimiser step carries everything the plan promises.

The student has an exit that its last layer teaches, a peer learns beside it, a language-model head is matched in tiles
without ever making its logits, a contrastive term remembers negatives, and 40 % of the rows have no label.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from understudy.data.examples import Examples
from understudy.data.feed import Feed
from understudy.objectives import Needs, Term, forward_kl, hard_labels, soft_labels
from understudy.records import Batch, Outputs, Targets
from understudy.training import Settings, train

VOCABULARY, WIDTH, LENGTH, CLASSES, ROWS = 50, 16, 6, 5, 31  # 31 rows: the last batch is a partial one


class Tokens:
    """An encoder that is as small as can be: a text of numbers."""

    kind, fields, fingerprint = "subwords", ("text",), "tokens"

    def encode(self, inputs: Mapping[str, Any]) -> list[list[int]]:
        return [[int(word) for word in text.split()] for text in inputs["text"]]

    def lengths(self, features: list[list[int]]) -> np.ndarray:
        return np.array([len(ids) for ids in features])

    def collate(self, features: list[list[int]], rows: np.ndarray) -> dict[str, np.ndarray]:
        longest = max(len(features[i]) for i in rows)
        ids = np.array([features[i] + [0] * (longest - len(features[i])) for i in rows])
        mask = np.array([[1] * len(features[i]) + [0] * (longest - len(features[i])) for i in rows])
        return {"input_ids": ids, "attention_mask": mask}


class Net(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.exit, self.last = nn.Linear(WIDTH, CLASSES), nn.Linear(WIDTH, CLASSES)
        self.unused = nn.Linear(WIDTH, 3)  # no term reaches it

    def bind(self, needs: frozenset[str]) -> None:
        """Answers with signals of its own, whatever is asked: nothing wraps it."""

    def forward(self, inputs: Mapping[str, Tensor]) -> Outputs:
        mask = inputs["attention_mask"].float()

        def pool(states: Tensor) -> Tensor:
            return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

        shallow = torch.tanh(self.first(self.embedding(inputs["input_ids"])))
        deep = torch.tanh(self.second(shallow)) + shallow
        said = {"logits": self.last(pool(deep)), "exit.0.logits": self.exit(pool(shallow)), "pooled": pool(deep)}
        said |= {"states": deep, "head": self.embedding.weight}
        return Outputs({f"{self.name}.{key}": value for key, value in said.items()})


class Teacher:
    def __init__(self) -> None:
        torch.manual_seed(7)
        self.net = Net("teacher").eval().requires_grad_(False)
        self.bound: frozenset[str] = frozenset()

    def bind(self, needs: frozenset[str]) -> None:
        self.bound = needs

    def targets(self, batch: Batch) -> Targets:
        return Targets(self.net(batch.inputs["student"]).signals)


def tiled(outputs: Outputs, targets: Targets, batch: Batch, tile: int = 7) -> Tensor:
    """forward_kl over the vocabulary, [N, L], a few positions at a time: only one tile of logits exists."""
    own, theirs = outputs["states"].reshape(-1, WIDTH), targets["states"].reshape(-1, WIDTH)

    def piece(x: Tensor, y: Tensor) -> Tensor:
        return forward_kl(x @ outputs["head"].T, y @ targets["head"].T)

    parts = [
        checkpoint(piece, x, y, use_reentrant=False) for x, y in zip(own.split(tile), theirs.split(tile), strict=True)
    ]
    return torch.cat(parts).view(outputs["states"].shape[:2])


class Memory(nn.Module):
    """Negatives by content: read in forward, written in commit, once a step."""

    def __init__(self, outputs: Outputs, targets: Targets) -> None:
        super().__init__()
        self.project = nn.Linear(outputs["pooled"].shape[-1], targets["pooled"].shape[-1])
        bank = torch.randn(64, targets["pooled"].shape[-1], generator=torch.Generator().manual_seed(3))
        self.register_buffer("bank", F.normalize(bank, dim=-1))
        self.pending: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, own: Tensor, theirs: Tensor, slots: Tensor, counted: Tensor) -> Tensor:
        query, positive = F.normalize(self.project(own), dim=-1), F.normalize(theirs, dim=-1)
        self.pending.append((slots, positive.detach(), counted))
        logits = torch.cat([(query * positive).sum(-1, keepdim=True), query @ self.bank.T], 1) / 0.1
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long), reduction="none")

    def forget(self) -> None:
        self.pending.clear()

    def commit(self, gather: Any) -> None:
        slots, seen, counted = (gather(torch.cat(parts)) for parts in zip(*self.pending, strict=True))
        self.pending.clear()
        slots, seen = slots[counted], seen[counted]  # a filler row is blanked, and no memory
        for i in torch.argsort(slots).tolist():  # by content: which row comes last at a slot is not up to the split
            self.bank[slots[i] % len(self.bank)] = seen[i]


def remember(outputs: Outputs, targets: Targets, batch: Batch, *, connector: nn.Module) -> Tensor:
    slots = torch.tensor([int(key[:15], 16) for key in batch.keys])
    return connector(outputs["pooled"], targets["pooled"], slots, batch.masks["examples"] > 0)


def objective() -> list[Term]:
    both = Needs(frozenset({"states", "head"}), frozenset({"states", "head"}))
    pooled = Needs(frozenset({"pooled"}), frozenset({"pooled"}))
    return [
        hard_labels(0.3),
        soft_labels(2.0, 0.7),
        soft_labels(2.0, 0.5, of="exit.0", against="self", name="exit"),
        soft_labels(2.0, 0.4, against="peer.1", name="from_peer"),
        soft_labels(2.0, 0.4, of="peer.1", against="student", name="to_peer"),
        Term("tiled", tiled, per="tokens", needs=both),
        Term("memory", remember, weight=0.2, needs=pooled, connector=Memory),
    ]


def examples(rows: int = ROWS) -> Examples:
    random = np.random.default_rng(1)
    texts = [" ".join(map(str, random.integers(1, VOCABULARY, random.integers(2, LENGTH + 1)))) for _ in range(rows)]
    labels = random.integers(0, CLASSES, rows)
    labels[random.random(rows) < 0.4] = -1
    return Examples.of({"text": texts}, labels)


def weights(
    accumulation: int, *, batch_size: int = 32, folder: Path | None = None, epochs: int = 4, **more: Any
) -> dict[str, Tensor]:
    """Every weight, and the memory, after a few steps."""
    torch.manual_seed(0)
    cohort = {"student": Net("student"), "peer.1": Net("peer.1")}
    settings = Settings(epochs=epochs, batch_size=batch_size, accumulation=accumulation, learning_rate=1e-2, warmup=0.0)
    seen: dict[str, Tensor] = {}

    def validate(module: nn.Module) -> float:  # called with every student after every epoch: the later one is better
        seen.update({f"{module.name}.{name}": value.clone() for name, value in module.state_dict().items()})
        return float(len(seen) + sum(float(v.abs().sum()) for v in module.state_dict().values()))

    train(
        cohort, Feed(examples(), {"student": Tokens()}), objective=objective(), teacher=Teacher(), settings=settings,
        validate=validate, folder=folder, device="cpu", **more,
    )  # fmt: skip
    return seen
