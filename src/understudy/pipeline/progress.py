"""How a run says what it is doing. The pipeline speaks; who listens (a bar, lines, nobody) is the caller's choice."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a stage of the pipeline may say while it works. Progress is for people: nothing may depend on it."""

    def stage(self, name: str) -> None:
        """A stage begins; the one before it is over."""

    def say(self, sentence: str) -> None:
        """One decision or finding, as a plain sentence."""

    def advance(self, done: int, total: int, **facts: float | str) -> None:
        """``done`` of ``total`` units of the current stage, with what was measured on the way (terms, agreement)."""


class Silent:
    """Progress that nobody listens to: the default of the Python API.

    >>> Silent().stage("train")
    """

    def stage(self, name: str) -> None:
        """Says nothing."""

    def say(self, sentence: str) -> None:
        """Says nothing."""

    def advance(self, done: int, total: int, **facts: float | str) -> None:
        """Says nothing."""
