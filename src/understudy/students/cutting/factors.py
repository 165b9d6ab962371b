"""Factorised embeddings: a token table V x H as V x r and r x H, by singular values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.students.cutting.axes import tied, token_table

UNSEEN = 0.1  # occurrences that a sub-word counts which no row has


class FactorisedEmbedding(nn.Module):
    """Sub-word ids -> rows of a narrow table, times one matrix.

    As in ALBERT (Lan et al. 2020, arXiv 1909.11942), where V x H numbers become V x r + r x H.

    Args:
        rows: V.
        rank: r.
        width: H.
        padding: id whose row gets no gradient; None: every row learns.
    """

    def __init__(self, rows: int, rank: int, width: int, *, padding: int | None = None) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, rank, padding_idx=padding)
        self.project = nn.Linear(rank, width, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """int64 [...] -> [..., H]."""
        found: Tensor = self.project(self.table(ids))
        return found

    @torch.no_grad()
    def whole(self) -> Tensor:
        """The table that the two stand for, [V, H]."""
        return self.table.weight @ self.project.weight.T


@torch.no_grad()
def factorise(
    model: nn.Module, rank: int, *, rows: Sequence[Mapping[str, Any]] = (), initialise: bool = True
) -> float | None:
    """Replaces a model's table of sub-words, in place, by its best approximation of a rank.

    Best is the least sum of squared differences, each sub-word weighing as often as it occurs on ``rows``, and
    `UNSEEN` where it does not; without rows all weigh the same (the singular value decomposition). The projection
    starts orthonormal, and what a row loses is what is orthogonal to it.

    Args:
        model: a transformers text model.
        rank: r, at most the width of the table.
        rows: batches of its inputs by name.
        initialise: False: both factors start at random instead.

    Returns:
        The share of the (weighted) squares that is kept; None where the factors are random.

    Raises:
        UsageError: no table of sub-words, one that is tied to a head, or a rank beyond its width.
    """
    _, table = refuse_rank(model, rank)
    factors = factorise_empty(model, rank)
    if not initialise:
        std = float(getattr(getattr(model, "config", None), "initializer_range", 0.02))
        factors.table.weight.normal_(std=std)
        factors.project.weight.normal_(std=rank**-0.5)  # rows of the product are as long as those of a whole table
        return None
    whole = table.weight.detach().double().cpu()
    weights = _uses(rows, len(whole)) if rows else torch.ones(len(whole), dtype=torch.double)
    values, vectors = torch.linalg.eigh(whole.T @ (weights[:, None] * whole))  # ascending
    directions = vectors.flip(1)[:, :rank]
    factors.table.weight.copy_(whole @ directions)
    factors.project.weight.copy_(directions)
    return float(values.flip(0)[:rank].sum() / values.sum())


def _uses(rows: Sequence[Mapping[str, Any]], size: int) -> Tensor:
    """How often each sub-word occurs on rows, fp64 [V], and a little for each that does not."""
    counts = torch.zeros(size, dtype=torch.double)
    for batch in rows:
        if "input_ids" not in batch:
            raise UsageError(f"rows of a text model have input_ids, got {', '.join(batch) or 'nothing'}")
        ids = torch.as_tensor(batch["input_ids"]).cpu().long()
        mask = batch.get("attention_mask")
        seen = ids.flatten() if mask is None else ids[torch.as_tensor(mask).cpu().bool()]
        counts += torch.bincount(seen, minlength=size)
    return counts + UNSEEN


def factorise_empty(model: nn.Module, rank: int) -> FactorisedEmbedding:
    """Replaces a model's table of sub-words, in place, by an untrained one of a rank; raises what `factorise` does."""
    path, table = refuse_rank(model, rank)
    made = FactorisedEmbedding(table.num_embeddings, rank, table.embedding_dim, padding=table.padding_idx)
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, made.to(table.weight).train(model.training))
    return made


def refuse_rank(model: nn.Module, rank: int) -> tuple[str, nn.Embedding]:
    """Path and table that a rank is for; raises what `factorise` raises."""
    table, name = token_table(model), type(model).__name__
    if table is None or "vocab_size" not in dir(getattr(model, "config", None)):
        raise UsageError(f"a rank factorises the table of a text model's sub-words, and {name} has none")
    if tied(model):
        raise UsageError(
            f"the table of {name} is tied to its head, which reads it as V x H: factorise a model without such a head"
        )
    if not 1 <= rank <= table.embedding_dim:
        raise UsageError(f"a rank is between 1 and the width of the table, {table.embedding_dim}, not {rank}")
    return next(path for path, module in model.named_modules() if module is table), table


def factors_of(model: nn.Module) -> tuple[str, FactorisedEmbedding] | None:
    """Path and module of a model's factorised table; None where it has none."""
    return next(((path, m) for path, m in model.named_modules() if isinstance(m, FactorisedEmbedding)), None)
