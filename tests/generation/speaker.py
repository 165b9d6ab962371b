"""A real tiny causal language model behind the tests' server: its words, log-probabilities, counts, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from starlette.responses import Response

from tests.generation.server import fault, reply


class Speaker:
    """``chat`` and ``complete`` answer as OpenAI's two addresses do, by what the model says at temperature 0.

    A chat is rendered by the tokenizer's own template. What is asked for is given: ``max_tokens`` (``finish_reason`` is
    ``length`` where they ran out), ``logprobs`` of every written token and its ``top_logprobs``.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.positions = int(self.model.config.n_positions)

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any] | Response:
        """A reply of /v1/chat/completions."""
        text = self.tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        made = self._written(text, body, tops=int(body.get("top_logprobs", 0)), wanted=bool(body.get("logprobs")))
        if isinstance(made, Response):
            return made
        read, ids, said, finish = made
        content = [self._of_chat(one) for one in said]
        answer = reply(self.tokenizer.decode(ids), finish=finish, read=read, written=len(said))
        answer["choices"][0]["logprobs"] = {"content": content} if body.get("logprobs") else None
        return answer

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any] | Response:
        """A reply of /v1/completions, whose ``logprobs`` is the number of likeliest tokens."""
        made = self._written(body["prompt"], body, tops=int(body.get("logprobs") or 0), wanted="logprobs" in body)
        if isinstance(made, Response):
            return made
        read, ids, said, finish = made
        logprobs = {
            "tokens": [one["token"] for one in said],
            "token_logprobs": [one["logprob"] for one in said],
            "top_logprobs": [dict(one["top"]) for one in said],
        }
        return {
            "id": "x", "object": "text_completion", "created": 0, "model": "tiny-1",
            "choices": [{"index": 0, "text": self.tokenizer.decode(ids), "finish_reason": finish,
                         "logprobs": logprobs if "logprobs" in body else None}],
            "usage": {"prompt_tokens": read, "completion_tokens": len(said), "total_tokens": read + len(said)},
        }  # fmt: skip

    def log_probabilities(self, ids: Sequence[int]) -> torch.Tensor:
        """Of the next token after each, fp32 [len(ids), V]."""
        with torch.no_grad():
            return self.model(torch.tensor([list(ids)])).logits[0].float().log_softmax(-1)

    def _written(
        self, text: str, body: Mapping[str, Any], *, tops: int, wanted: bool
    ) -> Response | tuple[int, list[int], list[dict[str, Any]], str]:
        """Tokens read, ids of the answer, what was said of each of its tokens, and why it ended."""
        read = list(self.tokenizer.encode(text))
        most = int(body.get("max_tokens") or 16)
        if len(read) + most > self.positions:
            asked = f"{len(read) + most} are asked for"
            said = f"This model's maximum context length is {self.positions} tokens, and {asked}"
            return fault(400, said, "context_length_exceeded")
        ids, made = list(read), []
        while len(made) < most:
            known = self.log_probabilities(ids)[-1]
            ids.append(int(known.argmax()))
            best = known.topk(tops) if tops else None
            words = [] if best is None else map(self._word, best.indices.tolist())
            top = [] if best is None else list(zip(words, best.values.tolist(), strict=True))
            made.append({"token": self._word(ids[-1]), "logprob": float(known[ids[-1]]), "top": top})
            if ids[-1] == self.tokenizer.eos_token_id:
                return len(read), ids[len(read) : -1], made, "stop"
        return len(read), ids[len(read) :], made, "length"

    def _word(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))

    @staticmethod
    def _of_chat(one: Mapping[str, Any]) -> dict[str, Any]:
        top = [{"token": token, "logprob": value, "bytes": None} for token, value in one["top"]]
        return {"token": one["token"], "logprob": one["logprob"], "bytes": None, "top_logprobs": top}
