"""Narrower decoders: heads in groups, gates, weights that lie the other way round; laws, counts and refusals.

That their graphs ship is tested where a run ends in one (`tests/pipeline/test_causal.py`).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.decoders import decoder

from understudy.errors import UsageError
from understudy.features import layer_stack
from understudy.students import cut, inheritance, parameters, save

KINDS = ("gpt2", "llama", "qwen2")
WIDE = {"width": 32, "heads": 4, "key_heads": 2}  # heads of 8; of a GPT-2 each has keys of its own
V = 40


def teacher(kind: str) -> Any:
    model = decoder(kind, V, layers=3, **WIDE)
    torch.manual_seed(1)
    with torch.no_grad():  # norms and biases of a fresh model are all alike
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def rows(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    mask = torch.arange(9) < torch.tensor([[9], [4], [7]])
    return {"input_ids": torch.randint(0, V, (3, 9)) * mask, "attention_mask": mask.long()}


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**inputs).logits[inputs["attention_mask"].bool()]


def units_of(model: Any, kind: str) -> int:
    return 4 * 32 if kind == "gpt2" else 2 * 32


def layers_of(model: Any) -> Any:
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


def counted(kind: str, *, layers: int, width: int, keys: int, units: int) -> int:
    """Parameters by hand: tables, layers, the last norm; heads take the whole width, keys and values ``keys`` of it."""
    square = width * width
    if kind == "gpt2":
        layer = 4 * (square + width) + 2 * width * units + units + width + 4 * width
        return (V + 64) * width + layers * layer + 2 * width
    layer = 2 * square + 2 * keys * width + 3 * width * units + 2 * width
    layer += width + 2 * keys if kind == "qwen2" else 0  # biases of queries, keys and values
    return V * width * (2 if kind == "llama" else 1) + layers * layer + width


@pytest.mark.parametrize("kind", KINDS)
def test_keeping_everything_says_exactly_what_the_teacher_says(kind: str) -> None:
    model = teacher(kind)
    student = cut(model, 3, width=32, heads=4, feed_forward=units_of(model, kind), rows=[rows()])
    assert torch.equal(logits(student, rows()), logits(model, rows()))
    assert inheritance(student, model)["layers"] == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("measured", [True, False])
def test_what_is_silent_is_left_out(kind: str, measured: bool) -> None:
    """Heads whose values nobody reads and units that give nothing are not missed, wherever they stand."""
    model, silent = teacher(kind), torch.tensor([1, 5, 6, 20, 33, *range(40, 60)])
    with torch.no_grad():
        for layer in layers_of(model):
            if kind == "gpt2":
                layer.attn.c_proj.weight[8:24] = 0  # inputs of heads 1 and 2
                layer.mlp.c_fc.weight[:, silent] = 0
                layer.mlp.c_fc.bias[silent] = 0
            else:
                layer.self_attn.o_proj.weight[:, :16] = 0  # heads 0 and 1 share keys and values
                layer.mlp.up_proj.weight[silent] = 0
    left = units_of(model, kind) - len(silent)
    dials: dict[str, Any] = {"width": 32, "feed_forward": left, "rows": [rows()] if measured else None}
    wanted = logits(model, rows(5))
    if kind != "gpt2":  # the size of a head is said, so two of them in a width of four
        student = cut(model, 3, heads=2, **dials)
        assert (student.config.head_dim, student.config.num_key_value_heads) == (8, 1)
        torch.testing.assert_close(logits(student, rows(5)), wanted, atol=1e-5, rtol=1e-5)
        report = inheritance(student, model)
        assert report["heads"]["from"] == [[2, 3]] * 3
    else:
        torch.testing.assert_close(logits(cut(model, 3, **dials), rows(5)), wanted, atol=1e-5, rtol=1e-5)
        report = inheritance(cut(model, 3, **dials | {"width": 16}), model)
        assert report["heads"]["from"] == [[0, 3]] * 3
    assert report["layers"] == {0: 0, 1: 1, 2: 2}
    assert all(set(kept).isdisjoint(silent.tolist()) for kept in report["feed_forward"]["from"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_narrower_decoder_is_an_ordinary_folder(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model, inputs = teacher(kind), rows()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    student = cut(model, [0, 2], width=16, feed_forward=20, rows=[inputs])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert parameters(student) == counted(kind, layers=2, width=16, keys=8, units=20)
    save(student, tmp_path / "student")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "student").eval()
    assert type(again) is type(model)
    assert torch.equal(logits(again, inputs), logits(student, inputs))
    tied = again.get_input_embeddings().weight is again.get_output_embeddings().weight
    assert tied == (kind != "llama")
    report = inheritance(student, model)
    assert report["layers"] == {0: 0, 1: 2}
    assert report["fresh"] == []
    assert (report["channels"]["kept"], report["channels"]["how"]) == (16, "copied")
    assert [len(heads) for heads in report["heads"]["from"]] == [2, 2]
    assert report["chosen_by"] == "activations on 3 rows"
    twice = cut(again, 1, feed_forward=10, rows=[inputs])
    assert parameters(twice) == counted(kind, layers=1, width=16, keys=8, units=10)
    fresh = cut(model, [0, 2], width=16, feed_forward=20, initialise=False)
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {k: v.shape for k, v in again.state_dict().items()}
    assert set(inheritance(fresh, model)["layers"].values()) == {None}


def test_width_and_heads_are_free_of_each_other_where_a_head_keeps_its_size(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    for kind in ("llama", "qwen2"):
        model = teacher(kind)
        student: Any = cut(model, 3, width=20, heads=4, rows=[rows()])
        assert student.model.layers[0].self_attn.q_proj.weight.shape == (32, 20)
        save(student, tmp_path / kind)
        again = AutoModelForCausalLM.from_pretrained(tmp_path / kind).eval()
        assert torch.equal(logits(again, rows()), logits(student, rows()))
        whole = cut(again, 3, width=20, heads=4, feed_forward=64)  # and what was cut so can be cut
        assert torch.equal(logits(whole, rows()), logits(again, rows()))
        narrower: Any = cut(again, 3, heads=2)
        assert (narrower.config.hidden_size, narrower.config.head_dim) == (20, 8)
        assert inheritance(narrower, again)["layers"] == {0: 0, 1: 1, 2: 2}


def test_heads_of_a_gpt2_lose_dimensions() -> None:
    """As those of encoders do: queries as long as before, and what is left is said to be copied."""
    model = teacher("gpt2")
    student: Any = cut(model, 3, width=16, heads=4, rows=[rows()])
    report = inheritance(student, model)
    assert report["layers"] == {0: 0, 1: 1, 2: 2}
    assert report["heads"]["from"] is None  # all of them
    attention, theirs = student.transformer.h[0].attn.c_attn, model.transformer.h[0].attn.c_attn
    entries = {round(float(value), 6) for value in theirs.bias[:32].detach() / 2**0.5}
    assert {round(float(value), 6) for value in attention.bias[:16].detach()} < entries


@pytest.mark.parametrize(
    ("kind", "dials", "words"),
    [
        ("llama", {"width": 24}, "no number of groups of 2 heads of 8: 16 or 32 would work, or heads=4"),
        ("llama", {"heads": 3}, "3 heads are no number of groups: 2 heads share keys and values here"),
        ("qwen2", {"width": 18, "heads": 4}, "4 heads do not divide a width of 18: a width of 16 or 20 would work"),
        ("gpt2", {"width": 12}, "no number of heads of 8"),
        ("gpt2", {"width": 64}, "between 1 and the teacher's 32"),
        ("gpt2", {"feed_forward": 129}, "between 1 and the teacher's 128"),
        ("gpt2", {"width": 16, "choose": "pca", "rows": [rows()]}, "is tied to the embeddings"),
        ("llama", {"width": 16, "choose": "pca", "rows": [rows()]}, "LlamaRMSNorm: use choose=importance"),
    ],
)
def test_what_cannot_be_is_one_line(kind: str, dials: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        cut(teacher(kind), 2, **dials)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_decoders_of_other_parts_are_refused_with_what_was_looked_for() -> None:
    import transformers as hf

    sizes = {"vocab_size": V, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    fused = hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**sizes, intermediate_size=32))
    with pytest.raises(UsageError, match="one query projection was looked for"):
        cut(fused, 2, width=8)
    gemma = hf.GemmaForCausalLM(hf.GemmaConfig(**sizes, intermediate_size=32, num_key_value_heads=2, head_dim=8))
    with pytest.raises(UsageError, match=r"cannot lose width: model.embed_tokens.scalar_embed_scale follows from it"):
        cut(gemma, 2, width=8)
    units: Any = cut(gemma, 2, feed_forward=16)
    assert units.config.intermediate_size == 16
    own = hf.StableLmForCausalLM(hf.StableLmConfig(**sizes, intermediate_size=32, num_key_value_heads=2))
    with pytest.raises(UsageError, match="1 heads want a width of 8, not 16"):
        cut(own, 2, width=16, heads=1, initialise=False)
    across = hf.GPT2Config(vocab_size=V, n_embd=16, n_layer=2, n_head=2, add_cross_attention=True)
    with pytest.raises(UsageError, match="cannot be narrowed"):
        cut(hf.GPT2LMHeadModel(across), 2, width=8)


SMALL = {"vocab_size": V, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 4, "intermediate_size": 32}


def without(model: Any, kept: list[int]) -> Any:
    """The teacher, less the layers that are not kept: those give what they are given."""
    left = copy.deepcopy(model)
    for place, layer in enumerate(left.get_submodule(layer_stack(left)[0])):
        if place not in kept:

            def through(module: Any, given: Any, named: Any, said: Any) -> Any:
                states = given[0] if given else named["hidden_states"]
                return states if isinstance(said, torch.Tensor) else (states, *said[1:])

            layer.register_forward_hook(through, with_kwargs=True)
    return left


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("SmolLM3", {**SMALL, "num_key_value_heads": 1, "no_rope_layers": [1, 1, 0, 1], "pad_token_id": 0}),
        ("GPTNeo", {"vocab_size": V, "hidden_size": 16, "num_layers": 4, "num_heads": 2, "window_size": 3,
                    "attention_types": [[["global", "local"], 2]]}),
        ("Gemma2", {**SMALL, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 3}),
        ("Qwen2", {**SMALL, "num_key_value_heads": 1, "use_sliding_window": True, "sliding_window": 3,
                   "max_window_layers": 2, "eos_token_id": [1, 2, 3, 4]}),
        ("Llama", {**SMALL, "num_key_value_heads": 1, "eos_token_id": [1, 2, 3, 4]}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kept", [[0, 2], [1, 3]])
def test_a_layer_is_in_another_place_what_it_was(
    name: str, sizes: dict[str, Any], kept: list[int], tmp_path: Path
) -> None:
    """Kinds of attention and of positions, which a config lists layer by layer, go with their layers."""
    import transformers as hf

    torch.manual_seed(0)
    model = getattr(hf, f"{name}ForCausalLM")(getattr(hf, f"{name}Config")(**sizes, initializer_range=0.5)).eval()
    inputs = {
        "input_ids": torch.arange(1, 19).view(2, 9),
        "attention_mask": torch.ones(2, 9).long(),
        "use_cache": False,
    }
    student: Any = cut(model, kept)
    torch.testing.assert_close(logits(student, inputs), logits(without(model, kept), inputs))
    assert student.config.eos_token_id == model.config.eos_token_id
    save(student, tmp_path / "student")
    again = type(model).from_pretrained(tmp_path / "student")
    assert torch.equal(logits(again, inputs), logits(student, inputs))


def test_a_layer_that_would_be_another_in_its_new_place_is_refused() -> None:
    import transformers as hf

    config = hf.GPT2Config(vocab_size=V, n_embd=16, n_layer=4, n_head=2, scale_attn_by_inverse_layer_idx=True)
    model = hf.GPT2LMHeadModel(config)
    for dials in ({}, {"width": 8}):
        with pytest.raises(UsageError, match=r"layer 2 cannot become layer 1: its attn.scaling would be .* first"):
            cut(model, [0, 2], **dials)
    inputs = {"input_ids": torch.arange(1, 10)[None], "attention_mask": torch.ones(1, 9).long(), "use_cache": False}
    student = cut(model, 2, spread="first")
    torch.testing.assert_close(logits(student, inputs), logits(without(model.eval(), [0, 1]), inputs))


def test_norms_of_queries_and_missing_weights_of_norms_are_refused_where_they_cannot_be_cut() -> None:
    import transformers as hf

    own = hf.Olmo2ForCausalLM(hf.Olmo2Config(**SMALL, num_key_value_heads=2))
    for dials in ({"width": 8}, {"heads": 1, "width": 16}):
        with pytest.raises(UsageError, match=r"cannot be narrowed: .*q_norm.weight"):
            cut(own, 2, **dials)
    assert cut(own, 2, feed_forward=16).config.intermediate_size == 16
    bare = hf.OlmoForCausalLM(hf.OlmoConfig(**SMALL, num_key_value_heads=2))
    inputs = {"input_ids": torch.arange(1, 10)[None], "attention_mask": torch.ones(1, 9).long()}
    assert cut(bare, 2, width=8, rows=[inputs]).config.hidden_size == 8  # by the lengths of the weights
    fused = hf.GlmForCausalLM(hf.GlmConfig(**SMALL, num_key_value_heads=1, head_dim=8, pad_token_id=0))
    with pytest.raises(UsageError, match="feed-forward up projection of 64 outputs for 32 units"):
        cut(fused, 2, feed_forward=16, rows=[inputs])
