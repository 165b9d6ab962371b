"""Tables of few bits: what is written is what was rounded, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from understudy import runtime
from understudy.encoding import PairEncoder, WordEncoder
from understudy.errors import ArtefactError
from understudy.export import static_tensors, write_artefact
from understudy.export.static import int4_rows, int8_rows, packed
from understudy.runtime import StaticModel
from understudy.runtime.static import dequantised
from understudy.students import Ngram, Static

TEXTS = ["where is my card", "my cash", "", "is is is ?", "unknown words here"] * 4
ENCODER = WordEncoder(["where", "is", "my", "card", "cash"], buckets=40, pairs=True, characters=3)
KINDS = {
    "static": lambda: Static(ENCODER.size, 7, 4, hidden=6),  # an odd width: the last byte of a row is half empty
    "ngram": lambda: Ngram(ENCODER.size, 3, 4),
    "folded ngram": lambda: Ngram(ENCODER.size, 16, 3),
    "static of pairs": lambda: Static(ENCODER.size, 7, 4, hidden=6, texts=2),
    "ngram of pairs": lambda: Ngram(ENCODER.size, 7, 3, texts=2),  # never folded
}


def student(kind: str, *, size: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    module = KINDS[kind]().eval()
    with torch.no_grad():
        module.weights.uniform_(-2, 2)
        module.table.weight *= size * torch.logspace(-1, 1, ENCODER.size)[:, None]
    return module


def encoded(module: nn.Module) -> tuple[WordEncoder | PairEncoder, Any]:
    if module.texts == 1:
        return ENCODER, ENCODER.encode({"text": TEXTS})
    both = PairEncoder(ENCODER)
    return both, both.encode({"sentence1": TEXTS, "sentence2": TEXTS[::-1]})


def said(module: nn.Module) -> np.ndarray:
    encoder, features = encoded(module)
    inputs = encoder.collate(features, range(len(TEXTS)))
    with torch.no_grad():
        return module(**{name: torch.as_tensor(array) for name, array in inputs.items()}).numpy()


def rounded(kind: str, tensors: dict[str, np.ndarray]) -> nn.Module:
    """The module with the numbers that the tensors stand for."""
    found = dequantised(tensors)
    module = KINDS[kind]().eval()
    if "output.weight" not in found:
        module = Ngram(ENCODER.size, 3, 3).eval()
        found["output.weight"] = np.eye(3, dtype=np.float32)
    state = {name: torch.as_tensor(found[name]) for name in module.state_dict() if name in found}
    state |= {"table.weight": torch.as_tensor(found["table"]), "weights": torch.as_tensor(found["weights"]).log()}
    module.load_state_dict(state)
    return module


@pytest.mark.parametrize("bits", [4, 8, 32])
@pytest.mark.parametrize("kind", list(KINDS))
def test_what_is_exported_is_the_rounded_module(kind: str, bits: int) -> None:
    module = student(kind)
    tensors = static_tensors(module, bits=bits)
    logits = StaticModel(tensors).logits(encoded(module)[1])
    wanted = said(rounded(kind, tensors))
    assert np.abs(logits - wanted).max() <= 1e-6 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("kind", list(KINDS))
def test_more_bits_are_nearer(kind: str) -> None:
    module = student(kind)
    features, exact = encoded(module)[1], said(module)
    errors = [
        np.abs(StaticModel(static_tensors(module, bits=bits)).logits(features) - exact).mean() for bits in (4, 8, 32)
    ]
    assert errors[0] > 4 * errors[1] > 40 * errors[2]
    assert errors[2] < 1e-6 * np.abs(exact).max()
    assert errors[0] < 0.1 * exact.std()


ROWS = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)), elements=st.floats(-1e3, 1e3, width=32))


@settings(deadline=None)
@given(ROWS)
def test_the_error_of_a_row_is_what_its_scale_says(table: np.ndarray) -> None:
    for quantise, low, high in ((int8_rows, -127, 127), (int4_rows, -8, 7)):
        rows, scale = quantise(table)
        assert rows.dtype == np.int8
        assert low <= rows.min() <= rows.max() <= high
        error, step = np.abs(rows * scale[:, None] - table), np.abs(scale)[:, None]
        beyond = table / scale[:, None] > high + 0.5  # as far on the other side: sixteen values have one that is lonely
        assert (error <= np.where(beyond, 1.001, 0.501) * step).all()
        assert not (beyond.any() and low == -127)


@settings(deadline=None)
@given(arrays(np.int8, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.integers(-8, 7)))
def test_two_values_a_byte_come_back(rows: np.ndarray) -> None:
    tensors = {
        "table": packed(rows), "scale": np.ones(len(rows), np.float32), "weights": np.ones(len(rows), np.float32),
        "output.bias": np.zeros(rows.shape[1], np.float32),
    }  # fmt: skip
    assert tensors["table"].shape == (len(rows), (rows.shape[1] + 1) // 2)
    np.testing.assert_array_equal(dequantised(tensors)["table"], rows)


@pytest.mark.parametrize("size", [1e-7, 1.0, 1e7])
@pytest.mark.parametrize("bits", [4, 8])
def test_scales_are_halves_where_halves_can_carry_them(size: float, bits: int) -> None:
    module = student("static", size=size)
    with torch.no_grad():
        module.table.weight[3] = 0
        module.table.weight[4] = 1e-9 * size
    tensors = static_tensors(module, bits=bits)
    assert tensors["scale"].dtype == (np.float16 if size == 1.0 else np.float32)
    found, exact = dequantised(tensors)["table"], module.table.weight.detach().numpy()
    assert not found[3].any()
    scale = np.abs(tensors["scale"].astype(np.float32))[:, None]
    assert (np.abs(found - exact) <= 1.01 * scale).all()
    assert np.abs(found - exact).mean() < (0.1 if bits == 4 else 0.01) * np.abs(exact).mean()


def test_a_table_of_four_bits_is_half_of_one_of_eight() -> None:
    module = student("static")
    sizes = {bits: static_tensors(module, bits=bits) for bits in (4, 8, 32)}
    assert sizes[4]["table"].nbytes == ENCODER.size * 4
    assert sizes[8]["table"].nbytes == ENCODER.size * 7
    assert {tensor.dtype.itemsize for name, tensor in sizes[8].items() if name.endswith("weight")} == {1}
    assert sizes[8]["weights"].dtype == np.uint8
    assert {tensor.dtype for tensor in sizes[32].values()} == {np.dtype(np.float32)}


def test_only_the_tensors_of_pairs_say_how_many_texts_there_are() -> None:
    assert [kind for kind in KINDS if "texts" in static_tensors(student(kind))] == ["static of pairs", "ngram of pairs"]
    assert static_tensors(student("ngram of pairs"))["texts"].tolist() == [2]
    assert static_tensors(student("ngram of pairs"))["output.weight"].shape == (3, 4 * 7)


@pytest.mark.parametrize("bits", [4, 8, 32])
@pytest.mark.parametrize("kind", list(KINDS))
def test_an_artefact_says_what_the_rounded_module_says(kind: str, bits: int, tmp_path: Path) -> None:
    module = student(kind)
    tensors = static_tensors(module, bits=bits)
    encoder, _ = encoded(module)
    labels = ["a", "b", "c", "d"][: module.output.out_features]
    write_artefact(tmp_path / "a", task="t", labels=labels, encoder=encoder, model=tensors)
    columns = [TEXTS, TEXTS[::-1]][: module.texts]
    rows = [dict(zip(encoder.fields, row, strict=True)) for row in zip(*columns, strict=True)]
    wanted = said(rounded(kind, tensors))
    loaded = runtime.load(tmp_path / "a")
    np.testing.assert_allclose(loaded.logits(rows), wanted, rtol=1e-5, atol=1e-5)
    for row, logits in zip(rows, wanted, strict=True):
        np.testing.assert_allclose(loaded.logits([row])[0], logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["table", "scale", "weights", "weights.range", "output.scale", "hidden.scale"])
def test_tensors_of_few_bits_that_do_not_fit(name: str) -> None:
    tensors = static_tensors(student("static"), bits=4)
    with pytest.raises(ArtefactError, match=name.split(".")[0]):
        StaticModel({key: value for key, value in tensors.items() if key != name})
    with pytest.raises(ArtefactError, match=name):
        StaticModel({**tensors, name: tensors[name][..., :-1]})
    with pytest.raises(ArtefactError, match="finite"):
        StaticModel({**tensors, "output.bias": np.full(4, np.nan, np.float32)})
