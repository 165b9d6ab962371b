"""Pruned vocabularies: every string is still encoded, what is kept is encoded as before, and the model follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.encoding import SubwordEncoder
from understudy.errors import UsageError
from understudy.students import cut, inheritance, load, parameters, prune_vocabulary, save

KINDS = ("wordpiece", "bytes", "suffixes", "unigram")
MODELS = {"wordpiece": "bert", "bytes": "roberta", "suffixes": "distilbert", "unigram": "bert"}
ODD = ["", " ", "naïve café", "12 €", "日本語", "a\u0301 \u200d🙂", "the the", "zzzz qqq"]


def trained(kind: str, texts: list[str]) -> Any:
    """A small tokenizer of each kind, as its library trains it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    special = ["<a>", "<b>", "<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer: Any = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>")
    elif kind == "suffixes":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(vocab_size=220, special_tokens=special, end_of_word_suffix="</w>")
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "bytes":
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 4), ("<s>", 2))
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 2), ("</s>", 4)]
        )
    return tokenizer


@pytest.fixture(scope="module")
def encoders(tiny_texts: Any, tiny_tokenizer: Any) -> dict[str, SubwordEncoder]:
    texts = tiny_texts(200)[0]
    found = {
        kind: SubwordEncoder(trained(kind, texts), limit=24, token_types=False, padding_id=3)
        for kind in KINDS
        if kind != "wordpiece"
    }
    return {"wordpiece": SubwordEncoder(tiny_tokenizer.backend_tokenizer, limit=24), **found}


@pytest.fixture(scope="module")
def corpus(tiny_texts: Any) -> list[str]:
    return [*tiny_texts(40, seed=3)[0], *ODD]


def ids(encoder: SubwordEncoder, texts: list[str]) -> list[list[int]]:
    features = encoder.encode({"text": texts})
    return [features[i].tolist() for i in range(len(features))]


def pieces(encoder: SubwordEncoder, texts: list[str]) -> list[list[str]]:
    definition = encoder.definition()
    vocabulary = definition["model"]["vocab"]
    named = {row[0]: i for i, row in enumerate(vocabulary)} if isinstance(vocabulary, list) else dict(vocabulary)
    token_of = {i: token for token, i in named.items()} | {t["id"]: t["content"] for t in definition["added_tokens"]}
    return [[token_of[i] for i in row] for row in ids(encoder, texts)]


def model_for(hugging: Any, encoder: SubwordEncoder, kind: str, **more: Any) -> Any:
    torch.manual_seed(0)
    dials: dict[str, Any] = {"vocab_size": encoder.size + 3, "pad_token_id": encoder.padding_id, **more}
    return hugging(MODELS[kind], **dials)


def logits(model: Any, encoder: SubwordEncoder, texts: list[str]) -> torch.Tensor:
    arrays = encoder.collate(encoder.encode({"text": texts}), np.arange(len(texts)))
    with torch.no_grad():
        return model(**{name: torch.from_numpy(value) for name, value in arrays.items()}).logits


@pytest.fixture(scope="module")
def smaller(
    hugging: Any, encoders: dict[str, SubwordEncoder], corpus: list[str]
) -> dict[tuple[str, bool], tuple[Any, Any, SubwordEncoder]]:
    """(kind, whether there is a limit) -> model, student, its encoder; the limit is between the smallest and all."""
    found = {}
    for kind, encoder in encoders.items():
        model = model_for(hugging, encoder, kind)
        all_used = prune_vocabulary(model, encoder, corpus)
        with pytest.raises(UsageError, match="at least") as error:
            prune_vocabulary(model, encoder, corpus, most=6)
        least = int(str(error.value).partition("at least ")[2].partition(",")[0])
        most = (least + all_used[1].size) // 2
        found[kind, False] = (model, *all_used)
        found[kind, True] = (model, *prune_vocabulary(model, encoder, corpus, most=most))
        assert found[kind, True][2].size <= most < all_used[1].size < encoder.size
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_the_corpus_are_read_as_before(
    kind: str, smaller: Any, encoders: dict[str, SubwordEncoder], corpus: list[str]
) -> None:
    model, student, encoder = smaller[kind, False]
    assert pieces(encoder, corpus) == pieces(encoders[kind], corpus)
    torch.testing.assert_close(
        logits(student, encoder, corpus), logits(model, encoders[kind], corpus), atol=1e-6, rtol=1e-6
    )
    report = inheritance(student, model)
    assert report["vocabulary"]["how"] == "copied"
    assert report["vocabulary"]["kept"] == encoder.size == student.config.vocab_size
    assert report["fresh"] == []
    assert report["layers"] == {i: i for i in range(6)}
    gone = model.config.vocab_size - encoder.size
    assert parameters(student) == parameters(model) - 16 * (gone + _moved(model, student))
    assert student.config.pad_token_id == encoder.padding_id


def _moved(model: Any, student: Any) -> int:
    return int(model.config.max_position_embeddings - student.config.max_position_embeddings)


@pytest.mark.parametrize("kind", KINDS)
def test_under_a_limit_rows_are_still_copies_and_nothing_new_is_unknown(
    kind: str, smaller: Any, encoders: dict[str, SubwordEncoder], corpus: list[str]
) -> None:
    model, student, encoder = smaller[kind, True]
    before, after = pieces(encoders[kind], corpus), pieces(encoder, corpus)
    changed = 0
    for was, now in zip(before, after, strict=True):
        unknown = [sum(token in ("<unk>", "[UNK]") for token in row) for row in (was, now)]
        assert unknown[1] <= unknown[0]
        changed += was != now
    assert 0 < changed < len(corpus)
    assert inheritance(student, model)["vocabulary"]["how"] == "copied"
    same = [text for text, was, now in zip(corpus, before, after, strict=True) if was == now]
    torch.testing.assert_close(
        logits(student, encoder, same), logits(model, encoders[kind], same), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limited", [False, True])
@given(text=st.text(max_size=30))
@settings(deadline=None, max_examples=60)
def test_every_string_is_encoded(
    kind: str, limited: bool, smaller: Any, encoders: dict[str, SubwordEncoder], text: str
) -> None:
    _, student, encoder = smaller[kind, limited]
    ((*found,),) = ids(encoder, [text])
    assert all(0 <= i < student.config.vocab_size for i in found)
    assert len(found) <= 24
    was, now = pieces(encoders[kind], [text])[0], pieces(encoder, [text])[0]
    assert now[0] == was[0]
    if kind == "bytes" and len(now) < 24:  # bytes lose nothing
        assert "".join(now[1:-1]) == "".join(was[1:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_read_again_beside_other_cuts(kind: str, smaller: Any, corpus: list[str], tmp_path: Path) -> None:
    _, pruned, encoder = smaller[kind, True]
    student = cut(pruned, 2, width=8, feed_forward=16, rank=4).eval()
    save(student, tmp_path / "student")
    entry = encoder.save(tmp_path)
    again = SubwordEncoder.load(tmp_path, entry)
    assert again.fingerprint == encoder.fingerprint
    assert torch.equal(logits(load(tmp_path / "student"), again, corpus), logits(student, encoder, corpus))
    report = inheritance(student, smaller[kind, True][0])
    assert report["vocabulary"]["how"] == "copied"
    assert report["rank"]["energy"] is not None
    assert report["layers"] == {0: 0, 1: 3}


def test_a_tied_head_follows(hugging: Any, encoders: dict[str, SubwordEncoder], corpus: list[str]) -> None:
    torch.manual_seed(0)
    model = hugging("masked", vocab_size=encoders["wordpiece"].size, pad_token_id=0)
    student, encoder = prune_vocabulary(model, encoders["wordpiece"], corpus)
    inner: Any = student
    assert inner.cls.predictions.decoder.weight is inner.bert.embeddings.word_embeddings.weight
    assert inner.cls.predictions.decoder.weight.shape[0] == encoder.size
    rows = inheritance(student, model)["vocabulary"]["from"]
    wanted = logits(model, encoders["wordpiece"], corpus)[:, :, rows]
    torch.testing.assert_close(logits(student, encoder, corpus), wanted, atol=1e-6, rtol=1e-6)


def test_positions_follow_the_padding_id(smaller: Any, encoders: dict[str, SubwordEncoder]) -> None:
    """RoBERTa counts positions from its padding id; two unused ids before it make it move."""
    model, student, encoder = smaller["bytes", False]
    assert (encoders["bytes"].padding_id, encoder.padding_id) == (3, 3)  # added tokens stay, and so does what follows
    assert student.config.max_position_embeddings == model.config.max_position_embeddings
    definition = encoders["bytes"].definition()
    definition["added_tokens"] = [token for token in definition["added_tokens"] if token["id"] > 1]
    bare = encoders["bytes"].rewritten(definition, padding_id=3)
    texts = ["the card", "a longer text about the weather today"]
    fewer, other = prune_vocabulary(model, bare, texts)
    assert other.padding_id == 1
    assert fewer.config.max_position_embeddings == model.config.max_position_embeddings - 2
    torch.testing.assert_close(logits(fewer, other, texts), logits(model, bare, texts), atol=1e-6, rtol=1e-6)
    assert inheritance(fewer, model)["fresh"] == []


def test_both_are_left_alone_and_settings_stay(
    hugging: Any, encoders: dict[str, SubwordEncoder], corpus: list[str]
) -> None:
    encoder = SubwordEncoder(
        type(encoders["bytes"]._tokenizer).from_str(encoders["bytes"]._tokenizer.to_str()),
        limit=17, fields=("a", "b"), token_types=True, padding_id=3,
    )  # fmt: skip
    model = model_for(hugging, encoder, "bytes").train()
    weights, fingerprint = {k: v.clone() for k, v in model.state_dict().items()}, encoder.fingerprint
    state = torch.get_rng_state()
    student, other = prune_vocabulary(model, encoder, corpus)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert encoder.fingerprint == fingerprint != other.fingerprint
    assert (other.limit, other.fields, other.token_types) == (17, ("a", "b"), True)
    assert student.training
    assert {p.data_ptr() for p in student.parameters()}.isdisjoint(p.data_ptr() for p in model.parameters())


def test_what_cannot_be_is_one_line(hugging: Any, encoders: dict[str, SubwordEncoder], corpus: list[str]) -> None:
    from tokenizers import Tokenizer, models

    encoder = encoders["wordpiece"]
    model = model_for(hugging, encoder, "wordpiece")
    words = SubwordEncoder(Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="b")), limit=8)
    for arguments, message in (
        ((model, encoder, corpus, 5), "a vocabulary of 5 would lose special tokens or single characters"),
        ((hugging("bert", vocab_size=20), encoder, corpus, None), "do not belong together"),
        ((hugging("vit"), encoder, corpus, None), "a table of sub-words"),
        ((cut(model, rank=4), encoder, corpus, None), "a table of sub-words"),
        ((model, encoder, [], None), "texts are wanted"),
        ((model, words, corpus, None), "WordPiece, BPE .* or Unigram was looked for"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            prune_vocabulary(*arguments[:3], most=arguments[3])
        assert "\n" not in str(error.value)
