"""What a decoder says beside its teacher, token by token, and what becomes of what it writes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from torch import nn

from understudy.encoding import CausalEncoder
from understudy.objectives import forward_kl
from understudy.statistics import Interval, interval, wilson
from understudy.statistics.language import BESIDE
from understudy.teachers.label import Inputs, asked, call, logits_of
from understudy.teachers.writing import NOWHERE, likeliest, speaker_of, write

GRAM = 4
MARK = "####"
_TILE = 512  # tokens whose distributions are compared at once
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")

Array = np.ndarray[Any, Any]


def beside(
    teacher: nn.Module, models: Mapping[str, nn.Module], encoder: CausalEncoder, inputs: Inputs, *, batch_size: int = 64
) -> dict[str, Array]:
    """What models say of the same tokens as a teacher, in sums over each text, so that texts can be resampled.

    Args:
        teacher: gives logits [N, P, V] of the encoder's inputs (`students.CausalLM`).
        models: name -> another one.
        encoder: of all of them.
        inputs: raw column -> values.
        batch_size: rows per forward; fewer where logits would be too many.

    Returns:
        name -> float64 [N, 3]: tokens that count, KL(teacher || model) in nats, and tokens of which both find the same
        one the likeliest. Rows of a head that no token has do not exist.
    """
    features = encoder.encode(inputs)
    rows = np.argsort(encoder.lengths(features), kind="stable")
    found = {name: np.zeros((len(rows), 3)) for name in models}
    step, size = min(batch_size, encoder.most_rows), encoder.size
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        arrays, said = encoder.masked(features, some)
        there = torch.from_numpy(said >= 0)
        theirs = _logits(teacher, arrays)[..., :size][there]
        owners = there.nonzero()[:, 0]
        for name, model in models.items():
            ours = _logits(model, arrays)[..., :size][there]
            parts = zip(ours.split(_TILE), theirs.split(_TILE), strict=True)
            kl = torch.cat([forward_kl(*both, temperature=1.0) for both in parts]).double()
            same = (ours.argmax(-1) == theirs.argmax(-1)).double()
            numbers = torch.stack([torch.ones_like(kl), kl, same], dim=1)
            sums = torch.zeros(len(some), 3, dtype=torch.float64).index_add_(0, owners, numbers)
            found[name][some] = sums.numpy()
    return found


def estimates(sums: Array, *, seed: int = 0) -> dict[str, dict[str, float]]:
    """``token_kl`` and ``token_agreement`` of what `beside` found, with 95 % intervals over texts."""
    nothing = np.zeros((len(sums), 1), np.int64)
    return {metric.name: interval(metric, nothing, sums, seed=seed).as_dict() for metric in BESIDE}


def written(
    model: nn.Module, encoder: CausalEncoder, inputs: Inputs, *, longest: int, batch_size: int = 32
) -> list[list[int]]:
    """What a decoder writes after each prompt: always the likeliest token, until its end, the limit, or no room.

    Args:
        model: a student or a teacher around a transformers decoder.
        encoder: of prompts with completions; completions only say how much room a prompt leaves.
        inputs: raw column -> values.
        longest: tokens that are written, at most.
        batch_size: rows at a time.

    Returns:
        Of each row its tokens, the end included where there is one.

    Raises:
        UsageError: a model that cannot write.
    """
    speaker = speaker_of(model, type(model).__name__)
    device = next(parameter.device for parameter in speaker.parameters())
    features = encoder.encode(inputs)
    found: list[list[int]] = [[] for _ in range(len(features))]
    order = np.argsort(features.first, kind="stable")
    for start in range(0, len(order), batch_size):
        some = order[start : start + batch_size]
        lengths = torch.from_numpy(features.first[some])
        ids = torch.full((len(some), int(lengths.max())), encoder.padding_id, dtype=torch.int64)
        for place, row in enumerate(some.tolist()):
            ids[place, : lengths[place]] = torch.from_numpy(features.ids[row][: lengths[place]].astype(np.int64))
        said = write(
            speaker, ids.to(device), lengths.to(device), choose=likeliest(encoder.size), ends=encoder.end_ids,
            room=torch.clamp(encoder.limit - lengths, 1, longest).to(device),
        )  # fmt: skip
        for row, tokens in zip(some.tolist(), said.tolist(), strict=True):
            found[row] = [token for token in tokens if token != NOWHERE]
    return found


def monitors(rows: Sequence[Sequence[int]], end_id: int | None) -> dict[str, float | None]:
    """How long texts are and how much of them repeats itself.

    Returns:
        ``tokens``, the mean without ends; ``ended``, the share of texts that came to an end; ``repeated``, of all runs
        of four tokens the share that was there before in the same text, None where no text has four.

    Source: seq-rep-4 of Welleck et al. 2020, arXiv 1908.04319 (there a mean over texts, here over runs).

    >>> monitors([[5, 6, 0], [1, 2, 1, 2, 1, 2]], 0)
    {'tokens': 4.0, 'ended': 0.5, 'repeated': 0.3333333333333333}
    """
    ended = [end_id is not None and bool(row) and row[-1] == end_id for row in rows]
    texts = [tuple(row[:-1] if end else row) for row, end in zip(rows, ended, strict=True)]
    grams = [[text[i : i + GRAM] for i in range(len(text) - GRAM + 1)] for text in texts]
    count = sum(map(len, grams))
    again = count - sum(len(set(one)) for one in grams)
    return {
        "tokens": float(np.mean([len(text) for text in texts])),
        "ended": float(np.mean(ended)),
        "repeated": again / count if count else None,
    }


def exact_match(gold: Sequence[str], said: Sequence[str]) -> Interval:
    """The share of texts that say the same as the data, by `same_answer`; Wilson's interval."""
    return wilson(sum(map(same_answer, gold, said)), len(gold))


def same_answer(gold: str, said: str) -> bool:
    """Whether a text says what the data says.

    Where the data's last line has ``####`` and a number, as gsm8k's has, the numbers behind it are compared; a text
    without one is wrong. Anything else is compared whole, apart from case, white space and a full stop at the end.

    >>> same_answer("so #### 1,200", "2 * 600 = 1200 #### $1200.00"), same_answer("#### 3", "it is 3")
    (True, False)
    >>> same_answer(" The  Cat.", "the cat"), same_answer("a cat", "the cat")
    (True, False)
    """
    number = final_number(gold)
    if number is not None and MARK in gold.rstrip().splitlines()[-1]:  # elsewhere it is a heading
        return number == final_number(said)
    return _plain(gold) == _plain(said)


def final_number(text: str) -> Decimal | None:
    """The number behind the last ``####``; None where there is none."""
    _, mark, behind = text.rpartition(MARK)
    found = _NUMBER.match(behind.strip()) if mark else None
    return Decimal(found[0].replace(",", "").replace("$", "")) if found else None


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).removesuffix(".").rstrip()


def _logits(model: nn.Module, arrays: Mapping[str, Array]) -> torch.Tensor:
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    with asked(model):
        return logits_of(call(model, {name: torch.from_numpy(a).to(device) for name, a in arrays.items()})).cpu()
