"""What a decoder has to say of a text: one shift, which tokens count, and that it is transformers' own loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.decoders import decoder, saved, tokenizer_of
from understudy.data import Examples, load
from understudy.data.corpus import own
from understudy.data.feed import Feed
from understudy.data.language import LETTERS, pieces
from understudy.encoding import CausalEncoder, load_encoder
from understudy.errors import DataError, TeacherError, UsageError
from understudy.objectives import Term, hard_labels, hard_tokens, soft_labels, soft_tokens
from understudy.records import Batch, Outputs, Targets
from understudy.statistics import METRICS
from understudy.students import CausalLM, Student, cut
from understudy.tasks import LAYOUTS
from understudy.teachers import Live, open_teacher, score_rows
from understudy.training import Settings, train

TEXTS = [f"the {a} {b} the {c}" for a in ("cat", "dog", "old man") for b in ("sees", "has") for c in ("sea", "boat é")]
TASK_METRICS = ("token_loss", "perplexity", "bits_per_byte", "token_accuracy")
KINDS = ("gpt2", "llama", "qwen2")
PROMPTS = {"prompt": ["who?", "what is it called?"], "completion": [" the cat", " a boat, and a sea"]}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tokenizer_of(TEXTS)


def encoder_of(tokenizer: Any, **more: Any) -> CausalEncoder:
    ids = {"start": [0], "end_id": 0, "padding_id": 0}
    return CausalEncoder(tokenizer.backend_tokenizer, **{"limit": 48, **ids, **more})


def feed_of(encoder: CausalEncoder, inputs: dict[str, list[str]]) -> Feed:
    rows = Examples.of(inputs, own(len(next(iter(inputs.values())))))
    return Feed(rows, {"student": encoder, "teacher": encoder})


def sums(term: Term, student: Student, batch: Batch, targets: Targets | None = None) -> torch.Tensor:
    student.bind(term.needs.learner)
    said = student(batch.inputs["student"]).of("student")
    return term.total(said, Targets({}) if targets is None else targets, batch)


@pytest.mark.parametrize("name", ["OPT", "GPTNeo", "Bloom", "Phi", "Gemma2"])
def test_logits_at_places_are_the_models_own(name: str) -> None:
    """Also where the class calls its decoder past its base model (OPT), or caps its logits (Gemma 2)."""
    import transformers as hf

    sizes: dict[str, Any] = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    of = {"OPT": {"word_embed_proj_dim": 16, "ffn_dim": 32}, "Bloom": {"n_layer": 2, "n_head": 2},
          "GPTNeo": {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
          "Gemma2": {"num_key_value_heads": 1, "head_dim": 8}}  # fmt: skip
    if name in ("GPTNeo", "Bloom"):
        del sizes["num_hidden_layers"], sizes["num_attention_heads"]
    torch.manual_seed(0)
    model = getattr(hf, f"{name}ForCausalLM")(getattr(hf, f"{name}Config")(**sizes, **of.get(name, {}))).eval()
    ids, places = torch.arange(1, 15).view(2, 7), torch.tensor([[0, 3], [6, 2]])
    with torch.no_grad():
        said = CausalLM(model)(ids, torch.ones_like(ids), places)
        whole = model(input_ids=ids).logits
    torch.testing.assert_close(said["logits"], whole.gather(1, places[:, :, None].expand(-1, -1, 40)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_transformers(kind: str, tokenizer: Any) -> None:
    """Its own shift, its own mean over the labels that are not -100: the start is read, the end is said."""
    encoder, model = encoder_of(tokenizer), decoder(kind, len(tokenizer))
    batch = feed_of(encoder, {"text": TEXTS}).batch(np.arange(len(TEXTS)))
    ids, mask = (batch.inputs["student"][name] for name in ("input_ids", "attention_mask"))
    labels = ids.masked_fill(mask == 0, -100)
    wanted = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    for term in (hard_tokens(), hard_labels()):
        mine = sums(term, Student(CausalLM(model)), batch) / term.count(batch)
        torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=1e-5)
    assert (labels[:, 1:] == 0).sum() == len(TEXTS)  # the end counts once a row, though padding has its number
    said = batch.labels
    assert ((said == 0).sum(1) == 1).all()


def test_of_prompts_only_the_completions_count(tokenizer: Any) -> None:
    encoder, model = encoder_of(tokenizer, fields=("prompt", "completion")), decoder("gpt2", len(tokenizer))
    batch = feed_of(encoder, PROMPTS).batch(np.arange(2))
    ids, mask = (batch.inputs["student"][name] for name in ("input_ids", "attention_mask"))
    labels = ids.masked_fill(mask == 0, -100)
    for row, prompt in enumerate(PROMPTS["prompt"]):
        labels[row, : 1 + len(tokenizer(prompt, add_special_tokens=False).input_ids)] = -100
    wanted = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    term = hard_tokens()
    mine = sums(term, Student(CausalLM(model)), batch) / term.count(batch)
    torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=1e-5)
    features = encoder.encode(PROMPTS)
    assert features.size.tolist() == [len(text.encode()) for text in PROMPTS["completion"]]
    assert not features.cut.any()


@pytest.mark.parametrize("kind", KINDS)
def test_what_fills_a_row_counts_nowhere(kind: str, tokenizer: Any) -> None:
    """Other padding, and another number for it: the same loss and the same gradient."""
    encoder, model, term = encoder_of(tokenizer), decoder(kind, len(tokenizer)), hard_tokens()
    batch = feed_of(encoder, {"text": TEXTS[:5]}).batch(np.arange(5))
    inputs = batch.inputs["student"]
    other = dict(inputs, input_ids=torch.where(inputs["attention_mask"] == 0, 7, inputs["input_ids"]))
    assert not torch.equal(other["input_ids"], inputs["input_ids"])
    found = []
    for one in (inputs, other):
        model.zero_grad()
        total = sums(term, Student(CausalLM(model)), Batch(batch.keys, {"student": one}, batch.labels, batch.masks))
        total.backward()
        found.append([total.detach(), *(p.grad.clone() for p in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_what_is_too_long_loses_its_end_and_a_prompt_its_beginning(tokenizer: Any) -> None:
    long = "the cat sees the sea. " * 9
    encoder = encoder_of(tokenizer, limit=12)
    features = encoder.encode({"text": [long.strip(), "the cat", "the cat "]})
    assert features.cut.tolist() == [True, False, False]
    assert features.ids[0][-1] != 0
    assert len(features.ids[0]) == 12
    assert features.ids[1][-1] == 0
    assert features.ids[2][-1] != 0  # it goes on elsewhere
    kept = tokenizer.decode(features.ids[0][1:].tolist())
    assert long.startswith(kept)
    assert features.size[0] == len(kept.encode())
    asked = encoder_of(tokenizer, limit=12, fields=("prompt", "completion"))
    features = asked.encode({"prompt": [long, "who?"], "completion": [" the dog", long]})
    assert features.cut.tolist() == [True, True]
    assert features.ids[0][-1] == 0
    assert tokenizer.decode(features.ids[0][features.first[0] :].tolist()).startswith(" the dog")
    assert features.first[1] == 2  # the start, and something of the prompt
    assert len(features.ids[1]) == 12
    assert features.size[1] == len(tokenizer.decode(features.ids[1][2:].tolist()).encode())


def test_without_a_start_the_first_token_is_read_and_not_said(tokenizer: Any) -> None:
    encoder = encoder_of(tokenizer, start=[])
    features = encoder.encode({"text": ["the cat"]})
    ids = tokenizer("the cat", add_special_tokens=False).input_ids
    inputs, said = encoder.masked(features, [0])
    assert said.tolist() == [[*ids[1:], 0]]
    assert inputs["places"].tolist() == [list(range(len(ids)))]
    first = tokenizer.decode(ids[:1])
    assert features.size.tolist() == [len("the cat") - len(first)]


def test_an_encoder_is_read_back(tokenizer: Any, tmp_path: Path) -> None:
    encoder = encoder_of(tokenizer, fields=("prompt", "completion"))
    again: Any = load_encoder(tmp_path, encoder.save(tmp_path))
    assert again.fingerprint == encoder.fingerprint
    assert (again.encode(PROMPTS).ids.values == encoder.encode(PROMPTS).ids.values).all()
    with pytest.raises(UsageError, match="prompt and completion"):
        encoder_of(tokenizer, fields=("question", "answer"))


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_say_what_logits_say(kind: str, tokenizer: Any) -> None:
    """The divergence of states and heads is that of the logits, value and gradient; the student's head may be tied."""
    encoder = encoder_of(tokenizer)
    teacher, student = decoder(kind, len(tokenizer), seed=1), decoder(kind, len(tokenizer), layers=2)
    batch = feed_of(encoder, {"text": TEXTS}).batch(np.arange(len(TEXTS)))
    found = []
    for term in (soft_tokens(2.0, divergence="reverse_kl"), soft_labels(2.0, divergence="reverse_kl", per="words")):
        live = Live(CausalLM(teacher))
        live.bind(term.needs.source)
        student.zero_grad()
        total = sums(term, Student(CausalLM(student)), batch, live.targets(batch).of("teacher"))
        total.backward()
        found.append([total.detach(), *(p.grad.clone() for p in student.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


GOLDEN = {
    ("forward_kl", 1.0): (1.15042077, 0.17218498),
    ("forward_kl", 2.0): (0.32015667, 0.04616994),
    ("reverse_kl", 2.0): (0.32015667, 0.04330097),
    ("jensen_shannon", 1.0): (0.24758807, 0.03855048),
    ("skew_reverse_kl", 1.0): (0.82991457, 0.12008947),
    ("total_variation", 1.0): (0.57521038, 0.21321605),
}


@pytest.mark.parametrize(("divergence", "temperature"), GOLDEN)
def test_golden_numbers_of_a_head_that_changes_nothing(divergence: str, temperature: float) -> None:
    mine = torch.tensor([[[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]]], dtype=torch.float64)
    theirs = torch.tensor([[[3.0, 2.0, 1.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    said, taught = ({"states": one, "head": torch.eye(3, dtype=torch.float64)} for one in (mine, theirs))
    batch = Batch(("a",), {}, None, {"words": torch.ones(1, 2)})
    term = soft_tokens(temperature, divergence=divergence)
    found = term.value(Outputs(said), Targets(taught), batch)[0] / temperature**2
    assert found.tolist() == pytest.approx(GOLDEN[divergence, temperature], abs=1e-8)


def test_rows_of_a_head_behind_the_common_tokens_do_not_exist(tokenizer: Any) -> None:
    """A teacher whose vocabulary is rounded up: the same loss as without its padding (not 3.23, as with zeros)."""
    torch.manual_seed(0)
    states, head = torch.randn(1, 3, 4), torch.randn(5, 4)
    padded = torch.cat([head, torch.randn(3, 4)])
    batch = Batch(("a",), {}, None, {"words": torch.ones(1, 3)})
    term = soft_tokens()
    for mine, theirs in ((head, padded), (padded, head)):
        said, taught = ({"states": states, "head": one.clone().requires_grad_(True)} for one in (mine, theirs))
        total = term.total(Outputs(said), Targets(taught), batch)
        assert total.item() == pytest.approx(0.0, abs=1e-6)
        total.backward()
        assert (said["head"].grad[5:] == 0).all()
        assert taught["head"].grad is None


def test_metrics_are_sums_over_texts(tokenizer: Any) -> None:
    encoder, model = encoder_of(tokenizer), CausalLM(decoder("llama", len(tokenizer)))
    numbers = score_rows(model, encoder, {"text": TEXTS})
    labels = own(len(TEXTS))
    said = {name: METRICS[name].function(labels, numbers) for name in TASK_METRICS}
    nats = numbers[:, 1].sum()
    assert said["token_loss"] == pytest.approx(nats / numbers[:, 0].sum())
    assert said["perplexity"] == pytest.approx(math.exp(said["token_loss"]))
    assert said["bits_per_byte"] == pytest.approx(nats / math.log(2) / sum(len(text.encode()) for text in TEXTS))
    assert 0 <= said["token_accuracy"] <= 1
    alone = np.concatenate([score_rows(model, encoder, {"text": [text]}) for text in TEXTS])
    np.testing.assert_allclose(numbers, alone, rtol=1e-4)
    with pytest.raises(DataError, match="other tokens"):
        METRICS["token_loss"].checked(labels, numbers, numbers + 1)


def test_long_texts_become_rows_that_put_together_are_the_text() -> None:
    text = "\n\n".join(f"paragraph {i} " + "word " * (i % 70) for i in range(60)) + "x" * 2500
    found = list(pieces(text))
    assert "".join(found) == text
    assert max(map(len, found)) <= LETTERS
    assert all(one[-1].isspace() for one in found[: len(found) - 3])


def test_what_is_read_says_what_it_is_for(tmp_path: Path) -> None:
    import pandas as pd

    rows = {"prompt": [f"count to {i}" for i in range(40)], "completion": [" ".join("ab" * i) + "." for i in range(40)]}
    pd.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    task, splits = load(tmp_path, layouts=LAYOUTS)
    assert task == "causal-lm"
    assert splits.fields == ("prompt", "completion")
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 40
    assert load(tmp_path, task="causal-lm", text="prompt", layouts=LAYOUTS)[1].fields == ("text",)
    pd.DataFrame({"text": ["a b", "c"]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="too short a corpus"):
        load(tmp_path, task="causal-lm", layouts=LAYOUTS)


def test_columns_by_other_names_are_told_how_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("question,answer\n2 + 2?,4\n")
    with pytest.raises(DataError, match=r'no column "text" .*: --text question,answer'):
        load(tmp_path, task="causal-lm", layouts=LAYOUTS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_decoder_says_what_its_layers_say(kind: str, tokenizer: Any) -> None:
    model = decoder(kind, len(tokenizer))
    ids = torch.randint(0, len(tokenizer), (2, 9))
    with torch.no_grad():
        wanted = model(ids).logits
        assert torch.equal(cut(model, 4).eval()(ids).logits, wanted)
        half = cut(model, 2)
        assert half.eval()(ids).logits.shape == wanted.shape
    assert half.config.num_hidden_layers == 2
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert (half.get_input_embeddings().weight is half.get_output_embeddings().weight) == tied == (kind != "llama")
    assert torch.equal(half.get_input_embeddings().weight, model.get_input_embeddings().weight)
    first = cut(model, 2, spread="first").state_dict()
    for name, value in first.items():
        assert torch.equal(value, model.state_dict()[name])


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_training_that_goes_on_ends_in_the_same_weights(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    encoder = encoder_of(tokenizer)
    feed, teacher = feed_of(encoder, {"text": TEXTS}), CausalLM(decoder(kind, len(tokenizer), seed=1))

    def trained(folder: Path, stop: int = 99) -> dict[str, torch.Tensor]:
        from understudy.errors import Interrupted

        student = Student(CausalLM(decoder(kind, len(tokenizer), layers=2)))
        objective = [soft_tokens(weight=0.5), hard_tokens(0.5)]
        settings, steps = Settings(epochs=3, batch_size=4, learning_rate=1e-3, seed=3), [0]

        def enough() -> bool:
            steps[0] += 1
            return steps[0] > stop

        try:
            train(
                student, feed, objective=objective, teacher=Live(teacher), settings=settings, folder=folder,
                should_stop=enough,
            )  # fmt: skip
        except Interrupted:
            return trained(folder)
        return student.state_dict()

    whole, again = trained(tmp_path / "a"), trained(tmp_path / "b", stop=4)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_folder_of_another_model_is_one_line(tokenizer: Any, tmp_path: Path, tiny_encoder: Path) -> None:
    with pytest.raises(TeacherError, match="wants a decoder"):
        open_teacher(tiny_encoder, task="causal-lm", label_names=())
    found = open_teacher(saved("llama", tokenizer, tmp_path / "llama"), task="causal-lm", label_names=())
    encoder: Any = found.encoder
    assert encoder.start == (0,)
    assert encoder.end_id == 0
    with pytest.raises(UsageError, match="understudy generate"):
        Feed(
            Examples.of({"text": TEXTS}, own(len(TEXTS))),
            {"student": encoder, "teacher": encoder_of(tokenizer_of(TEXTS, entries=270))},
        )
