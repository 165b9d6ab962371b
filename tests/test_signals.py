"""What a model can say about itself: every signal against transformers' own, or worked out by hand; and early ends."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from understudy import students
from understudy.errors import UsageError
from understudy.features import find
from understudy.signals import depth_of, eager_attention, layers_of, resolve, signals_of
from understudy.signals.hooks import Ended

SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "num_labels": 3}
WORDS = {**SIZES, "vocab_size": 60, "max_position_embeddings": 40, "pad_token_id": 0}
NO_IDS = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
DISTIL = {"dim": 16, "n_layers": 4, "n_heads": 2, "hidden_dim": 32, "vocab_size": 60, "num_labels": 3}
SMALL = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 3, "num_heads": 2, "vocab_size": 60}
ENCODERS = ("bert", "distilbert", "roberta", "vit", "modernbert")
OTHERS = ("llama", "mpnet", "albert")  # fewer keys; hidden states collected by hand; one layer that runs four times


def tiny(name: str) -> Any:
    import transformers as hf

    made: dict[str, Callable[[], Any]] = {
        "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**WORDS)),
        "distilbert": lambda: hf.DistilBertForSequenceClassification(hf.DistilBertConfig(**DISTIL)),
        "roberta": lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(**WORDS)),
        "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**SIZES, image_size=16, patch_size=8)),
        "modernbert": lambda: hf.ModernBertForSequenceClassification(hf.ModernBertConfig(**WORDS, **NO_IDS)),
        "llama": lambda: hf.LlamaForSequenceClassification(hf.LlamaConfig(**WORDS, num_key_value_heads=1)),
        "mpnet": lambda: hf.MPNetForSequenceClassification(hf.MPNetConfig(**WORDS)),
        "albert": lambda: hf.AlbertForSequenceClassification(hf.AlbertConfig(**WORDS, embedding_size=8)),
        "masked": lambda: hf.BertForMaskedLM(hf.BertConfig(**WORDS)),
        "t5": lambda: hf.T5ForSequenceClassification(hf.T5Config(**SMALL)),
        "resnet": lambda: hf.ResNetForImageClassification(
            hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
        ),
    }
    torch.manual_seed(0)
    return made[name]().eval()


def inputs_of(name: str) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    if name == "vit":
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=draw)}
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]])
    return {"input_ids": torch.randint(5, 60, (2, 7), generator=draw), "attention_mask": mask}


def seen(model: nn.Module, needs: set[str], inputs: Any, *, stop: bool = False) -> dict[str, Tensor]:
    call = (lambda: model(**inputs)) if isinstance(inputs, dict) else (lambda: model(inputs))
    with torch.no_grad():
        return resolve(model, needs).run(model, call, stop=stop)


def hooks(model: nn.Module) -> int:
    """Hooks of ours: transformers leaves hooks of its own behind, inactive, when it is asked for hidden states."""
    every = [hook for m in model.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    return sum(hook.__module__.startswith("understudy") for hook in every)


@contextmanager
def counted(model: nn.Module, paths: list[str]) -> Any:
    """Which of some modules ran."""
    ran: list[str] = []
    handles = [find(model, path).register_forward_hook(lambda *_, path=path: ran.append(path)) for path in paths]
    try:
        yield ran
    finally:
        for handle in handles:
            handle.remove()


def layer_paths(name: str) -> list[str]:
    stem = {"distilbert": "distilbert.transformer.layer", "vit": "vit.layers", "modernbert": "model.layers"}
    return [f"{stem.get(name, f'{name}.encoder.layer')}.{i}" for i in range(4)]


@pytest.mark.parametrize("name", [*ENCODERS, *OTHERS])
def test_hidden_states_are_transformers_own(name: str) -> None:
    model, inputs = tiny(name), inputs_of(name)
    with torch.no_grad():
        wanted = model(**inputs, output_hidden_states=True).hidden_states
    assert len(wanted) == 5
    assert depth_of(model) == 4
    said = seen(model, {f"hidden.{i}" for i in range(5)}, inputs)
    assert all(torch.equal(said[f"hidden.{i}"], wanted[i]) for i in range(5))
    assert len({float(state[0, 0, 0]) for state in wanted}) == 5  # no two alike: a mix-up would show


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("index", range(5))
def test_a_forward_that_ends_early_says_the_same_bit_by_bit(name: str, index: int) -> None:
    model, inputs, paths = tiny(name), inputs_of(name), layer_paths(name)
    with torch.no_grad():
        wanted = model(**inputs, output_hidden_states=True).hidden_states[index]
    with counted(model, paths) as ran:
        said = seen(model, {f"hidden.{index}"}, inputs, stop=True)
    assert torch.equal(said[f"hidden.{index}"], wanted)
    assert ran == paths[:index]
    assert hooks(model) == 0
    with torch.no_grad():  # and the model is none the worse for it
        assert torch.equal(model(**inputs, output_hidden_states=True).hidden_states[index], wanted)


def test_the_last_hidden_state_has_gone_through_the_final_norm_and_is_not_cut_off_from_it() -> None:
    model, inputs = tiny("modernbert"), inputs_of("modernbert")
    said = seen(model, {"hidden.4", "module:layers.3"}, inputs, stop=True)
    torch.testing.assert_close(said["hidden.4"], model.model.final_norm(said["module:layers.3"]))
    assert not torch.equal(said["hidden.4"], said["module:layers.3"])


@pytest.mark.parametrize(
    ("needs", "layers"),
    [
        ({"hidden.1", "hidden.2"}, 2),
        ({"query.3", "value.1"}, 3),
        ({"attention.2"}, 2),
        ({"module:encoder.layer.1.attention", "input:encoder.layer.2.output"}, 3),
        ({"input:encoder.layer.0"}, 0),
        ({"hidden.1", "logits"}, 4),
        ({"hidden.1", "features"}, 4),
        ({"hidden.1", "module:embeddings.LayerNorm"}, 4),  # outside the layers: when does it run last?
        ({"hidden.1", "hidden.4"}, 4),
    ],
)
def test_a_forward_goes_as_far_as_its_deepest_signal(needs: set[str], layers: int) -> None:
    model, inputs = tiny("bert"), inputs_of("bert")
    whole = seen(model, needs, inputs)
    with counted(model, layer_paths("bert")) as ran:
        said = seen(model, needs, inputs, stop=True)
    assert len(ran) == layers
    assert said.keys() == needs
    assert all(torch.equal(said[need], whole[need]) for need in needs)


def test_a_module_of_several_layers_keeps_its_last_output_so_nothing_ends_early() -> None:
    model, inputs = tiny("bert"), inputs_of("bert")
    model.bert.encoder.layer[3].intermediate = model.bert.encoder.layer[0].intermediate
    needs = {"module:bert.encoder.layer.0.intermediate"}
    ((early,), (late,)) = (seen(model, needs, inputs, stop=stop).values() for stop in (True, False))
    assert torch.equal(early, late)
    with torch.no_grad():
        first = model.bert.encoder.layer[0].intermediate(seen(model, {"hidden.0"}, inputs)["hidden.0"])
    assert not torch.equal(early, first)


def test_an_end_that_is_not_ours_is_not_swallowed() -> None:
    model = tiny("bert")

    def other() -> Any:
        raise Ended

    with pytest.raises(Ended):
        resolve(model, {"hidden.1"}).run(model, other, stop=True)
    assert hooks(model) == 0


@pytest.mark.parametrize("name", [*ENCODERS, *OTHERS])
def test_attention_is_transformers_own_and_the_model_is_left_as_it_was(name: str) -> None:
    model, inputs = tiny(name), inputs_of(name)
    was = model.config._attn_implementation
    assert was == ("eager" if name == "mpnet" else "sdpa")
    with torch.no_grad():
        before = model(**inputs).logits
        with eager_attention(model):
            wanted = model(**inputs, output_attentions=True).attentions
    needs = {f"attention.{i}" for i in range(1, 5)}
    said = seen(model, needs, inputs)
    assert len(wanted) == 4
    assert all(torch.equal(said[f"attention.{i}"], wanted[i - 1]) for i in range(1, 5))
    real = inputs.get("attention_mask", torch.ones(2, 5)).bool()
    sums = said["attention.4"].sum(-1).transpose(1, 2)[real]
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert model.config._attn_implementation == was
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, before)


def test_attention_goes_back_after_an_exception_too() -> None:
    model = tiny("bert")
    with pytest.raises(ZeroDivisionError):
        resolve(model, {"attention.1"}).run(model, lambda: 1 / 0)
    assert model.config._attn_implementation == "sdpa"
    assert hooks(model) == 0


def test_attention_follows_from_query_and_key() -> None:
    # softmax(q k' / sqrt(d)) over what is not padding, in float64 NumPy
    model, inputs = tiny("bert"), inputs_of("bert")
    said = seen(model, {"query.2", "key.2", "value.2", "attention.2", "hidden.1"}, inputs)
    q, k = (said[f"{kind}.2"].double().numpy() for kind in ("query", "key"))
    assert q.shape == (2, 2, 7, 8)
    scores = np.einsum("nhld,nhmd->nhlm", q, k) / np.sqrt(8)
    scores[1, :, :, 4:] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_allclose(said["attention.2"].numpy(), weights / weights.sum(-1, keepdims=True), atol=1e-6)
    # head h of a projection is its columns 8h to 8h + 7
    projection = find(model, "layer.1.attention.self.value")
    by_hand = torch.nn.functional.linear(said["hidden.1"], projection.weight, projection.bias)
    torch.testing.assert_close(said["value.2"][:, 1], by_hand[..., 8:])


@pytest.mark.parametrize(("name", "fewer"), [("distilbert", 2), ("vit", 2), ("llama", 1), ("mpnet", 2)])
def test_projections_are_found_by_name_and_keys_may_have_fewer_heads(name: str, fewer: int) -> None:
    said = seen(tiny(name), {"query.4", "key.4", "value.4"}, inputs_of(name))
    length = 5 if name == "vit" else 7
    assert said["query.4"].shape == (2, 2, length, 8)
    assert said["key.4"].shape == said["value.4"].shape == (2, fewer, length, 8)


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "vit", "modernbert", "masked"])
def test_features_are_what_the_head_is_given(name: str) -> None:
    model, inputs = tiny(name), inputs_of(name)
    head = {"roberta": "classifier.out_proj", "masked": "cls.predictions.decoder"}.get(name, "classifier")
    said = seen(model, {"features", "logits"}, inputs)
    assert said["features"].shape == ((2, 7, 16) if name == "masked" else (2, 16))
    assert torch.equal(model.get_submodule(head)(said["features"]), said["logits"])


def test_features_of_our_own_families() -> None:
    torch.manual_seed(0)
    half = [0.5, 0.5, 0.5]
    pixels = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    bags = {"ids": torch.tensor([1, 2, 3]), "offsets": torch.tensor([0, 1, 3])}
    cases: list[tuple[Any, Any, str, int]] = [
        (students.Cnn((8, 8), 1, 3, width=4), pixels, "output", 8),
        (students.Mlp((8, 8), 1, 3, width=12), pixels, "output", 12),
        (students.Mlp((8, 8), 1, 3, layers=0), pixels, "output", 64),
        (students.Static(9, 4, 3, hidden=6), bags, "output", 6),
        (students.Normalised(tiny("vit"), half, half, (16, 16)), pixels, "model.classifier", 16),
        (students.Normalised(tiny("resnet"), half, half, (16, 16)), pixels, "model.classifier.1", 16),
    ]
    for module, inputs, head, width in cases:
        said = seen(module.eval(), {"features", "logits"}, inputs)
        assert said["features"].shape == (2, width), type(module)
        assert torch.equal(module.get_submodule(head)(said["features"]), said["logits"])


class Leaving(nn.Module):
    """Two heads of one width, the shallower one behind in the order of modules."""

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.body, self.top, self.head, self.exit = (nn.Linear(4, width) for width in (4, 4, 3, 3))
        self.scale = scale

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.body(x)
        logits = self.head(self.top(first))
        return {"logits": logits if self.scale is None else logits * self.scale, "exit.0.logits": self.exit(first)}


def test_of_several_heads_the_one_that_gave_the_logits_counts() -> None:
    torch.manual_seed(0)
    model, x = Leaving(), torch.randn(5, 4)
    assert torch.equal(seen(model, {"features"}, x)["features"], model.top(model.body(x)))
    with pytest.raises(UsageError, match=r"of head, exit there is no one.*provides"):
        seen(Leaving(scale=2.0), {"features"}, x)


def test_features_that_cannot_be_found() -> None:
    with pytest.raises(UsageError, match=r'"features".*has no nn\.Linear; input:PATH'):
        resolve(nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten()), {"features"})

    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.body = nn.Linear(5, 3), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x))

    with pytest.raises(UsageError, match=r'of body there is no one that gives its logits; .*"input:PATH"'):
        seen(Backwards(), {"features"}, torch.zeros(2, 4))
    with pytest.raises(UsageError, match="of score there is no one"):  # it scores every position and picks one
        seen(tiny("llama"), {"features"}, inputs_of("llama"))


def test_what_a_module_is_given_is_kept_before_it_changes() -> None:
    class Doubling(nn.Module):
        def forward(self, unused: None, *, x: Tensor) -> Tensor:
            return x.mul_(2.0)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = Doubling(), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.inner(None, x=x + 1.0))

    said = seen(Outer(), {"input:inner", "module:inner", "input:head"}, torch.ones(2, 3))
    assert torch.equal(said["input:inner"], torch.full((2, 3), 2.0))
    assert torch.equal(said["module:inner"], torch.full((2, 3), 4.0))
    assert torch.equal(said["input:head"], said["module:inner"])


def test_names_that_a_model_announces_go_first() -> None:
    class Told(nn.Module):
        provides = frozenset({"features", "exit.0.logits"})

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.head(x), "features": x * 7.0, "exit.0.logits": x[:, :3]}

    x = torch.ones(2, 4)
    said = seen(Told(), {"features", "exit.0.logits"}, x)
    assert torch.equal(said["features"], x * 7.0)
    assert torch.equal(said["exit.0.logits"], x[:, :3])
    assert signals_of(Told()) == ["exit.0.logits", "features", "logits"]


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "vit", "albert"])
def test_layers_of_a_transformer_are_its_hidden_states(name: str) -> None:
    assert layers_of(tiny(name)) == ["hidden.1", "hidden.2", "hidden.3", "hidden.4"]


@pytest.mark.parametrize(
    ("build", "wanted"),
    [
        (lambda: students.Cnn((32, 32), 1, 3, width=4), [f"module:stages.{i}" for i in (0, 1, 3, 4, 6, 7)]),
        (lambda: students.Cnn((4, 4), 1, 3, width=4), ["module:stages.0", "module:stages.1"]),
        (lambda: students.Mlp((4, 4), 1, 3, width=5, layers=2, dropout=0.1), ["module:layers.1", "module:layers.4"]),
        (lambda: students.Mlp((4, 4), 1, 3, layers=0), []),
        (lambda: students.Static(9, 4, 2), []),
        (lambda: students.Normalised(tiny("vit"), [0.5], [0.5], (16, 16)), [f"hidden.{i}" for i in range(1, 5)]),
        (
            lambda: students.Normalised(tiny("resnet"), [0.5], [0.5], (16, 16)),
            ["module:model.resnet.encoder.stages.0", "module:model.resnet.encoder.stages.1"],
        ),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 2)), ["module:0", "module:1"]),
        (lambda: nn.Linear(3, 2), []),
    ],
)
def test_layers_of_other_models(build: Callable[[], Any], wanted: list[str]) -> None:
    model = build()
    assert layers_of(model) == wanted
    assert resolve(model, wanted).needs == set(wanted)


def test_the_layers_of_our_families_are_in_the_order_in_which_they_run() -> None:
    model = students.Cnn((32, 32), 1, 3, width=4)
    said = seen(model.eval(), set(layers_of(model)), torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
    shapes = [tuple(said[layer].shape[1:]) for layer in layers_of(model)]
    assert shapes == [(4, 32, 32)] * 2 + [(8, 16, 16)] * 2 + [(16, 8, 8)] * 2
    paths = [layer.removeprefix("module:") for layer in layers_of(model)]
    with counted(model, paths) as ran:
        model(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
    assert ran == paths


def test_a_transformer_inside_a_wrapper_says_all_that_it_says_alone() -> None:
    vit = tiny("vit")
    wrapped = students.Normalised(vit, [0.5] * 3, [0.5] * 3, (16, 16))
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    needs = {"hidden.0", "hidden.2", "hidden.4", "attention.1", "key.3", "features", "logits"}
    outside = seen(wrapped, needs, pixels)
    inside = seen(vit, needs, {"pixel_values": (pixels / 255 - 0.5) / 0.5})
    assert outside.keys() == inside.keys() == needs
    for need in needs:
        torch.testing.assert_close(outside[need], inside[need])
    assert signals_of(wrapped) == signals_of(vit)


class Wrapped(nn.Module):
    """A user's own classifier around a transformers model, with its config but not with its arguments."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.config = inner.bert, inner.config
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.inner(input_ids, attention_mask).last_hidden_state[:, 0])


def test_a_wrapper_with_the_config_of_what_is_inside() -> None:
    inner = tiny("bert")
    said = seen(Wrapped(inner), {"hidden.2", "hidden.4"}, inputs_of("bert"))
    wanted = seen(inner, {"hidden.2", "hidden.4"}, inputs_of("bert"))
    assert all(torch.equal(said[need], wanted[need]) for need in said)


def test_two_transformers_in_one_model_have_no_hidden_states_in_common() -> None:
    both = nn.ModuleDict({"one": tiny("bert"), "other": tiny("vit")})
    assert depth_of(both) is None
    with pytest.raises(UsageError, match=r'cannot give "hidden\.1"; it gives features, logits, input:PATH'):
        resolve(both, {"hidden.1"})
    assert depth_of(tiny("t5")) is None  # encoder and decoder: whose?


@pytest.mark.parametrize(
    ("name", "need", "message"),
    [
        ("bert", "hidden.5", r"hidden\.0 to hidden\.4, attention\.1 to attention\.4"),
        ("bert", "attention.0", r'cannot give "attention\.0"; it gives features, logits, hidden\.0'),
        ("bert", "hidden.²", "cannot give"),
        ("bert", "logit", 'did you mean "logits"'),
        ("bert", "atention.1", r'did you mean "attention\.1"'),
        ("bert", "module:bert.encoder.layr.3", r"nearest: bert\.encoder\.layer\.3"),
        ("bert", "input:clasifier", "nearest: classifier"),
        ("modernbert", "query.1", r"layers\.0\.attn\.Wqkv gives query, key and value together"),
        ("albert", "key.1", "do not have just one key projection each"),
    ],
)
def test_what_cannot_be_given_is_refused_with_what_can(name: str, need: str, message: str) -> None:
    model = tiny(name)
    with pytest.raises(UsageError, match=message):
        resolve(model, {"logits", need}, "the teacher")
    assert hooks(model) == 0


def test_attention_that_cannot_be_eager_is_refused_before_the_first_step() -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny("bert")
            self.config = self.inner.config

        def set_attn_implementation(self, how: str) -> None:
            """As transformers does for models that are written around one implementation: nothing."""

        def forward(self, **inputs: Any) -> Any:
            return self.inner(**inputs)

    with pytest.raises(UsageError, match=r'Stubborn \("sdpa"\) cannot be made eager'):
        resolve(Stubborn(), {"attention.1"})


def test_a_plan_holds_nothing_of_the_model_so_it_serves_a_copy() -> None:
    model, inputs = tiny("bert"), inputs_of("bert")
    plan = copy.deepcopy(resolve(model, {"hidden.4", "attention.2", "features", "input:classifier"}))
    other = copy.deepcopy(model)
    nn.init.zeros_(other.bert.embeddings.LayerNorm.weight)
    with torch.no_grad():
        mine, theirs = (plan.run(m, lambda m=m: m(**inputs)) for m in (model, other))
    assert mine.keys() == theirs.keys() == {"hidden.4", "attention.2", "features", "input:classifier"}
    assert not any(torch.equal(mine[need], theirs[need]) for need in mine)


def test_signals_carry_gradient() -> None:
    model = tiny("bert").train()
    needs = {"hidden.0", "hidden.3", "hidden.4", "attention.4", "value.4", "features", "module:encoder.layer.3"}
    said = resolve(model, needs).run(model, lambda: model(**inputs_of("bert")))
    for need in sorted(needs):
        model.zero_grad()
        said[need].square().sum().backward(retain_graph=True)
        grad = model.bert.embeddings.word_embeddings.weight.grad
        assert grad is not None, need
        assert grad.abs().sum() > 0, need
