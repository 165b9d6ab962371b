"""The n-gram student: its formula, what it cannot represent, its start, and an export of 4 bits that answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from understudy.encoding import WordEncoder
from understudy.errors import UsageError
from understudy.students import Ngram


def model(**more: Any) -> Ngram:
    torch.manual_seed(0)
    made = Ngram(50, 8, 3, **more)
    nn.init.normal_(made.weights)
    return made


def by_hand(made: Ngram, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """The formula of the docstring, bag by bag, in fp64."""
    rows = []
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        bag = ids[start:end]
        v, w = made.table.weight.detach().double()[bag], made.weights.detach().double()[bag].exp()[:, None]
        rows.append((w * v).sum(0) / w.sum())
    return torch.stack(rows) @ made.output.weight.double().T + made.output.bias.double()


def test_logits_are_the_formula(batch: Any) -> None:
    made, inputs = model().eval(), batch("bags", 7)
    torch.testing.assert_close(made(**inputs).double(), by_hand(made, **inputs), atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        made.weights += 200  # exp of it is infinite; only differences count
    moved = made(**inputs)
    with torch.no_grad():
        made.weights -= 200
    torch.testing.assert_close(moved, made(**inputs), atol=1e-5, rtol=1e-4)


def test_the_gradient_is_that_of_the_formula() -> None:
    made = Ngram(12, 3, 2, word_dropout=0.0).double()
    nn.init.normal_(made.weights)
    ids, offsets = torch.tensor([3, 3, 4, 7, 1, 3, 0]), torch.tensor([0, 4, 5, 7])

    def logits(table: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(made, {"table.weight": table, "weights": weights}, (ids, offsets))

    given = tuple(value.detach().clone().requires_grad_() for value in (made.table.weight, made.weights))
    assert torch.autograd.gradcheck(logits, given)


def test_the_docstring_is_honest_about_order() -> None:
    """A negation at a distance: the same words and the same pairs in another order are the same text to it."""
    encoder = WordEncoder((), buckets=4096, pairs=True, characters=4)
    made = Ngram(encoder.size, 8, 2).eval()

    def said(*texts: str) -> torch.Tensor:
        inputs = encoder.collate(encoder.encode({"text": list(texts)}), range(len(texts)))
        return made(**{name: torch.as_tensor(array) for name, array in inputs.items()})

    one, two = said("a good b bad a not b", "a not b bad a good b")
    torch.testing.assert_close(one, two)
    close, apart = said("not good film", "good not film")
    assert not torch.allclose(close, apart), "neighbours it does see"
    once, twice = said("good film good", "good film good film good")
    torch.testing.assert_close(said("fine", "fine fine")[0], said("fine")[0])
    assert (once - twice).abs().max() < 1, "a longer text is not surer: it is a mean"


def test_an_empty_bag_and_impossible_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="row 1 is an empty bag"):
        model()(torch.tensor([1, 2]), torch.tensor([0, 2, 2]))
    for wrong in ({"rows": 0}, {"dimensions": 0}, {"classes": 0}, {"word_dropout": 1.0}):
        with pytest.raises(UsageError):
            Ngram(**{"rows": 5, "dimensions": 2, "classes": 2, **wrong})


def test_words_that_share_a_row_start_from_their_weighted_mean() -> None:
    made = Ngram(6, 2, 2)
    vectors = np.array([[1, 0], [0, 1], [4, 4]], np.float32)
    made.initialise(vectors, rows=np.array([3, 3, 5]), counts=np.array([3, 1, 7]))
    wanted = torch.tensor([[0.75, 0.25], [4.0, 4.0]])
    torch.testing.assert_close(made.table.weight[[3, 5]], wanted)
    assert not made.table.weight[[0, 1, 2, 4]].any()
    assert made.weights.tolist() == [-2, -2, -2, 0, -2, 0]
    for rows, counts in (([3, 3], [1, 1, 1]), ([3, 3, 6], [1, 1, 1]), ([3, 3, -1], [1, 1, 1])):
        with pytest.raises(UsageError, match="counts"):
            made.initialise(vectors, rows=np.array(rows), counts=np.array(counts))
    with pytest.raises(UsageError, match="6 rows x 2"):
        made.initialise(vectors[:, :1], rows=np.array([1, 2, 3]), counts=np.ones(3, np.int64))
