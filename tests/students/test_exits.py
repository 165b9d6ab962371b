"""Heads on shallower layers: what they say, that they learn from the last, and that the parts say the same."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from understudy import students
from understudy import training as fitting
from understudy.data import Examples
from understudy.data.feed import Feed
from understudy.encoding import PixelEncoder
from understudy.errors import StoreError, UsageError
from understudy.objectives import Needs, Term, hard_labels, logit_mse, soft_labels
from understudy.records import Outputs
from understudy.students import Cnn, Exits, Student, with_exits
from understudy.students.exits import ENCODERS, Head

SIX = ("bert", "camembert", "distilbert", "mpnet", "roberta", "xlm-roberta")


def encoder(name: str, hugging: Callable[..., Any]) -> Any:
    """Six layers of random weights that are large enough for logits to differ between rows."""
    import transformers as hf

    small = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 32}
    small |= {"vocab_size": 60, "max_position_embeddings": 40, "num_labels": 3}
    torch.manual_seed(0)
    if name == "xlm-roberta":
        model = hf.XLMRobertaForSequenceClassification(hf.XLMRobertaConfig(**small))
    elif name == "camembert":
        model = hf.CamembertForSequenceClassification(hf.CamembertConfig(**small))
    else:
        model = hugging(name)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # a norm keeps its scale
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def cnn(side: int = 28, width: int = 4) -> Cnn:
    torch.manual_seed(0)
    return Cnn((side, side), 1, 3, width=width, dropout=0.1).eval()


def pixels(rows: int, side: int = 28) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (rows, 1, side, side), generator=draw, dtype=torch.uint8)


def test_every_encoder_that_is_listed_is_tested() -> None:
    assert SIX == ENCODERS


@pytest.mark.parametrize("name", SIX)
def test_an_encoder_says_what_it_said_and_its_exits_what_their_layers_say(name: str, hugging: Any, batch: Any) -> None:
    model, inputs = encoder(name, hugging), batch("tokens", 5)
    exits = with_exits(model, [1, 4])
    with torch.no_grad():
        said, alone = exits(**inputs), model(**inputs, output_hidden_states=True)
    assert set(said) == {"logits"} | exits.provides
    assert exits.provides == {"features", *(f"exit.{i}.{s}" for i in (0, 1) for s in ("logits", "features"))}
    assert torch.equal(said["logits"], alone.logits)
    assert said["logits"].std(0).min() > 0.01, "logits that are all the same would prove nothing"
    for i, layer in enumerate((1, 4)):
        head = {key: value.double().numpy() for key, value in exits.heads[i].state_dict().items()}
        first = alone.hidden_states[layer][:, 0].double().numpy()
        pooled = np.tanh(first @ head["dense.weight"].T + head["dense.bias"])
        np.testing.assert_allclose(said[f"exit.{i}.features"], pooled, atol=1e-5)
        np.testing.assert_allclose(
            said[f"exit.{i}.logits"], pooled @ head["output.weight"].T + head["output.bias"], atol=1e-5
        )


def test_features_are_what_the_last_linear_layer_is_given(hugging: Any, batch: Any) -> None:
    model, inputs = encoder("bert", hugging), batch("tokens", 5)
    with torch.no_grad():
        assert torch.equal(with_exits(model, [2])(**inputs)["features"], model.bert(**inputs).pooler_output)
    image = cnn()
    with torch.no_grad():
        deep = image.stages(image.scale(pixels(3))).mean((2, 3))
        assert torch.equal(with_exits(image, [1])(pixels(3))["features"], deep)


@pytest.mark.parametrize("side", [28, 30])
def test_the_exit_of_a_cnn_averages_each_quarter(side: int) -> None:
    """Stages of 28, 14 and 7 positions a side (or 30, 15, 7: the first half of an odd side has one more)."""
    exits = with_exits(cnn(side), "all")
    assert exits.at == (1, 2)
    with torch.no_grad():
        said = exits(pixels(2, side))
        assert torch.equal(said["logits"], exits.model(pixels(2, side)))
        state = exits.model.scale(pixels(2, side))
        ends = {1: 2, 2: 5}  # two convolutions, a pooling, two convolutions
        for i, stage in enumerate((1, 2)):
            deep = exits.model.stages[: ends[stage]](state).double().numpy()
            half = -(-deep.shape[2] // 2)
            quarters = [deep[:, :, rows, columns].mean((2, 3)) for rows in (slice(half), slice(half, None))
                        for columns in (slice(half), slice(half, None))]  # fmt: skip
            np.testing.assert_allclose(said[f"exit.{i}.features"], np.concatenate(quarters, 1), atol=1e-6)
            assert said[f"exit.{i}.logits"].shape == (2, 3)


def through(exits: Exits, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Logits of every part, each going on from the one before."""
    found, given = [], dict(inputs)
    with torch.no_grad():
        for number, part in enumerate(exits.parts()):
            said = part(**given)
            last = number == len(exits.at)
            assert set(said) == ({"logits"} if last else {"logits", "next_state"})
            found.append(said["logits"])
            given = {} if last else {"state": said["next_state"]}
            given |= {name: value for name, value in inputs.items() if name == "attention_mask"}
    return found


@pytest.mark.parametrize("at", [[1], [3], [1, 2, 5], "all"])
@pytest.mark.parametrize("name", SIX)
def test_the_parts_of_an_encoder_say_the_same(name: str, at: Any, hugging: Any, batch: Any) -> None:
    exits, inputs = with_exits(encoder(name, hugging), at), batch("tokens", 5, 3)
    with torch.no_grad():
        said = exits(**inputs)
    found = through(exits, inputs)
    assert len(found) == len(exits.at) + 1
    for i, logits in enumerate(found):
        wanted = said["logits" if i == len(exits.at) else f"exit.{i}.logits"]
        torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("at", [[1], [2], [1, 2]])
def test_the_parts_of_a_cnn_say_the_same(at: list[int]) -> None:
    exits = with_exits(cnn(), at)
    with torch.no_grad():
        said = exits(pixels(3))
    found = through(exits, {"pixels": pixels(3)})
    for i, logits in enumerate(found):
        wanted = said["logits" if i == len(at) else f"exit.{i}.logits"]
        torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-6)
    states = [part(pixels=pixels(3))["next_state"].shape for part in exits.parts()[:1]]
    assert states == [(3, 4, 14, 14) if at[0] == 1 else (3, 8, 7, 7)], "the pooling belongs to the part before it"


@pytest.mark.parametrize("kind", ["cnn", "bert"])
def test_parts_share_the_weights_and_leave_the_module_as_it_was(kind: str, hugging: Any) -> None:
    exits = with_exits(cnn() if kind == "cnn" else encoder("bert", hugging), [1]).train()
    before = {name: value.clone() for name, value in exits.state_dict().items()}
    layers = len(list(exits.modules()))
    parts = exits.parts()
    assert exits.training
    assert all(module.training for module in exits.modules())
    assert not any(module.training for part in parts for module in part.modules())
    own = {id(parameter) for parameter in exits.parameters()}
    assert all(id(parameter) in own for part in parts for parameter in part.parameters())
    assert len(list(exits.modules())) == layers
    assert all(torch.equal(before[name], value) for name, value in exits.state_dict().items())
    if kind == "bert":
        assert exits.config.num_hidden_layers == 6
        assert len(exits.model.bert.encoder.layer) == 6
        assert exits.model.bert.pooler is not None


@pytest.mark.parametrize("kind", ["cnn", "bert"])
def test_saved_and_loaded(kind: str, hugging: Any, batch: Any, tmp_path: Path) -> None:
    exits = with_exits(cnn() if kind == "cnn" else encoder("bert", hugging), [1, 2]).eval()
    inputs = {"pixels": pixels(4)} if kind == "cnn" else batch("tokens", 4)
    students.save(Student(exits), tmp_path / "saved")
    loaded = students.load(tmp_path / "saved")
    assert isinstance(loaded, Exits)
    assert not any(module.training for module in loaded.modules())
    with torch.no_grad():
        one, other = exits(**inputs), loaded(**inputs)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    files = {str(path.relative_to(tmp_path / "saved")) for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert files == {"config.json", "model.safetensors", "model/config.json", "model/model.safetensors"}
    heads = sum(parameter.numel() for parameter in exits.heads.parameters())
    assert heads > 0
    assert students.parameters(loaded) == students.parameters(exits) == students.parameters(exits.model) + heads

    (tmp_path / "saved" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="cannot be read as the weights"):
        students.load(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / "model")
    with pytest.raises(StoreError, match="there is none at"):
        students.load(tmp_path / "saved")


def test_a_student_of_exits_gives_the_signals_of_the_model_inside(hugging: Any, batch: Any) -> None:
    model, inputs = encoder("bert", hugging), batch("tokens", 4)
    exits = with_exits(model, [2])
    student = Student(exits)
    assert student.depth == 6
    student.bind(frozenset({"logits", "hidden.2", "features", "exit.0.logits", "exit.0.features"}))
    with torch.no_grad():
        said, alone = student(inputs), model(**inputs, output_hidden_states=True)
    torch.testing.assert_close(said["student.hidden.2"], alone.hidden_states[2])
    assert torch.equal(said["student.logits"], alone.logits)
    with pytest.raises(UsageError, match=r"exit\.1"):
        student.bind(frozenset({"exit.1.logits"}))


@pytest.mark.parametrize(
    ("module", "at", "says"),
    [
        ("cnn", [], "got \\[\\]"),
        ("cnn", [3], "the 3 stages but the last, increasing numbers from 1 to 2, got \\[3\\]"),
        ("cnn", [0], "got \\[0\\]"),
        ("cnn", [2, 1], "got \\[2, 1\\]"),
        ("cnn", [1, 1], "got \\[1, 1\\]"),
        ("bert", [6], "the 6 layers but the last, increasing numbers from 1 to 5"),
        ("one stage", "all", "which it has none of"),
        ("masked", [1], "got BertForMaskedLM"),
        ("albert", [1], "got AlbertForSequenceClassification"),
        ("electra", [1], "got ElectraForSequenceClassification"),
        ("mlp", [1], "got Mlp"),
    ],
)
def test_what_cannot_have_exits_is_refused(module: str, at: Any, says: str, hugging: Any) -> None:
    own = {
        "cnn": cnn,
        "one stage": lambda: Cnn((4, 4), 1, 3, width=2),
        "mlp": lambda: students.Mlp((8, 8), 1, 3),
    }
    model = own[module]() if module in own else hugging(module)
    with pytest.raises(UsageError, match=says):
        with_exits(model, at)


def test_an_input_that_the_model_would_swallow_is_refused(hugging: Any, batch: Any) -> None:
    inputs = batch("tokens", 2)
    exits = with_exits(hugging("distilbert"), [1])
    with pytest.raises(UsageError, match="DistilBertForSequenceClassification do not take token_type_ids"):
        exits(**inputs, token_type_ids=torch.zeros_like(inputs["input_ids"]))


def test_heads_have_the_dropout_of_the_model_and_fresh_weights(hugging: Any) -> None:
    one = with_exits(cnn(), [1])
    assert [head.dropout.p for head in one.heads] == [0.1]
    assert with_exits(hugging("bert", classifier_dropout=0.25), [1]).heads[0].dropout.p == 0.25
    same, other = with_exits(cnn(), [1]), with_exits(one.model, [1])
    assert torch.equal(one.heads[0].output.weight, same.heads[0].output.weight), "the generator decides"
    assert not torch.equal(one.heads[0].output.weight, other.heads[0].output.weight)
    half = with_exits(cnn().to(torch.float64), [1])
    assert half.heads[0].output.weight.dtype == torch.float64
    head = Head(None, nn.Identity(), nn.Identity(), grid=1)
    assert head(torch.arange(8.0).view(1, 2, 2, 2))[0].tolist() == [[1.5, 5.5]]


class Hint(nn.Module):
    """The exit's features in the width of the model's own."""

    def __init__(self, outputs: Outputs, targets: Outputs) -> None:
        super().__init__()
        self.map = nn.Linear(outputs["features"].shape[1], targets["features"].shape[1])


def hint(outputs: Outputs, targets: Outputs, batch: Any, *, connector: Hint) -> Tensor:
    return ((connector.map(outputs["features"]) - targets["features"]) ** 2).mean(1)


def by_its_own_last_layer() -> list[Term]:
    """Zhang et al.: the label, the deepest logits and the deepest features teach every exit."""
    features = frozenset({"features"})
    return [
        hard_labels(),
        hard_labels(0.5, of="exit.0"),
        soft_labels(3.0, 0.5, of="exit.0", against="self"),
        logit_mse(0.01, of="exit.0", against="self"),
        Term("hint", hint, 0.03, needs=Needs(features, features), of="exit.0", against="self", connector=Hint),
    ]


def bars(rows: int) -> Examples:
    """Images with a bright bar on the left, on the right or nowhere, with noise: three classes."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 120, (rows, 8, 8))
    labels = draw.integers(0, 3, rows)
    images[labels == 0, :, :2] += 100
    images[labels == 1, :, -2:] += 100
    return Examples.of({"image": [png(image) for image in images.astype(np.uint8)]}, labels)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def accuracy(module: Exits, rows: Examples, which: str) -> float:
    taken = torch.from_numpy(PixelEncoder((8, 8), 1).encode(rows.inputs))
    with torch.no_grad():
        return float((module(taken)[which].argmax(1).numpy() == rows.labels).mean())


def trained(terms: list[Term], rows: Examples) -> tuple[Exits, Any]:
    torch.manual_seed(0)
    module = with_exits(Cnn((8, 8), 1, 3, width=4, dropout=0.1), [1])
    settings = fitting.Settings(epochs=6, batch_size=32, learning_rate=1e-2, warmup=0.0)
    done = fitting.train(Student(module), Feed(rows, {"student": PixelEncoder((8, 8), 1)}), objective=terms,
                         settings=settings, device="cpu")  # fmt: skip
    return module.eval(), done


def test_depthwise_stages_have_exits_of_their_own_width() -> None:
    torch.manual_seed(0)
    exits = with_exits(Cnn((28, 28), 1, 3, width=4, depthwise=True), "all").eval()
    assert [head.output.in_features for head in exits.heads] == [  # type: ignore[union-attr]
        head.output.in_features for head in with_exits(cnn(), "all").heads  # type: ignore[union-attr]
    ]  # fmt: skip
    said, inputs = exits(pixels=pixels(2)), {"pixels": pixels(2)}
    for number, part in enumerate(exits.parts()):
        answer = part(**inputs)
        name = f"exit.{number}.logits" if number < 2 else "logits"
        torch.testing.assert_close(answer["logits"], said[name])
        inputs = {"state": answer["next_state"]} if number < 2 else {}


def test_an_exit_is_taught_by_the_last_layer() -> None:
    rows = bars(240)
    module, done = trained(by_its_own_last_layer(), rows)
    assert set(done.history[-1]["terms"]) == {
        "hard_labels", "hard_labels/exit-0", "soft_labels/exit-0/self", "logit_mse/exit-0/self", "hint",
    }  # fmt: skip
    assert accuracy(module, rows, "logits") > 0.95
    assert accuracy(module, rows, "exit.0.logits") > 0.95


def test_without_a_term_of_its_own_an_exit_stays_as_it_was() -> None:
    """The twin hears the labels only, at its own head: its exits are frozen, and nothing decays them."""
    torch.manual_seed(0)
    fresh = with_exits(Cnn((8, 8), 1, 3, width=4, dropout=0.1), [1])
    rows = bars(96)
    module, _ = trained([hard_labels()], rows)
    for name, value in fresh.heads.state_dict().items():
        assert torch.equal(value, module.heads.state_dict()[name]), name
    assert not torch.equal(fresh.model.output.weight, module.model.output.weight)


def test_the_last_layer_does_not_learn_from_its_exit() -> None:
    from understudy.records import Batch, Targets
    from understudy.training import Distillation

    torch.manual_seed(0)
    module = with_exits(Cnn((8, 8), 1, 3, width=4), [1])
    model = Distillation({"student": Student(module)}, [soft_labels(2.0, of="exit.0", against="self")])
    model.bind(None)
    batch = Batch(keys=tuple("abcd"), inputs={"student": {"pixels": pixels(4, 8)}}, labels=torch.zeros(4).long(),
                  masks={"examples": torch.ones(4), "labelled": torch.ones(4)})  # fmt: skip
    next(iter(model(batch, Targets({})).values())).backward()
    reached = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert any(name.startswith("heads.0") for name in reached)
    assert any(name.startswith("model.stages.0") for name in reached)
    assert not any(name.startswith(("model.output", "model.stages.3", "model.stages.4")) for name in reached)
