"""The tests' own server says what its model says: true log-probabilities, counts, limits; faults where scripted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import openai
import pytest
import torch

from tests.generation.server import Server, fault, reply
from tests.generation.speaker import Speaker
from understudy.endpoints import Budget, Failure, Limits, Sampling, job
from understudy.endpoints.client import Endpoint
from understudy.errors import TeacherError


@pytest.fixture
def client(speaking: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=speaking.url, max_retries=0, timeout=5)


def test_log_probabilities_are_the_models_own(
    client: openai.OpenAI, speaker: Speaker, tiny_texts: Callable[..., Any]
) -> None:
    texts, labels = tiny_texts(240)
    assert [model.id for model in client.models.list()] == ["tiny"]
    right = 0
    for text, label in zip(texts[:20], labels[:20], strict=True):
        said = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": text}], max_tokens=4, logprobs=True, top_logprobs=4
        )
        ids = speaker.tokenizer.encode(f"{text} >")
        known = speaker.log_probabilities(ids)[-1]
        first = said.choices[0].logprobs.content[0]  # type: ignore[union-attr, index]
        for one in first.top_logprobs:
            wanted = known[speaker.tokenizer.convert_tokens_to_ids(one.token)]
            torch.testing.assert_close(torch.tensor(one.logprob), wanted, rtol=0, atol=1e-5)
        assert [one.logprob for one in first.top_logprobs] == sorted(known.tolist(), reverse=True)[:4]
        usage = said.usage
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (len(ids), len(said.choices[0].logprobs.content))  # type: ignore[union-attr, arg-type]
        right += said.choices[0].message.content == "ABCD"[label]
    assert right >= 18


def test_plain_completions_say_the_same(client: openai.OpenAI, tiny_texts: Callable[..., Any]) -> None:
    text = tiny_texts(240)[0][0]
    chat = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": text}], max_tokens=2, logprobs=True, top_logprobs=3
    )
    plain = client.completions.create(model="tiny", prompt=f"{text} >", max_tokens=2, logprobs=3)
    first = chat.choices[0].logprobs.content[0]  # type: ignore[union-attr, index]
    assert plain.choices[0].text == chat.choices[0].message.content
    assert plain.choices[0].logprobs.token_logprobs[0] == first.logprob  # type: ignore[union-attr, index]
    assert plain.choices[0].logprobs.top_logprobs[0] == {one.token: one.logprob for one in first.top_logprobs}  # type: ignore[union-attr, index]
    total = sum(math.exp(one.logprob) for one in first.top_logprobs)
    assert 0.5 < total <= 1 + 1e-6


def test_truncation_and_context_are_real(client: openai.OpenAI) -> None:
    def ask(text: str, most: int) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return client.chat.completions.create(model="tiny", messages=messages, max_tokens=most).choices[0]

    assert (ask("my card", 4).finish_reason, ask("my card", 1).finish_reason) == ("stop", "length")
    with pytest.raises(openai.BadRequestError, match="maximum context length is 24") as caught:
        ask("my card " * 12, 4)
    assert caught.value.code == "context_length_exceeded"


def test_faults_stand_before_true_answers(speaking: Server) -> None:
    script: list[Any] = [fault(429, "slow down"), fault(500, "oops"), (1.0, "late"), reply("x") | {"choices": []}, None]
    speaking.says = lambda prompt, times: script[times - 1]
    sampling, limits = Sampling(temperature=0, max_tokens=4), Limits(retries=2, timeout=0.5)
    heard: list[Any] = []
    for _ in range(3):
        one = Endpoint(speaking.url, "tiny", sampling, limits, Budget(limits, 4), key_env="OPENAI_API_KEY")
        asked = job(one.identity, [{"role": "user", "content": "my card"}], sampling, 0)
        try:
            for _, said in one.answers([asked], lambda job, answer: None):
                heard.append(said)
        except TeacherError:
            assert isinstance(heard[-1], Failure)
    assert len(speaking.asked) == 5  # the SDK tried again after 429 and 500
    assert "no reply within 0.5 s" in heard[0].why
    assert "without what was asked: no choices" in heard[1].why
    assert (heard[2].text, heard[2].finish_reason) == ("A", "stop")
