"""Adapters of decoders: what learns, what does not, and that nothing of them is left in what is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.students.test_cut_decoders import KINDS, logits, rows, teacher

from understudy.errors import UsageError
from understudy.students import CausalLM, adapted, load, merged, save


def copied(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def trained(model: Any, *, steps: int = 3) -> Any:
    inputs = rows()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        said = model(**inputs).logits[:, :-1]
        torch.nn.functional.cross_entropy(said.flatten(0, 1), inputs["input_ids"][:, 1:].flatten()).backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_student_says_what_it_said_with_adapters(kind: str, tmp_path: Path) -> None:
    model = teacher(kind)
    before, names, said = copied(model), list(model.state_dict()), logits(model, rows(1))
    assert adapted(model, 4) is model
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    torch.testing.assert_close(logits(model, rows(1)), said)  # nothing is said otherwise at the start
    moved = logits(trained(model), rows(1))
    assert (moved - said).abs().max() > 0.1
    assert merged(model) is model
    torch.testing.assert_close(logits(model, rows(1)), moved, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == names
    assert all(p.requires_grad for p in model.parameters())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    linear = {name for name in names if (name.endswith(".weight") and ".h." in name) or ".layers." in name}
    linear = {name for name in linear if before[name].ndim == 2}
    assert changed == linear  # every map of every layer; embeddings, norms, biases and head as they were
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == (kind != "llama")
    save(model, tmp_path / "saved")
    torch.testing.assert_close(logits(load(tmp_path / "saved"), rows(1)), moved, atol=1e-4, rtol=1e-4)


def test_inside_its_wrapper_and_by_a_seed() -> None:
    drawn = []
    for seed in (0, 0, 1):
        model = CausalLM(teacher("gpt2"))
        torch.manual_seed(seed)
        assert adapted(model, 2) is model
        drawn.append({name: p.clone() for name, p in model.named_parameters() if "lora_A" in name})
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert not any(torch.equal(drawn[0][name], drawn[2][name]) for name in drawn[0])
    whole = teacher("gpt2")
    assert merged(whole) is whole  # one without any


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="rank of 1 or more, got GPT2LMHeadModel, 0"):
        adapted(teacher("gpt2"), 0)
    with pytest.raises(UsageError, match=r"a transformers model .* got Linear, 4"):
        adapted(torch.nn.Linear(2, 2), 4)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UsageError, match="pip install peft"):
        adapted(teacher("gpt2"), 4)
