"""The wrapper: which signals it gives, under which names, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.records import Outputs
from understudy.students import Normalised, Static, Student


class Told(nn.Module):
    """A user's own module with a mapping output that announces one more signal."""

    provides = frozenset({"embedding"})

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        embedding = self.body(x)
        return {"logits": self.head(embedding), "embedding": embedding}


def test_a_plain_tensor_a_mapping_and_a_model_output_give_logits(hugging: Any, batch: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4)
    plain, told, bert = nn.Linear(4, 3), Told(), hugging("bert")
    said = Student(plain)({"anything": x})
    assert isinstance(said, Outputs)
    assert set(said.signals) == {"student.logits"}
    assert torch.equal(said["student.logits"], plain(x))
    assert torch.equal(Student(told, "peer.1")({"x": x}).of("peer.1")["logits"], told(x)["logits"])
    tokens = batch("tokens", 3)
    assert torch.equal(Student(bert)(tokens)["student.logits"], bert(**tokens).logits)


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "electra"])
def test_hidden_states_count_from_the_embeddings(hugging: Any, batch: Any, name: str) -> None:
    torch.manual_seed(0)
    model, tokens = hugging(name), batch("tokens", 3)
    student = Student(model)
    student.bind(frozenset({"hidden.0", "hidden.6", "hidden.2"}))
    said = student(tokens).of("student")
    assert set(said.signals) == {"hidden.0", "hidden.2", "hidden.6"}
    everything = model(**tokens, output_hidden_states=True).hidden_states
    assert len(everything) == 7
    for index in (0, 2, 6):
        assert torch.equal(said[f"hidden.{index}"], everything[index])


def test_hidden_i_is_the_output_of_layer_i_counted_from_one(hugging: Any, batch: Any) -> None:
    torch.manual_seed(0)
    student, tokens = Student(hugging("bert")), batch("tokens", 2)
    student.bind(frozenset({"hidden.3", "module:bert.encoder.layer.2", "logits"}))
    said = student(tokens).of("student")
    assert torch.equal(said["hidden.3"], said["module:bert.encoder.layer.2"])
    assert said["logits"].shape == (2, 3)


def test_every_kind_of_signal_at_once_and_the_module_is_left_as_it_was(hugging: Any, batch: Any) -> None:
    torch.manual_seed(0)
    student, tokens = Student(hugging("bert"), "peer.1"), batch("tokens", 3)
    needs = {"logits", "features", "hidden.0", "hidden.6", "attention.2", "query.1", "key.6", "value.3"}
    needs |= {"module:encoder.layer.4.output", "input:classifier"}
    student.bind(frozenset(needs))
    assert student.needs == needs
    assert student.depth == 6
    said = student(tokens).of("peer.1")
    assert set(said.signals) == needs
    assert torch.equal(said["features"], said["input:classifier"])
    assert torch.equal(student.module.classifier(said["features"]), said["logits"])
    assert said["attention.2"].shape == (3, 2, 9, 9)
    assert student.module.config._attn_implementation == "sdpa"
    student.bind(frozenset({"logits"}))
    assert set(student(tokens).signals) == {"peer.1.logits"}


def test_attention_in_train_mode_has_gone_through_the_models_dropout(hugging: Any, batch: Any) -> None:
    torch.manual_seed(0)
    tokens = {**batch("tokens", 4), "attention_mask": torch.ones(4, 9, dtype=torch.int64)}
    for share, zeros in ((0.0, 0), (0.5, 324)):
        student = Student(hugging("bert", attention_probs_dropout_prob=share)).train()
        student.bind(frozenset({"attention.1"}))
        attention = student(tokens)["student.attention.1"]
        assert attention.numel() == 648
        # a fair coin thrown 648 times: 60 is nearly five standard deviations
        assert abs(int((attention == 0).sum()) - zeros) <= (60 if zeros else 0)


def test_a_student_goes_through_its_whole_forward(hugging: Any, batch: Any) -> None:
    student, ran = Student(hugging("bert")), []
    student.module.classifier.register_forward_hook(lambda *_: ran.append("head"))
    student.bind(frozenset({"hidden.1"}))
    student(batch("tokens", 2))
    assert ran == ["head"]


def test_signals_of_a_vision_transformer_behind_its_preprocessing(hugging: Any, batch: Any) -> None:
    torch.manual_seed(0)
    vit, half = hugging("vit"), [0.5, 0.5, 0.5]
    student = Student(Normalised(vit, half, half, (16, 16)))
    student.bind(frozenset({"hidden.6", "attention.1", "features"}))
    inputs = batch("colour", 2)
    said = student(inputs).of("student")
    values = {"pixel_values": (inputs["pixels"] / 255 - 0.5) / 0.5}
    torch.testing.assert_close(said["hidden.6"], vit(**values, output_hidden_states=True).hidden_states[6])
    torch.testing.assert_close(vit.classifier(said["features"]), vit(**values).logits)
    assert said["attention.1"].shape == (2, 2, 5, 5)


def test_signals_carry_gradient_and_hooks_do_not_stay(hugging: Any, batch: Any) -> None:
    torch.manual_seed(0)
    student, tokens = Student(hugging("vit")), batch("colour", 2)
    student.bind(frozenset({"module:vit.layers.1"}))
    said = student({"pixel_values": tokens["pixels"].float()})["student.module:vit.layers.1"]
    said.sum().backward()
    assert student.module.get_parameter("vit.embeddings.cls_token").grad is not None
    # transformers sets hooks of its own; ours would be closures of this package
    left = [hook for module in student.modules() for hook in module._forward_hooks.values()]
    assert [hook for hook in left if hook.__module__.startswith("understudy")] == []


def test_a_bound_student_can_be_copied_and_the_copy_speaks_for_itself() -> None:
    torch.manual_seed(0)
    student = Student(Told())
    student.bind(frozenset({"module:body", "embedding"}))
    twin = copy.deepcopy(student)
    nn.init.zeros_(twin.module.get_parameter("body.weight"))
    x = torch.randn(2, 4)
    mine, other = student({"x": x}), twin({"x": x})
    assert torch.equal(mine["student.module:body"], mine["student.embedding"])
    assert not torch.equal(mine["student.module:body"], other["student.module:body"])


def test_what_cannot_be_given_names_what_can(hugging: Any) -> None:
    bert, static = Student(hugging("bert")), Student(Static(9, 4, 2), "peer.0")
    with pytest.raises(
        UsageError, match=r'student \(Bert.*"hidden\.7".*logits, hidden\.0 to hidden\.6, att.*module:PATH'
    ):
        bert.bind(frozenset({"logits", "hidden.7"}))
    with pytest.raises(
        UsageError, match=r'peer\.0 \(Static\) cannot give "hidden\.1"; it gives features, logits, input'
    ):
        static.bind(frozenset({"hidden.1"}))
    with pytest.raises(UsageError, match=r'"attention\.7"'):
        bert.bind(frozenset({"attention.7"}))
    with pytest.raises(UsageError, match=r"nearest: bert\.encoder\.layer\.3"):
        bert.bind(frozenset({"module:encoder.layr.3"}))
    assert bert.needs == {"logits"}  # a refused binding changes nothing


def test_inputs_that_the_module_does_not_take_are_named(hugging: Any, batch: Any) -> None:
    tokens = batch("tokens", 2)
    student = Student(hugging("distilbert"))
    with pytest.raises(UsageError, match="does not take token_type_ids"):
        student({**tokens, "token_type_ids": torch.zeros_like(tokens["input_ids"])})
    with pytest.raises(UsageError, match="does not take offset: did you mean"):
        Student(Static(9, 4, 2))({"ids": torch.tensor([1]), "offset": torch.tensor([0, 1])})


def test_an_output_without_logits_is_named(hugging: Any, batch: Any) -> None:
    class Dumb(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {"scores": x}

    class Mute(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return None

    with pytest.raises(UsageError, match=r'gave no "logits".*scores'):
        Student(Dumb())({"x": torch.zeros(1)})
    with pytest.raises(UsageError, match=r'gave no "logits".*NoneType'):
        Student(Mute())({"x": torch.zeros(1)})


def test_a_module_that_took_no_part_is_named() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    student = Student(Spare())
    student.bind(frozenset({"module:spare"}))
    with pytest.raises(UsageError, match="spare of Spare took no part"):
        student({"x": torch.zeros(1, 2)})


def test_parameters_are_those_of_the_module() -> None:
    module = Told()
    student = Student(module)
    assert [name for name, _ in student.named_parameters()] == [f"module.{n}" for n, _ in module.named_parameters()]
