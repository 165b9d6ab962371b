"""Signals as NumPy arrays, and what a term makes of them."""

from __future__ import annotations

import numpy as np
import torch

from understudy.objectives import Term
from understudy.records import Batch, Outputs, Targets

Arrays = dict[str, np.ndarray]


def batch(rows: int, tokens=None) -> Batch:
    masks = {"examples": torch.ones(rows)}
    if tokens is not None:
        masks["tokens"] = torch.tensor(tokens, dtype=torch.float32)
    return Batch(tuple(map(str, range(rows))), {}, None, masks)


def said(student: Arrays, teacher: Arrays) -> tuple[Outputs, Targets]:
    def tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(array) for name, array in arrays.items()}

    return Outputs(tensors(student)), Targets(tensors(teacher))


def value(term: Term, student: Arrays, teacher: Arrays, tokens=None) -> np.ndarray:
    rows = len(next(iter(student.values())))
    return term.value(*said(student, teacher), batch(rows, tokens)).numpy()


def loss(term: Term, student: Arrays, teacher: Arrays, tokens=None) -> float:
    rows = batch(len(next(iter(student.values()))), tokens)
    return float(term.total(*said(student, teacher), rows) / term.count(rows))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)
