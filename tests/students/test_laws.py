"""Laws that hold for every family of students."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from understudy import students
from understudy.students import Student

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def say(module: nn.Module, inputs: dict[str, Any]) -> Tensor:
    return Student(module)(inputs)["student.logits"]


def built(family: Any, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return family.build()


def test_saved_and_loaded_says_exactly_the_same(family: Any, batch: Any, tmp_path: Path) -> None:
    module = built(family).eval()
    students.save(module, tmp_path / "saved")
    loaded = students.load(tmp_path / "saved")
    assert type(loaded) is type(module)
    assert not loaded.training
    inputs = batch(family.kind, 5)
    assert torch.equal(say(module, inputs), say(loaded, inputs))
    assert students.parameters(loaded) == students.parameters(module)
    names = {path.name for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert names == {"config.json", "model.safetensors"}
    assert students.bytes_on_disk(tmp_path / "saved") >= 4 * students.parameters(module)
    assert str(tmp_path) not in "".join(path.read_text() for path in tmp_path.rglob("config.json"))


def test_rows_do_not_know_each_other(family: Any, batch: Any, take: Any) -> None:
    module = built(family).eval()
    inputs = batch(family.kind, 5)
    order = [3, 0, 4, 2, 1]
    whole = say(module, inputs)
    assert whole.shape == (5, 3)
    assert whole.dtype == torch.float32
    torch.testing.assert_close(say(module, take(inputs, order, family.kind)), whole[order])
    torch.testing.assert_close(say(module, take(inputs, [2], family.kind)), whole[[2]])


def test_gradient_reaches_every_parameter(family: Any, batch: Any) -> None:
    module = built(family).eval()  # dropout off, so that a zero is not an accident
    if not any(isinstance(part, NORMS) for part in module.modules()):
        module.train()
    torch.manual_seed(1)
    nn.functional.cross_entropy(say(module, batch(family.kind, 8)), torch.arange(8) % 3).backward()
    without = [name for name, p in module.named_parameters() if p.grad is None or not bool(p.grad.any())]
    # the key's bias moves every score of a query alike, so softmax gives it no gradient beyond rounding
    assert [name for name in without if "key" not in name and "k_lin" not in name] == []


def test_batch_of_one_trains(family: Any, batch: Any) -> None:
    module = built(family).train()
    logits = say(module, batch(family.kind, 1))
    assert logits.shape == (1, 3)
    logits.sum().backward()
    assert torch.isfinite(logits).all()


def test_a_seed_fixes_weights_and_training(family: Any, batch: Any) -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        module = built(family, seed).train()
        optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2)
        for step in range(2):
            loss = nn.functional.cross_entropy(say(module, batch(family.kind, 6, step)), torch.arange(6) % 3)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return {name: value.clone() for name, value in module.state_dict().items()}

    one, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_every_public_name_is_there_and_sorted() -> None:
    assert students.__all__ == sorted(students.__all__)
    assert all(hasattr(students, name) for name in students.__all__)
