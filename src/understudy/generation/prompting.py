"""Which messages a row becomes."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.errors import UsageError


@dataclass(frozen=True)
class Prompting:
    """Which messages a row becomes.

    Attributes:
        column: of the prompts; None: ``prompt``, else ``messages``.
        template: text with ``{column}`` in it, in place of a column of prompts.
        system: a system prompt before every chat.
    """

    column: str | None = None
    template: str | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        if self.column is not None and self.template is not None:
            raise UsageError("--prompt names a column and --template names its own: leave one out")
