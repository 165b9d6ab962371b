"""Factorised embeddings: a token table V x H as V x r and r x H, by singular values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.students.cutting.axes import tied, token_table


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
def factorise(model: nn.Module, rank: int, *, initialise: bool = True) -> float:
    """Replaces a model's table of sub-words, in place, by its best approximation of a rank; its share of the squares.

    The projection starts orthonormal, and the rows keep their lengths (U S and V of the singular value decomposition).

    Args:
        model: a transformers text model.
        rank: r, at most the width of the table.
        initialise: False: both start at random instead.

    Raises:
        UsageError: no table of sub-words, one that is tied to a head, or a rank beyond its width.
    """
    _, table = refuse_rank(model, rank)
    factors, share = factorise_empty(model, rank), 0.0
    if initialise:
        left, values, right = torch.linalg.svd(table.weight.detach().double().cpu(), full_matrices=False)
        factors.table.weight.copy_(left[:, :rank] * values[:rank])
        factors.project.weight.copy_(right[:rank].T)
        share = float(values[:rank].square().sum() / values.square().sum())
    else:
        std = float(getattr(getattr(model, "config", None), "initializer_range", 0.02))
        factors.table.weight.normal_(std=std)
        factors.project.weight.normal_(std=rank**-0.5)  # rows of the product are as long as those of a whole table
    return share


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
