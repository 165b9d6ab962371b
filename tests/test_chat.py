"""Conversations by a tokenizer's chat template: the ids of transformers, what the assistant says, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.decoders import END, decoder, saved, tokenizer_of
from understudy.data import Examples, load
from understudy.data.corpus import own
from understudy.data.feed import Feed
from understudy.encoding import CausalEncoder, RowError, load_encoder
from understudy.encoding.chat import ChatProblem, Template, conversation
from understudy.errors import DataError, TeacherError, UsageError
from understudy.objectives import hard_tokens
from understudy.records import Targets
from understudy.students import CausalLM, Student
from understudy.tasks import LAYOUTS
from understudy.teachers import open_teacher, score_rows

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BRACKETS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content | trim + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content | trim + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('only users and assistants') }}{% endif %}{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
FORGETFUL = (  # what was said before the last turn is shown otherwise
    "{% for m in messages %}{{ ('' if loop.last else 'old ') + m.role + ': ' + m.content + '\n' }}{% endfor %}"
)
CLOCK = "{{ strftime_now('%Y') if strftime_now is defined else 'today' }}" + PLAIN
WHO = [
    {"role": "user", "content": "who sees the sea?"},
    {"role": "assistant", "content": "the old man, é."},
    {"role": "user", "content": " and the dog?"},
    {"role": "assistant", "content": "the cat has a boat"},
]
SYSTEM = [{"role": "system", "content": "say the truth"}, *WHO[:2]]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    found = tokenizer_of([one["content"] for one in (*WHO, *SYSTEM)] * 3)
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return found


def encoder_of(tokenizer: Any, source: str, limit: int = 256) -> CausalEncoder:
    marks = [END, "<|im_start|>", "<|im_end|>"]
    template = Template(source, {"bos_token": END, "eos_token": END}, marks)
    inner, ids = tokenizer.backend_tokenizer, {"start": [0], "end_id": 0, "padding_id": 0}
    return CausalEncoder(inner, limit=limit, fields=("messages",), template=template, **ids)


def said(encoder: CausalEncoder, features: Any, row: int = 0) -> str:
    """The text of what counts."""
    return str(encoder.tokenizer.decode(features.ids[row][features.said[row]].tolist(), skip_special_tokens=False))


@pytest.mark.parametrize("source", [CHATML, BRACKETS, PLAIN])
def test_ids_are_those_of_transformers(source: str, tokenizer: Any) -> None:
    features = encoder_of(tokenizer, source).encode({"messages": [WHO, json.dumps(WHO)]})
    wanted = tokenizer.apply_chat_template(WHO, chat_template=source)["input_ids"]
    assert features.ids[0].tolist() == features.ids[1].tolist() == list(wanted)
    assert not features.cut.any()


@pytest.mark.parametrize("talk", [WHO, SYSTEM])
def test_what_counts_is_what_a_template_marks(talk: list[dict[str, str]], tokenizer: Any) -> None:
    """Found by rendering beginnings; transformers has it from marks in this template, which are not looked at here."""
    encoder = encoder_of(tokenizer, CHATML)
    features = encoder.encode({"messages": [talk]})
    marked = tokenizer.apply_chat_template(talk, chat_template=CHATML, return_assistant_tokens_mask=True)
    assert features.said[0].tolist() == np.flatnonzero(marked["assistant_masks"]).tolist()
    answers = [one["content"] for one in talk if one["role"] == "assistant"]
    assert said(encoder, features) == "".join(f"{one}<|im_end|>" for one in answers)
    assert features.size.tolist() == [sum(len(one.encode()) for one in answers)]


@pytest.mark.parametrize("source", [CHATML, BRACKETS, PLAIN])
def test_a_turn_that_answers_nobody_is_read_and_not_learnt(source: str, tokenizer: Any) -> None:
    """A greeting: what a template puts before it (a system prompt of its own, a header) is nothing that was said."""
    encoder, greeting = encoder_of(tokenizer, source), [{"role": "assistant", "content": "say: the boat"}]
    features = encoder.encode({"messages": [[*greeting, *WHO], WHO]})
    assert said(encoder, features) == said(encoder, features, 1)
    assert len(features.ids[0]) > len(features.ids[1])
    assert features.size[0] == features.size[1]


def test_a_turn_that_is_written_ends_where_the_template_ends_one(tokenizer: Any) -> None:
    mark = tokenizer.convert_tokens_to_ids("<|im_end|>")
    found = [encoder_of(tokenizer, source).end_ids for source in (CHATML, BRACKETS, PLAIN, FORGETFUL)]
    assert found == [(0, mark), (0,), (0,), (0,)]


def test_turns_without_marks_of_their_own(tokenizer: Any) -> None:
    encoder = encoder_of(tokenizer, BRACKETS)
    assert said(encoder, encoder.encode({"messages": [WHO]})) == f" the old man, é. {END} the cat has a boat {END}"
    encoder = encoder_of(tokenizer, PLAIN)  # no prompt before an answer, so the name is said; a new line ends it
    features = encoder.encode({"messages": [WHO]})
    assert said(encoder, features) == "assistant: the old man, é.\nassistant: the cat has a boat\n"
    assert features.size.tolist() == [len(said(encoder, features).encode())]


def test_the_loss_is_that_of_transformers_with_other_turns_left_out(tokenizer: Any) -> None:
    encoder, model = encoder_of(tokenizer, CHATML), decoder("llama", len(tokenizer))
    model.config.max_position_embeddings = 256
    talks = [json.dumps(one) for one in (WHO, SYSTEM)]
    feed = Feed(Examples.of({"messages": talks}, own(2)), {"student": encoder, "teacher": encoder})
    batch, term, student = feed.batch(np.arange(2)), hard_tokens(), Student(CausalLM(model))
    student.bind(term.needs.learner)
    found = term.total(student(batch.inputs["student"]).of("student"), Targets({}), batch) / term.count(batch)
    ids, mask = (batch.inputs["student"][name] for name in ("input_ids", "attention_mask"))
    labels = torch.full_like(ids, -100)
    for row, talk in enumerate((WHO, SYSTEM)):
        marked = tokenizer.apply_chat_template(talk, chat_template=CHATML, return_assistant_tokens_mask=True)
        there = torch.tensor(marked["assistant_masks"]).bool()
        labels[row, : len(there)][there] = torch.tensor(marked["input_ids"])[there]
    wanted = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    features = encoder.encode({"messages": talks})
    numbers = score_rows(CausalLM(model), encoder, {"messages": talks})
    assert numbers[:, 0].tolist() == features.said.lengths.tolist()
    assert numbers[:, 1].sum() / numbers[:, 0].sum() == pytest.approx(float(wanted.detach()), rel=1e-4)
    assert encoder.counts(features).sum() == features.said.lengths.sum()
    assert encoder.counts(features)[tokenizer.convert_tokens_to_ids("<|im_end|>")] == 3


def test_what_is_too_long_loses_its_end_or_else_its_beginning(tokenizer: Any) -> None:
    whole = encoder_of(tokenizer, CHATML).encode({"messages": [WHO]})
    limit = int(whole.said[0][3]) + 1
    short = encoder_of(tokenizer, CHATML, limit)
    features = short.encode({"messages": [WHO]})
    assert features.cut.tolist() == [True]
    assert features.ids[0].tolist() == whole.ids[0][:limit].tolist()
    assert features.said[0].tolist() == whole.said[0][:4].tolist()
    assert features.size.tolist() == [len(said(short, features).encode())]
    asked = [{"role": "user", "content": "the sea " * 40}, WHO[1]]
    features = short.encode({"messages": [asked]})
    assert features.cut.tolist() == [True]
    assert len(features.ids[0]) == limit
    assert said(short, features) == "the old man, é.<|im_end|>"
    assert features.size.tolist() == [len("the old man, é.".encode())]


def test_an_encoder_is_read_back_and_follows_its_template(tokenizer: Any, tmp_path: Path) -> None:
    encoder = encoder_of(tokenizer, CHATML)
    entry = json.loads(json.dumps(encoder.save(tmp_path)))
    again: Any = load_encoder(tmp_path, entry)
    assert again.fingerprint == encoder.fingerprint != encoder_of(tokenizer, PLAIN).fingerprint
    assert (
        again.with_limit(99).encode({"messages": [WHO]}).ids[0].tolist()
        == encoder.encode({"messages": [WHO]}).ids[0].tolist()
    )
    for fields, template in ((("messages",), None), (("text",), encoder.template)):
        with pytest.raises(UsageError, match="chat template"):
            CausalEncoder(tokenizer.backend_tokenizer, limit=9, fields=fields, template=template)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "got nothing"),
        ([], "got an empty list"),
        (3, "got int"),
        ("who?", "a text that is no JSON"),
        (["who?"], "message 1 wants role and content, it has: str"),
        ([{"role": "user", "text": "a"}], "message 1 wants role and content, it has: role, text"),
        ([*WHO[:2], {"role": "tool", "content": "a"}], "message 3 is of the role 'tool': system, user, assistant"),
        ([WHO[0], {"role": "assistant", "content": None}], "message 2 wants a text as its content, got nothing"),
        ([WHO[0], {"role": "assistant", "content": " "}], "message 2: the assistant says nothing"),
        ([WHO[0]], "nothing is said by the assistant"),
        ([WHO[1]], "the assistant answers nobody"),
        (WHO[:3], "the last message is the user's"),
    ],
)
def test_what_is_no_conversation_is_one_line(value: Any, says: str, tokenizer: Any) -> None:
    with pytest.raises(ChatProblem) as problem:
        conversation(value)
    assert says in str(problem.value)
    with pytest.raises(RowError) as error:
        encoder_of(tokenizer, CHATML).encode({"messages": [WHO, value]})
    assert str(error.value).startswith('row 2, column "messages": ')
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "talk", "says"),
    [
        (FORGETFUL, WHO, "the first 2 messages otherwise once more follow"),
        (BRACKETS, SYSTEM, "cannot show this conversation: only users and assistants"),
        ("{% for %}", WHO, "is not Jinja"),
        (CLOCK.partition(" if")[0] + "}}", WHO, "'strftime_now' is undefined"),
        ("{{ ''.__class__.__mro__ }}", WHO, "cannot show"),
    ],
)
def test_a_template_that_cannot_is_one_line(source: str, talk: Any, says: str, tokenizer: Any) -> None:
    with pytest.raises(RowError) as error:
        encoder_of(tokenizer, source).encode({"messages": [talk]})
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_without_jinja_it_says_what_is_missing(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match="pip install jinja2"):
        encoder_of(tokenizer, CHATML).encode({"messages": [WHO]})


def test_a_column_of_conversations_is_read(tmp_path: Path) -> None:
    talks = [[*WHO[:2], {"role": "user", "content": f"count to {i}"}, WHO[3]] for i in range(40)]
    lines = [json.dumps({"messages": talk, "source": "x"}) for talk in [*talks, talks[0]]]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    task, splits = load(tmp_path, layouts=LAYOUTS)
    assert task == "causal-lm"
    assert splits.fields == ("messages",)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 40
    assert json.loads(splits.train.inputs["messages"][0]) in talks
    (tmp_path / "train.jsonl").write_text("\n".join(line.replace("messages", "talk") for line in lines))
    named = load(tmp_path, task="causal-lm", text="talk", layouts=LAYOUTS)[1]
    assert named.train.keys == splits.train.keys  # what they are called is no part of what they are
    (tmp_path / "train.jsonl").write_text("\n".join([*lines, json.dumps({"messages": WHO[:1], "source": "x"})]))
    with pytest.raises(DataError, match='row 42: column "messages": nothing is said by the assistant'):
        load(tmp_path, layouts=LAYOUTS)


@pytest.mark.parametrize("odd", [{"name": "bob"}, {"tool_calls": [{"id": 1}]}, {"weight": 0}])
def test_keys_that_only_some_messages_have_are_let_be(odd: dict[str, Any], tmp_path: Path) -> None:
    """As logs of an endpoint have them: the reader of files then keeps messages as texts of JSON."""
    said = [[{"role": "user", "content": f"who sees {number}?"}, WHO[1]] for number in range(60)]
    chats = [*said[:30], [WHO[0] | odd, WHO[1]], *said[30:]]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    _, splits = load(path, task="causal-lm", layouts=LAYOUTS)
    rows = [row for part in (splits.train, splits.validation, splits.test) for row in part.inputs["messages"]]
    assert sorted(map(str, map(conversation, rows))) == sorted(map(str, map(conversation, chats)))


def test_a_teacher_brings_its_own_template(tokenizer: Any, tmp_path: Path) -> None:
    more: Any = {"task": "causal-lm", "label_names": (), "fields": ("messages",)}
    with pytest.raises(TeacherError, match="has no chat template, which the column messages needs"):
        open_teacher(saved("gpt2", tokenizer, tmp_path / "bare", layers=1), **more)
    for source, notes in ((CHATML, 0), (CLOCK, 1)):
        tokenizer.chat_template = source
        found = open_teacher(saved("gpt2", tokenizer, tmp_path / str(notes), layers=1), **more)
        assert sum("what day it is" in note for note in found.notes) == notes
        encoder: Any = found.encoder
        assert encoder.template.source == source
        assert encoder.template.tokens["eos_token"] == END
        assert "<|im_end|>" in encoder.template.ends
    tokenizer.chat_template = FORGETFUL
    with pytest.raises(TeacherError, match="fails on two messages"):
        open_teacher(saved("gpt2", tokenizer, tmp_path / "odd", layers=1), **more)
    tokenizer.chat_template = None
