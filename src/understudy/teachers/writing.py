"""A decoder that writes: many rows at once, each token chosen of logits by whoever asks.

Not ``generate`` of transformers: that takes what a folder's own generation_config says (a penalty of repetition, say)
for granted, and what is wanted here is the distribution that the model itself has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.errors import UsageError
from understudy.files import content_hash
from understudy.students import Student
from understudy.teachers.label import asked

NOWHERE = -1
Choose = Callable[[Tensor, int], Tensor]
"""(logits [N, V] of the next tokens, how many were written before) -> the tokens, int64 [N]."""


def speaker_of(model: nn.Module, who: str) -> Any:
    """The transformers decoder inside a student or a teacher: what gives logits of every position, and keeps a cache.

    Raises:
        UsageError: a module that is none.
    """
    inner: Any = model.module if isinstance(model, Student) else model
    found = getattr(inner, "model", inner)
    if not hasattr(found, "get_output_embeddings") or "past_key_values" not in _taken(found):
        raise UsageError(f"{who} is to write, which a transformers decoder (...ForCausalLM) can; got {_name(inner)}")
    return found


@torch.no_grad()
def write(
    speaker: nn.Module, ids: Tensor, lengths: Tensor, *, room: Tensor, choose: Choose, ends: Sequence[int]
) -> Tensor:
    """What a decoder writes after each prompt, up to its end or as long as there is room.

    It runs in eval mode and without gradients, and is left in the mode that it had; nothing is drawn but by ``choose``.

    Args:
        speaker: a transformers decoder (`speaker_of`).
        ids: int64 [N, L], prompts, filled up on the right.
        lengths: int64 [N], of the prompts, at least 1.
        room: int64 [N], the most tokens of each row, at least 1; prompt and room must fit its positions.
        choose: the next tokens.
        ends: the tokens that end a row, each of which is written too.

    Returns:
        int64 [N, T], -1 behind a row's last token.
    """
    rows, width = ids.shape
    place = torch.arange(width, device=ids.device) - (width - lengths)[:, None]  # prompts end in one column
    fed, mask = ids.gather(1, place.clamp(min=0)), (place >= 0).long()
    more = {"logits_to_keep": 1} if "logits_to_keep" in _taken(speaker) else {}
    going, cache, said = torch.ones(rows, dtype=torch.bool, device=ids.device), None, []
    position = place.clamp(min=0)
    with asked(speaker):
        for step in range(int(room.max())):
            found: Any = speaker(
                input_ids=fed, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True, **more
            )
            cache = found.past_key_values
            chosen = choose(found.logits[:, -1].float(), step)
            said.append(torch.where(going, chosen, NOWHERE))
            going = going & (step + 1 < room)
            for end in ends:
                going = going & (chosen != end)
            if not going.any():
                break
            fed, mask = chosen[:, None], torch.cat([mask, going.long()[:, None]], dim=1)
            position = torch.where(going, lengths + step, 0)[:, None]
    return torch.stack(said, dim=1)


def likeliest(size: int) -> Choose:
    """Of the first ``size`` tokens the likeliest; rows of a head behind them are padding."""
    return lambda logits, step: logits[:, :size].argmax(-1)


def drawing(size: int, numbers: Tensor, temperature: float = 1.0) -> Choose:
    """Tokens drawn of the first ``size``: of each row the one on which its next number falls.

    Args:
        size: tokens that exist.
        numbers: [N, T] in [0, 1).
        temperature: of what is drawn from, in (0, inf).
    """

    def choose(logits: Tensor, step: int) -> Tensor:
        return passed((logits[:, :size].double() / temperature).softmax(-1), numbers[:, step])

    return choose


def numbers_of(names: Sequence[str], count: int) -> Tensor:
    """[N, count] fp64 in [0, 1), each row's own: a function of its name.

    >>> torch.equal(numbers_of(["a", "b"], 2)[1:], numbers_of(["b"], 3)[:, :2])
    True
    """
    each = [np.random.default_rng(int(content_hash("draw", name), 16)).random(count) for name in names]
    return torch.from_numpy(np.stack(each))


def passed(shares: Tensor, uniform: Tensor) -> Tensor:
    """Where the running sums of [N, V] pass ``uniform`` [N] of their whole; never on a share of 0.

    >>> passed(torch.tensor([[0.5, 0.0, 0.5]] * 2), torch.tensor([0.4, 0.6])).tolist()
    [0, 2]
    """
    sums = shares.cumsum(-1)
    place = torch.searchsorted(sums, (uniform.double() * sums[:, -1])[:, None], right=True)[:, 0]
    last = (shares > 0).cumsum(-1).argmax(-1)  # rounding may leave the last number above the last sum
    return torch.minimum(place, last)


def _taken(model: nn.Module) -> set[str]:
    inner: Any = model
    base = inner.get_base_model() if hasattr(inner, "get_base_model") else inner  # peft's own forward names little
    return set(inspect.signature(base.forward).parameters)


def _name(model: nn.Module) -> str:
    return type(model).__name__
