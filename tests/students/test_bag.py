"""The bag student and the embedder: what they compute, what ships of a bag, and what `again` gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from understudy import export, students
from understudy.encoding import WordEncoder
from understudy.errors import UsageError
from understudy.runtime.lookup import Lookup
from understudy.runtime.static import StaticModel

TEXTS = ["the card is lost", "rain", "a song about the rain and the card", "unknown wörds here"]


def bag(**more: Any) -> tuple[students.Bag, WordEncoder]:
    encoder = WordEncoder.fit(TEXTS[:3], most=8, buckets=16, pairs=True, characters=3)
    torch.manual_seed(0)
    student = students.Bag(encoder.size, 6, **more)
    torch.nn.init.normal_(student.weights)
    return student.eval(), encoder


def inputs(encoder: WordEncoder) -> dict[str, torch.Tensor]:
    features = encoder.encode({"text": TEXTS})
    return {name: torch.from_numpy(a) for name, a in encoder.collate(features, range(len(TEXTS))).items()}


def test_a_bag_is_the_weighted_mean_of_its_vectors() -> None:
    student, encoder = bag()
    said = inputs(encoder)
    ids = said["ids"][said["offsets"][1] : said["offsets"][2]]
    share = student.weights[ids].softmax(0)
    torch.testing.assert_close(student(**said)[1], (share[:, None] * student.table.weight[ids]).sum(0))


@pytest.mark.parametrize(("bits", "error"), [(32, 1e-6), (8, 2e-2), (4, 0.3)])
def test_a_bag_ships_as_its_table_and_numpy_says_the_same(bits: int, error: float) -> None:
    student, encoder = bag()
    tensors = export.static_tensors(student, bits=bits)
    assert "output.weight" not in tensors
    found = Lookup(encoder, StaticModel(tensors)).logits({"text": TEXTS})
    with torch.no_grad():
        wanted = student(**inputs(encoder)).numpy()
    assert export.vector_parity(wanted, found, most_error=error)["passed"]


def test_a_bag_and_an_embedder_come_back_from_disk(tmp_path: Path, tiny_encoder: Path) -> None:
    from transformers import AutoModel

    student, encoder = bag(word_dropout=0.2)
    students.save(student, tmp_path / "bag")
    torch.testing.assert_close(students.load(tmp_path / "bag")(**inputs(encoder)), student(**inputs(encoder)))
    model = students.Embedder(AutoModel.from_pretrained(tiny_encoder), "cls").eval()
    students.save(model, tmp_path / "embedder")
    again = students.load(tmp_path / "embedder")
    rows = {"input_ids": torch.tensor([[2, 9, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    torch.testing.assert_close(again(**rows), model(**rows))
    assert float(again(**rows).detach().norm(dim=1)) == pytest.approx(1.0)
    with pytest.raises(UsageError, match='no pooling "max"'):
        students.Embedder(model.model, "max")


def test_padding_changes_no_vector(tiny_encoder: Path) -> None:
    from transformers import AutoModel

    model = students.Embedder(AutoModel.from_pretrained(tiny_encoder)).eval()
    alone = model(torch.tensor([[2, 9, 3]]), torch.ones(1, 3, dtype=torch.long))
    padded = model(torch.tensor([[2, 9, 3, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]]))
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=1e-5)


def test_again_is_another_forward_with_other_dropout() -> None:
    student, encoder = bag(word_dropout=0.5)
    wrapped = students.Student(student.train())
    wrapped.bind(frozenset({"logits", "again"}))
    assert wrapped.needs == {"logits", "again"}
    said = wrapped(inputs(encoder))
    assert set(said.signals) == {"student.logits", "student.again"}
    assert not torch.equal(said["student.logits"], said["student.again"])
    wrapped.bind(frozenset({"logits"}))
    assert set(wrapped.eval()(inputs(encoder)).signals) == {"student.logits"}


def test_directions_keep_products_best() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(200, 6)) * np.array([5.0, 4.0, 3.0, 0.1, 0.1, 0.1]) + 1.0
    found = students.principal_directions(rows, 4)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-10)
    np.testing.assert_allclose(rows @ found @ found.T @ rows.T, rows @ rows.T, atol=8.0)
