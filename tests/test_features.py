"""Hooks: what is captured, that it stays as it was, and that nothing stays behind."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.features import Capture, Tap, capture, find, full_path


class Residual(nn.Module):
    """Overwrites its layer's output twice: by an in-place ReLU and by an in-place sum."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x)
        hidden = self.relu(hidden)
        hidden += 1.0
        return hidden


class Answers(nn.Module):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.inner = nn.Identity()
        self.answer = answer
        self.inner.forward = lambda x: answer(x)  # type: ignore[method-assign]

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_what_follows_in_place_does_not_reach_what_was_captured() -> None:
    torch.manual_seed(0)
    model, x = Residual(), torch.randn(6, 4)
    wanted = model.layer(x)
    assert bool((wanted < 0).any())
    plain = model(x)
    with capture(model, ["layer", "relu"]) as inside:
        output = model(x)
    assert torch.equal(inside["layer"], wanted)
    assert torch.equal(inside["relu"], wanted.relu())
    assert torch.equal(output, plain)


def test_gradient_flows_through_what_was_captured() -> None:
    torch.manual_seed(0)
    model, x = Residual(), torch.randn(6, 4)
    with capture(model, ["layer"]) as inside:
        model(x)
        inside["layer"].square().sum().backward()
    got = model.layer.weight.grad
    model.layer.weight.grad = None
    model.layer(x).square().sum().backward()
    assert model.layer.weight.grad is not None
    torch.testing.assert_close(got, model.layer.weight.grad)


def test_every_forward_refreshes_and_nothing_older_stays() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Identity(), nn.Identity()

        def forward(self, x: Tensor, both: bool) -> Tensor:
            return self.b(self.a(x)) if both else self.a(x)

    model = Sometimes()
    with capture(model, ["a", "b"]) as inside:
        model(torch.zeros(1), True)
        assert set(inside) == {"a", "b"}
        model(torch.ones(2), False)
        assert set(inside) == {"a"}
        assert torch.equal(inside["a"], torch.ones(2))


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: (x, None),
        lambda x: [None, x, x + 1],
        lambda x: {"name": "x", "logits": x},
        lambda x: x,
    ],
)
def test_the_first_tensor_of_an_output_is_taken(answer: Any) -> None:
    model, x = Answers(answer), torch.arange(3.0)
    with capture(model, ["inner"]) as inside:
        model(x)
    assert torch.equal(inside["inner"], x)


def test_an_output_without_a_tensor_is_named() -> None:
    model = Answers(lambda x: (None, "text"))
    with pytest.raises(UsageError, match="inner"), capture(model, ["inner"]):
        model(torch.zeros(1))
    assert hooks(model) == 0


def test_hooks_come_off_at_the_end_and_after_an_exception() -> None:
    model = Residual()
    with capture(model, ["layer", "layer", "relu"]):
        assert hooks(model) == 3  # two modules once each, and the one that empties
    assert hooks(model) == 0
    with pytest.raises(RuntimeError), capture(model, ["layer"]):
        model(torch.zeros(1, 5))
    assert hooks(model) == 0


def test_a_wrong_path_among_right_ones_sets_no_hook() -> None:
    model = nn.Sequential(Residual(), Residual())
    with pytest.raises(UsageError, match=r'"0\.layr".*0\.layer'), capture(model, ["0.layer", "0.layr"]):
        pass
    assert hooks(model) == 0
    with pytest.raises(UsageError, match='has no module ""'):
        Capture(model, [""])


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("encoder.layr.3", "bert.encoder.layer.3"),
        ("output.dense", "bert.encoder.layer.0.output.dense"),  # every layer has one: which?
        ("bert.encoder.layer.9", "bert.encoder.layer.3"),
        ("bert.pooler.dens", "bert.pooler.dense"),
        ("classifer", "classifier"),
    ],
)
def test_a_misspelt_path_names_the_nearest(path: str, nearest: str) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(
        BertConfig(hidden_size=8, num_hidden_layers=4, num_attention_heads=1, intermediate_size=8, vocab_size=10)
    )
    with pytest.raises(UsageError) as caught:
        Capture(model, [path])
    assert nearest in str(caught.value)
    assert "BertForSequenceClassification" in str(caught.value)


def test_a_module_without_modules_says_so() -> None:
    with pytest.raises(UsageError, match="no modules"):
        Capture(nn.Linear(1, 1), ["x"])


def test_a_long_lived_capture_closes_once_and_for_all() -> None:
    model = Residual()
    captured = Capture(model, ["layer"])
    for _ in range(2):
        model(torch.zeros(2, 4))
        assert captured.values["layer"].shape == (2, 4)
    captured.close()
    captured.close()
    assert hooks(model) == 0
    captured.values.clear()
    model(torch.zeros(2, 4))
    assert captured.values == {}


def test_taps_say_what_is_kept_under_which_name() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor, *, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return x + 1.0, x + 2.0

    model, x = nn.Sequential(nn.Identity(), Pair()), torch.zeros(3)
    taps = {"in": Tap("1", given=True), "first": Tap("1"), "second": Tap("1", item=1), "same": Tap("0", copy=False)}
    with capture(model, taps) as inside:
        assert hooks(model) == 5
        model(x)
    assert {name: float(value[0]) for name, value in inside.items()} == {"in": 0, "first": 1, "second": 2, "same": 0}
    assert inside["same"] is x  # Identity gives what it is given
    assert inside["in"] is not x
    assert hooks(model) == 0
    # a tensor is no tuple: its entry 1 would be a row of the batch
    with (
        pytest.raises(UsageError, match=r"wanted from 0 .*gave Tensor without one at 1"),
        capture(model, {"x": Tap("0", item=1)}),
    ):
        model(torch.zeros(3, 3))
    with (
        pytest.raises(UsageError, match=r"wanted from 0 .*was given tuple without one"),
        capture(model, {"x": Tap("0", given=True)}),
    ):
        model("text")
    assert hooks(model) == 0


def test_two_captures_of_one_model_do_not_meet() -> None:
    model = Residual()
    with capture(model, ["layer"]) as outer:
        with capture(model, ["relu"]) as inner:
            model(torch.zeros(1, 4))
        assert (set(outer), set(inner)) == ({"layer"}, {"relu"})
        model(torch.ones(3, 4))
    assert outer["layer"].shape == (3, 4)
    assert inner["relu"].shape == (1, 4)


def test_a_model_copied_afterwards_carries_no_hook() -> None:
    model = Residual()
    with capture(model, ["layer"]):
        pass
    assert hooks(copy.deepcopy(model)) == 0


def test_a_path_may_leave_out_what_is_the_same_in_the_whole_model() -> None:
    model = nn.ModuleDict({"bert": nn.ModuleDict({"encoder": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})})
    assert find(model, "encoder.1") is model["bert"]["encoder"][1]
    assert find(model, "bert.encoder.1") is model["bert"]["encoder"][1]
    assert full_path(model, "encoder.1") == full_path(model, "bert.encoder.1") == "bert.encoder.1"
    with pytest.raises(UsageError, match="no module"):
        find(model, "coder.1")
