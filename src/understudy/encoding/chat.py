"""Conversations: what they must be, and as what text a tokenizer's chat template shows them. No torch, no transformers.

A template is a program in Jinja's language that comes with a tokenizer. It runs in Jinja's sandbox, with the helpers
that transformers gives it, so that what is rendered here is what ``apply_chat_template`` renders. What day it is nobody
is told: a text that changes with the clock has no stored targets and no second half of a run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

from understudy.errors import UsageError
from understudy.extras import require

ROLES = ("system", "user", "assistant")
Message = dict[str, str]


class ChatProblem(ValueError):
    """What is wrong with a conversation, or with what a template makes of it, in words that follow a row's name."""


def conversation(value: Any) -> list[Message]:
    """The messages of a conversation: a list of objects with ``role`` and ``content``, or the same as JSON.

    >>> conversation('[{"role": "user", "content": "who?"}, {"role": "assistant", "content": "Ann."}]')[1]
    {'role': 'assistant', 'content': 'Ann.'}

    Raises:
        ChatProblem: no such list, a role that is not known, no text, nothing that the assistant says, or a last turn
            of somebody else.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ChatProblem(f"wanted a list of messages, got a text that is no JSON ({_short(value)})") from None
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not len(value):
        got = (
            "nothing" if value is None or value != value else f"an empty {type(value).__name__}" if value == [] else ""
        )
        raise ChatProblem(f"wanted a list of messages with role and content, got {got or type(value).__name__}")
    found = [_message(place, one) for place, one in enumerate(value, start=1)]
    if not any(one["role"] == "assistant" for one in found):
        raise ChatProblem("nothing is said by the assistant, so nothing can be learnt: take the row out")
    if len(found) == 1:
        raise ChatProblem("the assistant answers nobody, so nothing can be learnt: take the row out")
    if found[-1]["role"] != "assistant":
        raise ChatProblem(
            f"the last message is the {found[-1]['role']}'s, wanted the assistant's: answer it, or take it out"
        )
    return found


def canonical(messages: Sequence[Message]) -> str:
    """Messages as one line of JSON: how rows in memory have them, and what their content keys are of."""
    return json.dumps([dict(one) for one in messages], ensure_ascii=False)


class Template:
    """A chat template and the special tokens that it may name.

    Args:
        source: Jinja.
        tokens: ``bos_token`` -> ``<s>`` and so on.
        ends: special tokens that may end a turn: white space behind them is the template's, and is never said.
    """

    def __init__(self, source: str, tokens: Mapping[str, str], ends: Sequence[str] = ()) -> None:
        self.source, self.tokens, self.ends = source, dict(tokens), tuple(ends)

    @property
    def settings(self) -> dict[str, Any]:
        """For a manifest: what makes it again."""
        return {"source": self.source, "tokens": dict(sorted(self.tokens.items())), "ends": sorted(self.ends)}

    def render(self, messages: Sequence[Message], *, ask: bool = False) -> str:
        """The text of a conversation.

        Args:
            messages: all of it.
            ask: with what stands before an answer behind it (``add_generation_prompt``).

        Raises:
            ChatProblem: the template says that it cannot.
            UsageError: no jinja2.
        """
        compiled = self._compiled
        from jinja2.exceptions import TemplateError

        given = {"tools": None, "documents": None, "add_generation_prompt": ask, **self.tokens}
        try:
            said: str = compiled.render(messages=[dict(one) for one in messages], **given)
        except (TemplateError, TypeError, ValueError, KeyError, ArithmeticError) as error:
            reason = " ".join(str(error).split())
            raise ChatProblem(f"the chat template cannot show this conversation: {reason}") from None
        return said

    def spans(self, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int, int]]]:
        """The text of a conversation, and of each turn of the assistant: where it begins, ends, and its content ends.

        A turn begins behind what a template puts before an answer and ends with what it puts behind one: both found by
        rendering the conversation up to there, so the template needs no marks of its own. One that begins the
        conversation is none of them: nobody asked, and what a template puts before it cannot be told from it.

        Raises:
            ChatProblem: a template that shows the beginning of a conversation otherwise once more follows.
        """
        whole = self.render(messages)
        found = []
        for place, one in enumerate(messages):
            if one["role"] != "assistant" or not place:
                continue
            before = self.render(messages[:place], ask=True)
            after = self.render(messages[: place + 1])
            if not (after.startswith(before) and whole.startswith(after) and len(after) > len(before)):
                raise ChatProblem(
                    f"the chat template shows the first {place + 1} messages otherwise once more follow, so what the "
                    "assistant says cannot be told apart: render the rows yourself, as prompt and completion"
                )
            found.append(self._span(whole, len(before), len(after)))
        return whole, found

    @cached_property
    def mark(self) -> str:
        """What ends a turn of the assistant; "" where that is no special token."""
        try:
            whole, ((_, stop, said),) = self.spans(
                [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            )
        except ChatProblem:
            return ""
        return whole[said:stop]

    def _span(self, whole: str, start: int, stop: int) -> tuple[int, int, int]:
        text = whole[start:stop]
        bare = text.rstrip()
        mark = max((end for end in self.ends if bare.endswith(end)), key=len, default="")
        if not mark:
            return start, stop, stop
        return start, start + len(bare), start + len(bare) - len(mark)

    @cached_property
    def _compiled(self) -> Any:
        why = "rendering a conversation by its chat template"
        require("jinja2", package="jinja2", why=why)
        if tuple(map(int, re.findall(r"\d+", version("jinja2"))[:3])) < (3, 1, 6):
            raise UsageError(
                f"{why} needs jinja2 3.1.6, older ones let a template out of its box, got {version('jinja2')}"
            )
        from jinja2 import TemplateError, TemplateSyntaxError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise TemplateError(message)

        def dict_of(*entries: Any, **named: Any) -> dict[str, Any]:
            return dict(*entries, **named)

        box = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_generation(), loopcontrols]
        )
        box.filters["tojson"] = _tojson
        box.globals |= {"raise_exception": refuse, "dict": dict_of, "namespace": _namespace()}
        try:
            return box.from_string(self.source)
        except TemplateSyntaxError as error:
            raise ChatProblem(f"the chat template is not Jinja: {' '.join(str(error).split())}") from None


def _generation() -> Any:
    """``{% generation %}`` marks what an assistant says, in some templates; here it is only let through."""
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    return Generation


def _namespace() -> Any:
    """Jinja's, without the names that lead into Python."""
    from jinja2.exceptions import SecurityError
    from jinja2.utils import Namespace

    def checked(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace keeps no name that begins with _, got {name}")

    class Space(Namespace):
        def __init__(*args: Any, **named: Any) -> None:
            for name in dict(*args[1:], **named):
                checked(name)
            Namespace.__init__(*args, **named)

        def __setitem__(self, name: str, value: Any) -> None:
            checked(name)
            super().__setitem__(name, value)

    return Space


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _message(place: int, value: Any) -> Message:
    if not isinstance(value, Mapping) or not {"role", "content"} <= set(value):
        there = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise ChatProblem(f"message {place} wants role and content, it has: {there or 'nothing'}")
    role, content = value["role"], value["content"]
    if role not in ROLES:
        raise ChatProblem(f"message {place} is of the role {_short(role)}: {', '.join(ROLES)} are known")
    if not isinstance(content, str):
        got = "nothing" if content is None else f"{type(content).__name__}"
        raise ChatProblem(f"message {place} wants a text as its content, got {got}")
    if role == "assistant" and not content.strip():
        raise ChatProblem(f"message {place}: the assistant says nothing")
    return {"role": role, "content": content}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
