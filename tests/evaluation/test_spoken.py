"""Token by token beside a teacher, and what is written: against transformers, and by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from tests.decoders import decoder, tokenizer_of

from understudy.encoding import CausalEncoder
from understudy.errors import DataError, UsageError
from understudy.evaluation.spoken import beside, estimates, exact_match, final_number, monitors, same_answer, written
from understudy.statistics.language import BESIDE
from understudy.students import CausalLM

TEXTS = [f"the {a} {b} the {c}" for a in ("cat", "dog", "old man") for b in ("sees", "has") for c in ("sea", "boat é")]
ROWS = {"prompt": ["who?", "what is it called, then?", "why"], "completion": [" the cat", " a boat, and a sea", " no"]}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tokenizer_of(TEXTS)


def encoder_of(tokenizer: Any, **more: Any) -> CausalEncoder:
    dials = {"limit": 40, "start": [0], "end_id": 0, "fields": ("prompt", "completion"), **more}
    return CausalEncoder(tokenizer.backend_tokenizer, **dials)


def test_sums_are_those_of_transformers(tokenizer: Any) -> None:
    """Each row alone, whole texts, softmax by hand; three heads have padding rows, which do not exist."""
    encoder = encoder_of(tokenizer)
    teacher = decoder("gpt2", len(tokenizer) + 3, seed=1, layers=1)
    models = {"one": decoder("gpt2", len(tokenizer), layers=1), "same": teacher}
    found = beside(CausalLM(teacher), {name: CausalLM(one) for name, one in models.items()}, encoder, ROWS)
    for row, (prompt, completion) in enumerate(zip(*ROWS.values(), strict=True)):
        asked, said = (tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, completion))
        ids = torch.tensor([[0, *asked, *said, 0]])
        with torch.no_grad():
            ours, theirs = (m(ids).logits[0, len(asked) : -1, : len(tokenizer)] for m in (models["one"], teacher))
        p, q = theirs.double().softmax(-1), ours.double().softmax(-1)
        kl = (p * (p / q).log()).sum()
        same = (p.argmax(-1) == q.argmax(-1)).sum()
        assert found["one"][row] == pytest.approx([len(said) + 1, float(kl), float(same)], rel=1e-4)
        assert found["same"][row] == pytest.approx([len(said) + 1, 0.0, len(said) + 1], abs=1e-5)
    alone = beside(CausalLM(teacher), {"one": CausalLM(models["one"])}, encoder, ROWS, batch_size=1)["one"]
    np.testing.assert_allclose(alone, found["one"], rtol=1e-4)
    said = estimates(found["one"])
    tokens, kl, same = found["one"].sum(0)
    assert said["token_kl"]["value"] == pytest.approx(kl / tokens)
    assert said["token_agreement"]["value"] == pytest.approx(same / tokens)
    assert said["token_kl"]["low"] < said["token_kl"]["value"] < said["token_kl"]["high"]
    with pytest.raises(DataError, match="three numbers"):
        BESIDE[0].function(np.zeros((3, 1)), found["one"][:, :2])


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_is_written_is_transformers_own_greedy_text(kind: str, tokenizer: Any) -> None:
    encoder, model = encoder_of(tokenizer), decoder(kind, len(tokenizer), layers=1)
    model.train()
    found = written(CausalLM(model), encoder, ROWS, longest=7, batch_size=2)
    assert model.training
    model.eval()
    for prompt, mine in zip(ROWS["prompt"], found, strict=True):
        ids = torch.tensor([[0, *tokenizer(prompt, add_special_tokens=False).input_ids]])
        whole = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=7, do_sample=False, pad_token_id=9
        )
        said = whole[0, ids.shape[1] :].tolist()
        assert mine == said[: said.index(0) + 1 if 0 in said else None]
    with pytest.raises(UsageError, match="a transformers decoder"):
        written(torch.nn.Linear(1, 1), encoder, ROWS, longest=7)


def test_lengths_ends_and_repetition() -> None:
    said = monitors([[1, 2, 3, 4, 5, 0], [7, 7, 7, 7, 7, 7], [0]], 0)
    assert said == {"tokens": pytest.approx(11 / 3), "ended": pytest.approx(2 / 3), "repeated": 2 / 5}
    assert monitors([[1, 2, 0]], 0)["repeated"] is None
    assert monitors([[1, 2, 3]], None)["ended"] == 0.0


@pytest.mark.parametrize(
    ("gold", "said", "same"),
    [
        ("2 + 3 = 5\n#### 5", "it is\n#### 5", True),
        ("#### 1,200", "#### $1200.00", True),
        ("#### -3", "#### 3", False),
        ("#### 5", "the answer is 5", False),  # the form is part of the answer
        ("#### 5", "#### five", False),
        ("#### 5", "#### 4\n#### 5.", True),
        ("#### five", " #### Five.", True),  # no number: a text like any other
        ("Intro\n#### Method\nWe did it.", "Intro\n#### Method\nWe did it.", True),  # and a heading is none
        ("#### 1. Salt\nAdd salt", "#### 1. Pepper\nNo", False),
        ("The cat.", " the  CAT", True),
        ("a cat", "the cat", False),
        ("", "", True),
    ],
)
def test_answers_are_compared_as_numbers_and_others_as_text(gold: str, said: str, same: bool) -> None:
    assert same_answer(gold, said) is same


def test_a_share_has_wilsons_interval() -> None:
    assert final_number("#### 12, and more") == Decimal(12)
    assert final_number("12") is None
    found = exact_match(["a", "b", "c", "d"], ["a", "b", "c", "x"])
    assert found.value == 0.75
    assert 0.2 < found.low < 0.75 < found.high < 1
