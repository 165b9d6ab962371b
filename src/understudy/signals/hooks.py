"""What is set on a model while it answers, and comes off again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from understudy.errors import UsageError


class Ended(BaseException):
    """Raised inside a forward by its last needed module. Not an Exception: no model may take it for its own."""


@contextmanager
def eager_attention(model: nn.Module) -> Iterator[None]:
    """While it lasts, the transformers model in ``model`` computes attention in the way that gives its probabilities.

    Raises:
        UsageError: it cannot be switched.
    """
    hugging: Any = next((module for module in model.modules() if hasattr(module, "set_attn_implementation")), None)
    was = None if hugging is None else hugging.config._attn_implementation
    if was in ("eager", None):
        yield
        return
    try:
        hugging.set_attn_implementation("eager")
        if hugging.config._attn_implementation != "eager":
            raise UsageError(
                f'the attention of {type(hugging).__name__} ("{was}") cannot be made eager, and no other gives its '
                'probabilities; load it with attn_implementation="eager"'
            )
        yield
    finally:
        hugging.set_attn_implementation(was)


@contextmanager
def asked_for(speaker: nn.Module, entries: Iterable[str], spoken: list[Any]) -> Iterator[None]:
    """Lets a transformers model, wherever it is called from, give ``entries`` too; its outputs go to ``spoken``."""
    more = {f"output_{entry}": True for entry in entries}
    before = speaker.register_forward_pre_hook(lambda module, given, named: (given, named | more), with_kwargs=True)
    after = speaker.register_forward_hook(lambda module, given, output: spoken.append(output))
    try:
        yield
    finally:
        before.remove()
        after.remove()


@contextmanager
def ending(module: nn.Module, given: bool, ended: Ended) -> Iterator[None]:
    def end(*_: Any) -> None:
        raise ended

    handle = module.register_forward_pre_hook(end) if given else module.register_forward_hook(end)
    try:
        yield
    finally:
        handle.remove()
