"""Cutting: what is copied, what is not shared, and what cannot be cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from understudy.errors import UsageError
from understudy.students import (
    begin_at_shares,
    cut,
    inheritance,
    layer_stack,
    load,
    parameters,
    reorder_labels,
    save,
    uniform_layers,
)

TEXTS = ("bert", "roberta", "distilbert", "electra", "mpnet")


def logits(model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        if "pixels" in inputs:
            return model(pixel_values=inputs["pixels"].float() / 255).logits
        return model(**inputs).logits


def teacher(hugging: Any, name: str) -> Any:
    torch.manual_seed(0)
    return hugging(name)


def inputs_of(batch: Any, name: str) -> dict[str, Any]:
    return batch("colour" if name == "vit" else "tokens", 4)


@pytest.mark.parametrize("total", range(1, 25))
def test_uniform_layers_are_evenly_spaced_for_every_number(total: int) -> None:
    for kept in range(1, total + 1):
        chosen = uniform_layers(total, kept)
        assert len(chosen) == kept
        assert chosen[0] == 0
        gaps = {after - before for before, after in zip([*chosen], [*chosen[1:], total], strict=True)}
        assert gaps <= {total // kept, -(-total // kept)}
    assert uniform_layers(total, total) == list(range(total))


def test_uniform_layers_known_values() -> None:
    assert uniform_layers(6, 3) == [0, 2, 4]
    assert uniform_layers(12, 6) == [0, 2, 4, 6, 8, 10]
    assert uniform_layers(12, 3) == [0, 4, 8]
    assert uniform_layers(5, 2) == [0, 2]
    for kept in (0, 7, -1):
        with pytest.raises(UsageError, match="between 1 and 6"):
            uniform_layers(6, kept)


@pytest.mark.parametrize("name", [*TEXTS, "vit", "masked"])
def test_keeping_everything_says_exactly_what_the_teacher_says(hugging: Any, batch: Any, name: str) -> None:
    model, inputs = teacher(hugging, name), inputs_of(batch, name)
    student = cut(model, 6)
    assert student.training
    assert torch.equal(logits(student.eval(), inputs), logits(model, inputs))


@pytest.mark.parametrize("name", [*TEXTS, "vit"])
def test_a_cut_student_is_the_teacher_with_layers_left_out(hugging: Any, batch: Any, name: str) -> None:
    model, inputs = teacher(hugging, name), inputs_of(batch, name)
    before = logits(model, inputs)
    student = cut(model, [1, 2, 5]).eval()
    path, stack = layer_stack(model)
    each = sum(p.numel() for p in stack[0].parameters())
    assert parameters(student) == parameters(model) - 3 * each
    assert torch.equal(logits(model, inputs), before)
    # independent: the teacher itself, with those layers taken out in place
    owner, _, attribute = path.rpartition(".")
    setattr(model.get_submodule(owner), attribute, nn.ModuleList([stack[1], stack[2], stack[5]]))
    model.config.num_hidden_layers = 3
    assert torch.equal(logits(student, inputs), logits(model, inputs))
    assert not torch.equal(logits(student, inputs), before)


@pytest.mark.parametrize("name", [*TEXTS, "vit", "masked"])
def test_nothing_is_shared_and_the_teacher_is_left_alone(hugging: Any, name: str) -> None:
    model = teacher(hugging, name)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    config = model.config.to_dict()
    student = cut(model)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    mine = {value.data_ptr() for value in student.state_dict().values()}
    assert mine.isdisjoint(value.data_ptr() for value in model.state_dict().values())
    assert model.config.to_dict() == config
    assert not model.training
    assert student.config.num_hidden_layers == 3


@pytest.mark.parametrize("name", ["bert", "distilbert", "vit"])
def test_saved_and_loaded_by_transformers_alone(hugging: Any, batch: Any, name: str, tmp_path: Path) -> None:
    model, inputs = teacher(hugging, name), inputs_of(batch, name)
    model.config._name_or_path = "/somewhere/private"
    student = cut(model, 2).eval()
    save(student, tmp_path / "student")
    again = type(model).from_pretrained(tmp_path / "student")
    assert torch.equal(logits(again, inputs), logits(student, inputs))
    assert torch.equal(logits(load(tmp_path / "student"), inputs), logits(student, inputs))
    assert "private" not in (tmp_path / "student" / "config.json").read_text()


def test_tied_weights_stay_tied(hugging: Any) -> None:
    student: Any = cut(teacher(hugging, "masked"))
    assert student.cls.predictions.decoder.weight is student.bert.embeddings.word_embeddings.weight


def test_labels_precision_and_the_generator_are_kept(hugging: Any) -> None:
    torch.manual_seed(0)
    model = hugging("bert", id2label={0: "no", 1: "yes", 2: "maybe"}).to(torch.bfloat16)
    state = torch.get_rng_state()
    student: Any = cut(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert {p.dtype for p in student.parameters()} == {torch.bfloat16}
    assert student.config.id2label == {0: "no", 1: "yes", 2: "maybe"}


def test_random_initialisation_is_seeded_and_has_nothing_of_the_teacher(hugging: Any) -> None:
    model = teacher(hugging, "bert")

    def fresh(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return cut(model, initialise=False)

    one, again, other = (fresh(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])
    assert {key: value.shape for key, value in one.items()} == {k: v.shape for k, v in cut(model).state_dict().items()}
    report = inheritance(fresh(1), model)
    assert set(report["layers"].values()) == {None}
    assert "classifier.weight" in report["fresh"]
    assert "bert.embeddings.word_embeddings.weight" in report["fresh"]


def test_inheritance_names_the_origin_of_every_part(hugging: Any) -> None:
    model = teacher(hugging, "roberta")
    student = cut(model, [0, 3, 4])
    report = inheritance(student, model)
    assert report["layers"] == {0: 0, 1: 3, 2: 4}
    assert report["stack"] == "roberta.encoder.layer"
    assert report["fresh"] == []
    assert "classifier.out_proj.weight" in report["carried"]
    assert report["parameters"] == {"teacher": parameters(model), "student": parameters(student)}
    assert "0, 3, 4" in report["sentence"]
    with torch.no_grad():
        student.get_parameter("classifier.out_proj.weight").add_(1.0)
        student.get_parameter("roberta.encoder.layer.1.output.dense.weight").add_(1.0)
    changed = inheritance(student, model)
    assert changed["fresh"] == ["classifier.out_proj.weight"]
    assert changed["layers"] == {0: 0, 1: None, 2: 4}


@pytest.mark.parametrize("name", ["albert", "t5", "swin", "resnet"])
def test_models_without_one_stack_are_refused_with_the_reason(hugging: Any, name: str) -> None:
    reason = {
        "albert": "its config says 6 layers and it has",
        "t5": "several lists have 3 modules",
        "swin": "cannot be cut",
        "resnet": "num_hidden_layers",
    }[name]
    with pytest.raises(UsageError, match=reason):
        cut(teacher(hugging, name))


def test_stages_of_different_width_are_not_layers() -> None:
    class Staged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = type("Config", (), {"num_hidden_layers": 2})()
            self.stages = nn.ModuleList([nn.Linear(2, 4), nn.Linear(4, 8)])

    with pytest.raises(UsageError, match="differ in shape"):
        layer_stack(Staged())
    with pytest.raises(UsageError, match="got Linear"):
        layer_stack(nn.Linear(1, 1))


@pytest.mark.parametrize("layers", [[], [0, 0], [2, 1], [0, 6], [-1, 2]])
def test_layers_that_are_not_there_are_refused(hugging: Any, layers: list[int]) -> None:
    with pytest.raises(UsageError, match="from 0 to 5"):
        cut(teacher(hugging, "bert"), layers)


@pytest.mark.parametrize("name", [*TEXTS, "vit"])
def test_reordered_labels_move_the_logits_and_nothing_else(hugging: Any, batch: Any, name: str) -> None:
    model = teacher(hugging, name).eval()
    before = logits(model, inputs_of(batch, name))
    order = list(reversed(range(before.shape[1])))
    reorder_labels(model, order, [f"new {i}" for i in order])
    assert torch.equal(logits(model, inputs_of(batch, name)), before[:, order])
    assert model.config.id2label[0] == f"new {order[0]}"
    with pytest.raises(UsageError, match="each position once"):
        reorder_labels(model, [0] * len(order), [str(i) for i in order])


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_a_head_begins_at_the_shares_of_its_labels(hugging: Any, name: str) -> None:
    model = teacher(hugging, name)
    head = model.classifier.out_proj if name == "roberta" else model.classifier
    weight = head.weight.clone()
    begin_at_shares(model, [0.5, 0.01, 0.9])
    torch.testing.assert_close(torch.sigmoid(head.bias), torch.tensor([0.5, 0.01, 0.9]))
    assert torch.equal(head.weight, weight)
    with pytest.raises(UsageError, match="between 0 and 1, got 0 to 1"):
        begin_at_shares(model, [0.0, 0.5, 1.0])
    with pytest.raises(UsageError, match="no linear layer with 7 outputs"):
        begin_at_shares(model, [0.5] * 7)
