"""Students that read words in order: their formulas, that padding is nothing, and that order is something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.students import Conv, Gru, Transformer, parameters
from understudy.students.families.reading import Words, pooled

ROWS = 60
BUILD: dict[str, Callable[..., Any]] = {
    "conv": lambda **more: Conv(ROWS, 3, **{"dimensions": 8, "width": 6, "hidden": 5, **more}),
    "gru": lambda **more: Gru(ROWS, 3, **{"dimensions": 8, "width": 6, "hidden": 5, **more}),
    "transformer": lambda **more: Transformer(ROWS, 3, **{"dimensions": 8, "width": 64, "hidden": 5, **more}),
}
families = pytest.mark.parametrize("name", list(BUILD))


def build(name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    return BUILD[name](**more)


def gradients(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    logits = model(**inputs)
    F.cross_entropy(logits, torch.arange(len(logits)) % 3).backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@families
def test_padding_changes_neither_logits_nor_gradient(name: str, batch: Any) -> None:
    model, inputs = build(name).eval(), batch("tokens", 6)
    wanted, slopes = gradients(model, inputs)
    assert len(slopes) == len(list(model.parameters()))
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    other = torch.where(mask > 0, ids, torch.randint(0, ROWS, ids.shape))
    more = {"input_ids": F.pad(other, (0, 5), value=7), "attention_mask": F.pad(mask, (0, 5))}
    for changed in ({**inputs, "input_ids": other}, more):
        logits, found = gradients(model, changed)
        torch.testing.assert_close(logits, wanted, atol=1e-6, rtol=1e-5)
        for parameter, slope in slopes.items():
            torch.testing.assert_close(found[parameter], slope, atol=1e-6, rtol=1e-4, msg=parameter)


@families
def test_nothing_that_padding_points_at_is_read(name: str, batch: Any) -> None:
    model, inputs = build(name).eval(), batch("tokens", 6)
    inputs["input_ids"] = torch.where(inputs["attention_mask"] > 0, inputs["input_ids"], 0)
    wanted = model(**inputs)
    with torch.no_grad():
        model.words.table.weight[0] = torch.nan
    logits, found = gradients(model, inputs)
    assert torch.equal(logits, wanted)
    assert all(bool(slope.isfinite().all()) for slope in found.values())
    assert not found["words.table.weight"][0].any()


def test_conv_is_its_formula(batch: Any) -> None:
    model, inputs = build("conv").eval().double(), batch("tokens", 5)
    for row in range(5):
        ids = inputs["input_ids"][row][inputs["attention_mask"][row] > 0]
        vectors = F.pad(model.words.table.weight[ids].T, (0, 3))  # [D, L + 3]
        found = []
        for size, filters in zip((2, 3, 4), model.filters, strict=True):
            kernel = filters.weight.view(6, size, 8).transpose(1, 2)
            found.append(F.relu(F.conv1d(vectors, kernel, filters.bias))[:, : len(ids)].amax(1))
        torch.testing.assert_close(
            model(**{name: value[[row]] for name, value in inputs.items()})[0], model.head(torch.cat(found))
        )


def test_gru_is_two_passes_over_a_rows_own_words(batch: Any) -> None:
    model, inputs = build("gru").eval(), batch("tokens", 5)
    both = nn.GRU(8, 6, batch_first=True, bidirectional=True)  # PyTorch's own, on one unpadded row at a time
    own = dict(model.rightward.named_parameters())
    own |= {f"{k}_reverse": v for k, v in model.leftward.named_parameters()}
    both.load_state_dict(own)
    logits = model(**inputs)
    for row in range(5):
        ids = inputs["input_ids"][row][inputs["attention_mask"][row] > 0]
        states = both(model.words.table.weight[ids][None])[0][0]
        wanted = model.head(torch.cat([states.amax(0), states.mean(0)]))
        torch.testing.assert_close(logits[row], wanted, atol=1e-6, rtol=1e-5)


def test_a_transformer_reads_past_its_last_position_and_splits_any_width(batch: Any) -> None:
    model = build("transformer", positions=4).eval()
    ids = torch.arange(5, 14)[None]
    mask = torch.ones_like(ids)
    logits = model(ids, mask)
    assert bool(logits.isfinite().all())
    swapped = ids[:, [0, 1, 2, 3, 5, 4, 6, 7, 8]]  # both at the last position: they cannot be told apart
    torch.testing.assert_close(model(swapped, mask), logits)
    assert not torch.allclose(model(ids[:, [0, 2, 1, 3, 4, 5, 6, 7, 8]], mask), logits)
    heads = {width: build("transformer", width=width).layers[0].heads for width in (8, 64, 96, 100, 97, 128)}
    assert heads == {8: 1, 64: 2, 96: 3, 100: 2, 97: 1, 128: 4}


def test_parameter_counts_are_the_formula() -> None:
    table, head = ROWS * 8, lambda wide: wide * 5 + 5 + 5 * 3 + 3
    assert parameters(build("conv")) == table + (2 + 3 + 4) * 8 * 6 + 3 * 6 + head(18)
    assert parameters(build("gru")) == table + 2 * 3 * (6 * 8 + 6 * 6 + 6 + 6) + head(24)
    layer = 12 * 64 * 64 + 9 * 64 + 4 * 64
    found = parameters(build("transformer", layers=3, positions=10))
    assert found == table + 8 * 64 + 10 * 64 + 3 * layer + 2 * 64 + head(128)


def ordered(draw: np.random.Generator, rows: int) -> tuple[dict[str, Tensor], Tensor]:
    """Six words among which are "2 3" or "3 2"; which of them is the label."""
    ids, labels = draw.integers(4, 20, (rows, 6)), np.arange(rows) % 2
    for row, (label, place) in enumerate(zip(labels, draw.integers(0, 5, rows), strict=True)):
        ids[row, place : place + 2] = [2, 3] if label else [3, 2]
    tokens = torch.from_numpy(ids)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, torch.from_numpy(labels)


@families
def test_each_learns_what_only_order_says(name: str) -> None:
    draw = np.random.default_rng(0)
    model = build(name, dimensions=16, width=32, hidden=16, word_dropout=0.0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(100):
        inputs, labels = ordered(draw, 64)
        optimiser.zero_grad()
        F.cross_entropy(model(**inputs), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    inputs, labels = ordered(draw, 256)
    assert float((model.eval()(**inputs).argmax(1) == labels).float().mean()) > 0.9  # a bag of words has .5


def test_words_are_dropped_at_the_stated_share_and_no_row_is_emptied() -> None:
    torch.manual_seed(0)
    words = Words(ROWS, 4, dropout=0.3)
    nn.init.ones_(words.table.weight)
    lengths = torch.tensor([1, 2, 40] * 300)
    mask = torch.arange(40) < lengths[:, None]
    ids = torch.zeros(900, 40, dtype=torch.int64)
    seen = words(ids, mask)[:, :, 0].detach()
    assert not seen[~mask].any()
    left = seen.sum(1)
    assert bool((left >= 1).all())
    assert abs(float(left[lengths == 40].mean()) / 40 - 0.7) < 0.02
    assert abs(float(left[lengths == 2].mean()) - 1.49) < 0.08  # emptied with probability .09, and then keeps one
    torch.testing.assert_close(words.eval()(ids, mask)[:, :, 0], mask.float())


def test_pooling_is_of_the_words() -> None:
    states = torch.tensor([[[1.0, -3.0], [2.0, -5.0], [9.0, 9.0]]])
    assert pooled(states, torch.tensor([[True, True, False]])).tolist() == [[2.0, -3.0, 1.5, -4.0]]


def test_initialise_places_vectors_and_leaves_the_rest() -> None:
    model = build("gru")
    before = model.words.table.weight.detach().clone()
    vectors = np.arange(24, dtype=np.float32).reshape(3, 8)
    model.words.initialise(vectors, first=2)
    assert torch.equal(model.words.table.weight[2:5], torch.from_numpy(vectors))
    assert torch.equal(model.words.table.weight[5:], before[5:])
    assert model.words.table.weight.requires_grad
    for wrong in (np.zeros((59, 8), np.float32), np.zeros((3, 7), np.float32)):
        with pytest.raises(UsageError, match="60 rows x 8"):
            model.words.initialise(wrong, first=2)


@families
def test_impossible_arguments_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="width=0"):
        build(name, width=0)
    with pytest.raises(UsageError, match=r"word_dropout=1\.0"):
        build(name, word_dropout=1.0)
