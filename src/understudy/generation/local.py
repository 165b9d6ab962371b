"""A folder of a transformers causal language model as a teacher of texts: batched, and sampled by content.

Which token a row draws is a function of (seed, messages, sample): each row has uniform numbers of its own, made from
the hash of its job, and takes the token where the running sum of its probabilities passes them. Neither the order of
the rows nor how they are batched takes part, but for the last digits of a forward in other company. Of what a folder
says of generating (penalties, beams) only the tokens that end an answer are heard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy.endpoints.asked import Answer, Failure, Job, Keep, Limits, Message, Sampling
from understudy.errors import TeacherError
from understudy.files import content_hash
from understudy.teachers.causal import DECODERS
from understudy.teachers.folder import fingerprint, inspect, line, quiet, resolve
from understudy.teachers.writing import passed

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class Local:
    """A `Teacher` on this machine."""

    where = "this machine"

    def __init__(self, path: str, sampling: Sampling, limits: Limits) -> None:
        folder = resolve(path)
        config = inspect(folder)
        names = list(map(str, config.get("architectures") or ()))
        if names and not any(name.endswith(DECODERS) for name in names):
            raise TeacherError(f"teacher {folder} is a {names[0]}: one that writes is a ...ForCausalLM")
        self.model = folder.name
        self._sampling, self._limits = sampling, limits
        self.requests = 0
        self.notes: list[str] = []
        self.stopped: str | None = None
        self._done = False
        self._net, self._tokenizer, self._ends = _load(folder)
        if self._tokenizer.chat_template is None:
            self.notes.append("the tokenizer has no chat template: prompts are continued as they are")
        inner = self._net.config
        self._context = int(getattr(inner, "max_position_embeddings", 0) or getattr(inner, "n_positions", 0) or 0)
        seed = sampling.seed or 0
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._net.to(self._device)
        texts = [(folder / name).read_bytes() for name in _TOKENIZER if (folder / name).is_file()]
        said = (str(seed), json.dumps(config, sort_keys=True), str(self._ends))
        self.identity = content_hash("local", fingerprint(folder), *texts, *said)

    def answers(self, jobs: Sequence[Job], keep: Keep) -> Iterator[tuple[Job, Answer | Failure]]:
        """See `Teacher`. Jobs of like length go together, the longest first: memory is known early."""
        rows: list[tuple[Job, list[int]]] = []
        for job in jobs:
            ids = self._encode(job.messages)
            if self._context and len(ids) + self._sampling.max_tokens > self._context:
                said = (
                    f"{len(ids):,} tokens and {self._sampling.max_tokens:,} to write, the model has {self._context:,}"
                )
                yield job, Failure("context", said)
            else:
                rows.append((job, ids))
        rows.sort(key=lambda row: (-len(row[1]), row[0].key))
        left = self._limits.max_requests
        if left is not None and left < len(rows):
            rows, self.stopped = rows[:left], f"--max-requests {left}"
        for start in range(0, len(rows), self._limits.batch):
            if self._done:
                return
            some = rows[start : start + self._limits.batch]
            for (job, _), answer in zip(some, self._generate(some), strict=True):
                keep(job, answer)
                self.requests += 1
                yield job, answer

    def finish(self) -> None:
        """See `Teacher`: a batch that is not finished is not paid for."""
        self._done = True

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        said = [dict(message) for message in messages]
        if self._tokenizer.chat_template is None:
            text = "\n\n".join(message["content"] for message in said)
            return list(self._tokenizer(text)["input_ids"])
        text = self._tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @torch.inference_mode()
    def _generate(self, rows: Sequence[tuple[Job, list[int]]]) -> list[Answer]:
        from transformers import GenerationConfig, LogitsProcessorList

        width = max(len(ids) for _, ids in rows)
        ends = self._ends
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else (ends or [0])[0]
        ids = torch.full((len(rows), width), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, (_, tokens) in enumerate(rows):  # padding goes to the left, the answer begins in one column
            ids[row, width - len(tokens) :] = torch.tensor(tokens)
            mask[row, width - len(tokens) :] = 1
        plain = GenerationConfig(
            max_new_tokens=self._sampling.max_tokens, do_sample=False, eos_token_id=ends or None, pad_token_id=pad
        )
        drawing = LogitsProcessorList([] if self._sampling.temperature == 0 else [self._draws(rows, width)])
        with quiet():
            said = self._net.generate(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                generation_config=plain,
                logits_processor=drawing,
            )
        said = said[:, width:].tolist()
        return [self._read(row, tokens, ends) for row, tokens in zip(rows, said, strict=True)]

    def _read(self, row: tuple[Job, list[int]], tokens: list[int], ends: list[int]) -> Answer:
        length = next((place for place, token in enumerate(tokens) if token in ends), None)
        written = tokens if length is None else tokens[:length]
        text = self._tokenizer.decode(written, skip_special_tokens=True)
        count = len(written) + (length is not None)
        return Answer(text, "length" if length is None else "stop", self.model, len(row[1]), count)

    def _draws(self, rows: Sequence[tuple[Job, list[int]]], width: int) -> Any:
        """A processor of logits [N, V] that leaves one token of each row: the one that its next number falls on."""
        steps = self._sampling.max_tokens
        numbers = np.stack([np.random.default_rng(int(job.key, 16)).random(steps) for job, _ in rows])
        uniform = torch.from_numpy(numbers).to(self._device)

        def process(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            chosen = draw(scores, uniform[:, input_ids.shape[1] - width], self._sampling)
            return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)

        return process


def draw(scores: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The tokens [N] where the running sums of the probabilities pass ``uniform``.

    Args:
        scores: logits [N, V].
        uniform: numbers in [0, 1), [N].
        sampling: temperature > 0, and the share of probability that is sampled from (Holtzman et al. 2020).

    >>> draw(torch.tensor([[0.0, 0.0]] * 2), torch.tensor([0.4, 0.6]), Sampling()).tolist()
    [0, 1]
    """
    shares = (scores.double() / sampling.temperature).softmax(-1)
    if sampling.top_p == 1:
        return passed(shares, uniform)
    shares, order = shares.sort(dim=-1, descending=True, stable=True)
    before = shares.cumsum(-1) - shares
    place = passed(torch.where(before < sampling.top_p, shares, 0.0), uniform)
    return order.gather(1, place[:, None])[:, 0]


def _load(folder: Path) -> tuple[Any, Any, list[int]]:
    """The model, its tokenizer, and the tokens that end an answer: the model's own list, else the tokenizer's."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            net = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype="auto")
    except Exception as error:
        raise TeacherError(f"teacher {folder} is no causal language model with a tokenizer: {line(error)}") from error
    said = getattr(net.generation_config, "eos_token_id", None)
    said = tokenizer.eos_token_id if said is None else said
    net.generation_config = GenerationConfig()  # `generate` takes from here whatever it is not told
    return net.eval(), tokenizer, [] if said is None else [said] if isinstance(said, int) else list(said)
