"""Students of two texts: each text goes through the network alone, and the head compares what came out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.students import Conv, Gru, Ngram, Static, Transformer
from understudy.students.families.pairs import compared

ROWS = 60
SMALL = {"dimensions": 8, "width": 16, "hidden": 12}
BUILD: dict[str, Callable[..., Any]] = {
    "static": lambda **more: Static(ROWS, 8, 3, hidden=12, **more),
    "ngram": lambda **more: Ngram(ROWS, 8, 3, **more),
    "conv": lambda **more: Conv(ROWS, 3, **{**SMALL, **more}),
    "gru": lambda **more: Gru(ROWS, 3, **{**SMALL, **more}),
    "transformer": lambda **more: Transformer(ROWS, 3, layers=1, **{**SMALL, **more}),
}
families = pytest.mark.parametrize("name", list(BUILD))


def build(name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    return BUILD[name](**{"texts": 2, **more})


def rows(name: str, *pairs: tuple[list[int], list[int]]) -> dict[str, Tensor]:
    """Inputs of pairs of lists of ids."""
    texts = [torch.tensor(text) for pair in pairs for text in pair]
    if name in ("static", "ngram"):
        return {"ids": torch.cat(texts), "offsets": torch.tensor([0, *map(len, texts)]).cumsum(0)}
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([[len(text)] for text in texts])
    return {"input_ids": ids.unflatten(0, (-1, 2)), "attention_mask": mask.long().unflatten(0, (-1, 2))}


def read_by_the_head(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """What the first layer behind the comparison is given."""
    first = {Static: "hidden", Ngram: "output"}.get(type(model), "head.hidden")
    seen: list[Tensor] = []
    hook = model.get_submodule(first).register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    model(**inputs)
    hook.remove()
    return seen[0]


@families
def test_the_head_reads_both_texts_their_difference_and_their_product(name: str) -> None:
    model = build(name).eval()
    one, two = [5, 9, 31], [7, 5]
    u, v, apart, both = read_by_the_head(model, rows(name, (one, two))).chunk(4, dim=1)
    other, _, _, _ = read_by_the_head(model, rows(name, (two, [4] * 9))).chunk(4, dim=1)
    torch.testing.assert_close(v, other, msg="a text does not know the other one, nor its side")
    torch.testing.assert_close(apart, (u - v).abs())
    torch.testing.assert_close(both, u * v)
    assert bool((apart > 1e-4).any())


@families
def test_equal_texts_differ_in_nothing(name: str) -> None:
    model = build(name).eval()
    u, v, apart, both = read_by_the_head(model, rows(name, ([5, 9, 31], [5, 9, 31]), ([2], [2]))).chunk(4, dim=1)
    assert torch.equal(u, v)
    assert not apart.any()
    assert bool((both >= 0).all())


@families
def test_which_text_comes_first_matters(name: str) -> None:
    model = build(name).eval()
    said = model(**rows(name, ([5, 9, 31], [7, 5]), ([7, 5], [5, 9, 31])))
    assert said.shape == (2, 3)
    assert bool((said[0] - said[1]).abs().max() > 1e-5)


@families
def test_one_text_is_what_it_was(name: str) -> None:
    """A student of one text has the shapes and the answers that it had without the argument."""
    torch.manual_seed(0)
    plain, one = BUILD[name]().eval(), build(name, texts=1).eval()
    assert {key: value.shape for key, value in plain.state_dict().items()} == {
        key: value.shape for key, value in one.state_dict().items()
    }
    two = build(name)
    assert two.arguments["texts"] == 2
    wider = [key for key, value in two.state_dict().items() if value.shape != plain.state_dict()[key].shape]
    assert wider == [{"static": "hidden.weight", "ngram": "output.weight"}.get(name, "head.hidden.weight")]


@families
def test_what_no_sum_over_words_says_is_learnt(name: str) -> None:
    """Whether both texts are about the same of eight things: neither says it, nor do both added up."""
    draw = np.random.default_rng(0)

    def some(count: int) -> tuple[dict[str, Tensor], Tensor]:
        labels = np.arange(count) % 2
        first = draw.integers(0, 8, count)
        second = np.where(labels, first, (first + draw.integers(1, 8, count)) % 8)
        fill = draw.integers(20, 24, (count, 2, 2))
        pairs = [([10 + a, *x], [*y, 10 + b]) for a, b, (x, y) in zip(first, second, fill.tolist(), strict=True)]
        return rows(name, *pairs), torch.from_numpy(labels)

    more = {} if name in ("static", "ngram") else {"dimensions": 16, "width": 32, "dropout": 0.0}
    model = build(name, word_dropout=0.0, **more)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2 if name != "ngram" else 5e-2)
    for _ in range(150):
        inputs, labels = some(64)
        optimiser.zero_grad()
        F.cross_entropy(model(**inputs), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    inputs, labels = some(256)
    assert float((model.eval()(**inputs).argmax(1) == labels).float().mean()) > 0.9


@pytest.mark.parametrize("name", ["static", "ngram"])
def test_bags_that_are_no_pairs_are_refused(name: str) -> None:
    model = build(name)
    with pytest.raises(UsageError, match="rows of 2 texts have a bag for each, got 3 bags"):
        model(torch.tensor([1, 2, 3]), torch.tensor([0, 1, 2, 3]))
    with pytest.raises(UsageError, match="row 1 is an empty bag"):
        model(torch.tensor([1, 2, 3]), torch.tensor([0, 1, 2, 2, 3]))


@families
def test_three_texts_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="texts=3"):
        build(name, texts=3)


def test_what_is_compared_has_a_gradient_on_both_sides() -> None:
    given = torch.randn(4, 3, requires_grad=True, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: compared(x, 2), (given,))
    assert compared(given, 1) is given
