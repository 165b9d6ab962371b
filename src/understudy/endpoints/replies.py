"""What a server may put into a reply: checked, since a 200 says little about what is in it."""

from __future__ import annotations

import json
import re
from typing import Any

from understudy.endpoints.asked import Answer

_CONTEXT = re.compile(
    r"context.{0,20}(length|window|size)|maximum (context|input|sequence|model) length|max_model_len|"
    r"(prompt|input|request|messages?).{0,40}(too long|exceeds?)|too many (input )?tokens",
    re.I | re.S,
)


class NotAsked(Exception):
    """A reply that is not a chat completion."""


def is_about_context(code: str | None, message: str) -> bool:
    """Whether a refusal says that the prompt is longer than the model reads. Servers agree on no one code.

    >>> is_about_context(None, "This model's maximum context length is 8192 tokens"), is_about_context(None, "no")
    (True, False)
    """
    return code in ("context_length_exceeded", "string_above_max_length") or bool(_CONTEXT.search(message))


def read_reply(text: str, model: str) -> Answer:
    """The first choice of a chat completion. Empty content is an answer: the server was asked, and said nothing.

    Raises:
        NotAsked: no JSON, an error in its place, no choice, or a choice without a message.
    """
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError):
        raise NotAsked(f"not JSON, but {_start(text)}") from None
    if not isinstance(reply, dict):
        raise NotAsked(f"a {type(reply).__name__}")
    if reply.get("error"):
        error = reply["error"]
        raise NotAsked(f"an error: {error.get('message', error) if isinstance(error, dict) else error}")
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise NotAsked("no choices")
    message = choices[0].get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content", 0), str | None):
        raise NotAsked("a choice without a message of text")
    said, finish = message["content"], choices[0].get("finish_reason")
    declined = message.get("refusal")
    if not said and isinstance(declined, str) and declined:
        said, finish = declined, "refusal"
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    name = reply.get("model")
    return Answer(
        (said or "").encode("utf-8", "replace").decode("utf-8"),  # JSON may hold half a character, files may not
        finish if isinstance(finish, str) else "unknown",
        name if isinstance(name, str) and name else model,
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _top(choices[0].get("logprobs")),
    )


def _top(said: Any) -> tuple[tuple[str, float], ...]:
    """The likeliest first tokens, or nothing where the reply has them in no known form."""
    try:
        listed = [(one["token"], float(one["logprob"])) for one in said["content"][0]["top_logprobs"]]
    except (KeyError, IndexError, TypeError, ValueError):
        return ()
    return tuple(pair for pair in listed if isinstance(pair[0], str) and pair[1] <= 1e-3 and pair[1] == pair[1])


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _start(text: str) -> str:
    head = " ".join(text[:60].split())
    return f'"{head}"' if head else "nothing"
