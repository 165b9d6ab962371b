"""A masked language model's words for the holes of texts: in batches the same as one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from understudy.data import Examples
from understudy.data.augmentation import augment
from understudy.data.filling import masked_language_model
from understudy.errors import UsageError

ASKED = [
    ("where is my ", "?"),
    ("", " rain, ", " storm"),
    ("card",),
    ("please tell me about the ", " ", " ", " now when today i want " * 3),
    ("[MASK] <mask> is the ", " of my card \ud800"),  # names a mask itself, and holds what no tokenizer takes
    ("", ""),
]


def byte_level(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer whose words begin with Ġ, as RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, special_tokens=special))  # type: ignore[attr-defined, unused-ignore]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        mask_token="<mask>", model_max_length=64,
    )  # fmt: skip


@pytest.fixture(params=["bert", "distilbert", "roberta"])
def masked(request: pytest.FixtureRequest, tiny_tokenizer: Any, tiny_texts: Any) -> tuple[Any, Any]:
    """A tiny random masked language model, in training mode, and its tokenizer."""
    torch.manual_seed(0)
    if request.param == "roberta":
        tokenizer = byte_level(tiny_texts(240)[0])
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        config = RobertaConfig(
            vocab_size=len(tokenizer) + 8, max_position_embeddings=68, pad_token_id=1, initializer_range=0.3, **sizes
        )
        return RobertaForMaskedLM(config).train(), tokenizer
    if request.param == "distilbert":
        config = DistilBertConfig(
            vocab_size=len(tiny_tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=64,
            initializer_range=0.3,
        )  # fmt: skip
        return DistilBertForMaskedLM(config).train(), tiny_tokenizer
    config = BertConfig(
        vocab_size=len(tiny_tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return BertForMaskedLM(config).train(), tiny_tokenizer


def one_by_one(model: Any, tokenizer: Any, pieces: tuple[str, ...], k: int) -> list[list[str]]:
    """The plain way: one text, all logits, sorted, and of those the tokens that read as a word after a space."""
    clean = [piece.replace(tokenizer.mask_token, " ").encode("utf-8", "replace").decode() for piece in pieces]
    inputs = tokenizer(tokenizer.mask_token.join(clean), return_tensors="pt")
    inputs.pop("token_type_ids", None)
    model.eval()
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    model.train()
    answers = []
    for place in torch.nonzero(inputs["input_ids"][0] == tokenizer.mask_token_id)[:, 0].tolist():
        words = []
        for i in logits[place].argsort(descending=True).tolist():
            token = tokenizer.convert_ids_to_tokens(i) if i < len(tokenizer) else None
            if token is None or i in tokenizer.all_special_ids:
                continue
            if tokenizer.mask_token == "<mask>":
                word = token[1:] if token[0] == "Ġ" else ""
            else:
                word = "" if token.startswith("##") else token
            if word.isalnum():
                words.append(word)
        answers.append(words[:k])
    return answers


@pytest.mark.parametrize("tokens", [1, 40, 4096])
def test_batches_answer_as_single_texts_do(masked: tuple[Any, Any], tokens: int) -> None:
    model, tokenizer = masked
    sizes: list[torch.Size] = []
    watch = model.register_forward_pre_hook(
        lambda _, __, given: sizes.append(given["input_ids"].shape), with_kwargs=True
    )
    answers = masked_language_model(model, tokenizer, k=4, tokens=tokens)(ASKED)
    watch.remove()
    assert all(len(size) == 2 and (size[0] == 1 or size.numel() <= tokens) for size in sizes)
    assert sum(size[0] for size in sizes) in (5, 6)  # a batch without a hole is not asked about
    assert {1: len(sizes) == 5, 40: 1 < len(sizes) < 6, 4096: len(sizes) == 1}[tokens]
    assert [len(answer) for answer in answers] == [1, 2, 0, 3, 1, 1]
    assert answers == [one_by_one(model, tokenizer, pieces, 4) for pieces in ASKED]
    assert all(len(set(words)) == 4 for answer in answers for words in answer)
    assert model.training
    assert not model.get_output_embeddings()._forward_pre_hooks
    assert len({words[0] for answer in answers for words in answer}) > 1  # it listens to the text


def test_a_hole_beyond_the_limit_stays_open(masked: tuple[Any, Any]) -> None:
    model, tokenizer = masked
    (answer,) = masked_language_model(model, tokenizer, k=2)([("a ", " card" * 200, "")])
    assert [len(words) for words in answer] == [2, 0]


def test_views_by_a_model(masked: tuple[Any, Any], tiny_texts: Any) -> None:
    """Through `augment`: the same for a subset, which is other batches; most rows change, none by more than it may."""
    model, tokenizer = masked
    texts, _ = tiny_texts(60)
    fill, rows = masked_language_model(model, tokenizer), Examples.of({"text": texts})
    made = augment(rows, ["masked_words"], views=2, seed=0, fill=fill)
    assert len(made.examples) > 100
    for origin, view in zip(made.origins.tolist(), made.examples.inputs["text"], strict=True):
        before, after = texts[origin].split(), view.split()
        changed = sum(a != b for a, b in zip(before, after, strict=True))
        assert 1 <= changed <= max(1, round(0.15 * len(before)))
    part = augment(rows.take(np.arange(50, 20, -1)), ["masked_words"], views=2, seed=0, fill=fill)
    assert set(part.examples.keys) <= set(made.examples.keys)


def test_what_cannot_be_asked(tiny_tokenizer: Any) -> None:
    model = torch.nn.Linear(1, 1)
    with pytest.raises(UsageError, match="a fast tokenizer with a mask token is wanted, got object"):
        masked_language_model(model, object())
    with pytest.raises(UsageError, match="got k=0 and tokens=4096"):
        masked_language_model(model, tiny_tokenizer, k=0)
