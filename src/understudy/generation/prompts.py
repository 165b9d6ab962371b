"""A file of prompts as chats: a column of texts, a column of messages, or a template over columns."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.data.problems import need_column, texts
from understudy.data.tables import Table, read_file
from understudy.endpoints.asked import Message
from understudy.errors import DataError
from understudy.generation.prompting import Prompting

_SLOT = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_CHATS = "messages"
_ROLES = ("system", "developer", "user", "assistant")


@dataclass(frozen=True, eq=False)
class Prompts:
    """Rows to ask about, in the order of the file.

    Attributes:
        source: the file's name.
        chats: one list of messages a row, the system prompt included.
        prompts: what stands in the column ``prompt`` of the output: the text, or the last message of a chat.
        kept: the columns of the input, as they are.
    """

    source: str
    chats: list[list[Message]]
    prompts: list[str]
    kept: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.chats)


def read_prompts(path: Path, how: Prompting) -> Prompts:
    """The prompts of a .csv, .jsonl or .parquet file.

    Raises:
        DataError: no such file or column, an empty prompt (its row is named), or messages that are no chat.
    """
    if not path.is_file():
        raise DataError(f"no file {path}: --prompts takes a .csv, .jsonl or .parquet file")
    slots = [] if how.template is None else [name for name in _SLOT.findall(how.template) if name]
    table = read_file(path, as_text=(how.column or "prompt", *slots))
    if how.template is not None:
        prompts = _filled(table, how.template, slots)
    else:
        column = how.column or (_CHATS if _CHATS in table.columns and "prompt" not in table.columns else "prompt")
        need_column(table, column, "prompt")
        values = table.values(column)
        if column == _CHATS:  # a CSV file has no lists: there each is a text of JSON
            values = [_unfolded(value) for value in values]
        if any(isinstance(value, list) for value in values):
            chats = [_chat(value, f"{table.source}, row {row:,}", how) for row, value in enumerate(values, start=1)]
            last = [chat[-1]["content"] for chat in chats]
            return Prompts(table.source, chats, last, _kept(table))
        prompts = texts(table, column)
    return Prompts(table.source, [_opened(how, [_user(text)]) for text in prompts], prompts, _kept(table))


def _kept(table: Table) -> dict[str, list[Any]]:
    return {name: table.values(name) for name in table.columns}


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _opened(how: Prompting, chat: list[Message]) -> list[Message]:
    return chat if how.system is None else [{"role": "system", "content": how.system}, *chat]


def _filled(table: Table, template: str, slots: Sequence[str]) -> list[str]:
    """The template with each row's texts in its slots; ``{{`` is a brace."""
    if not slots:
        raise DataError(f'the template "{template}" names no column: write one in braces, such as {{text}}')
    for name in slots:
        need_column(table, name, "template")
    columns = {name: texts(table, name) for name in dict.fromkeys(slots)}

    def fill(row: int) -> str:
        return _SLOT.sub(lambda slot: columns[slot[1]][row] if slot[1] else slot[0][0], template)

    return [fill(row) for row in range(len(table))]


def _unfolded(value: Any) -> Any:
    """A text that is a list in JSON as that list."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return found if isinstance(found, list) else value


def _chat(value: Any, where: str, how: Prompting) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise DataError(f'{where}: wanted a list of messages such as [{{"role": "user", "content": "Hello"}}]')
    chat: list[Message] = []
    for message in value:
        role, content = (message.get(name) if isinstance(message, dict) else None for name in ("role", "content"))
        if role not in _ROLES or not isinstance(content, str):
            raise DataError(f"{where}: a message has a role ({', '.join(_ROLES)}) and a content that is a text")
        if not content.strip():
            raise DataError(f"{where}: the {role} message is empty")
        chat.append({"role": role, "content": content})
    if chat[-1]["role"] != "user":
        raise DataError(f"{where}: the last message is the {chat[-1]['role']}'s, so there is nothing to answer")
    if how.system is not None and chat[0]["role"] in ("system", "developer"):
        raise DataError(f"{where} has a system prompt of its own: leave --system out")
    return _opened(how, chat)
