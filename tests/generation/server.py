"""What a test's OpenAI-compatible server says, and what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from tests.generation.speaker import Speaker

NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
KEY = "sk-secret-of-the-tests"


def reply(text: str | None, *, finish: str = "stop", read: int = 10, written: int = 5, **more: Any) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": text, **more}
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny-1",
        "choices": [choice],
        "usage": usage,
    }


def fault(status: int, message: str, code: str | None = None) -> Response:
    """An error as OpenAI writes it; the SDK is told not to wait long before it tries again."""
    body = {"error": {"message": message, "type": "test", "param": None, "code": code}}
    return JSONResponse(body, status_code=status, headers={"retry-after-ms": "1"})


@dataclass
class Server:
    """``says(prompt, time it is asked)`` gives a text, a reply, a response, or the seconds to wait before one.

    None is what the ``speaker`` says, a real model: so a script of faults may stand before true answers.
    """

    url: str = ""
    speaker: Speaker | None = None
    says: Callable[[str, int], Any] = lambda prompt, times: f"It is {prompt} indeed."
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    accounts: set[str] = field(default_factory=set)
    models: tuple[str, ...] = ("tiny",)
    key: str | None = None
    at_once: int = 0
    most_at_once: int = 0

    async def chat(self, request: Request) -> Response:
        body = json.loads(await request.body())
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.keys.add(key)
        told = ("openai-organization", "openai-project")
        self.accounts |= {request.headers[name] for name in told if name in request.headers}
        if self.key is not None and key != self.key:
            return fault(401, f"Incorrect API key provided: {key}.", "invalid_api_key")
        if body["model"] not in self.models:
            return fault(404, "no such model", "model_not_found")
        self.asked.append(body)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            said = self.says(self.prompts[-1], sum(_same(one, body) for one in self.asked))
            if isinstance(said, tuple):
                await asyncio.sleep(said[0])
                said = said[1]
        finally:
            self.at_once -= 1
        if said is None and self.speaker is not None:
            said = self.speaker.chat(body) if "messages" in body else self.speaker.complete(body)
        if isinstance(said, Response):
            return said
        return JSONResponse(reply(said) if isinstance(said, str) else said)

    async def list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    @property
    def prompts(self) -> list[str]:
        """What was asked, in order."""
        return [body["messages"][-1]["content"] if "messages" in body else body["prompt"] for body in self.asked]


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in ("messages", "prompt"))
