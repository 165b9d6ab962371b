"""A decoder from a transformers folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from understudy.encoding import CausalEncoder
from understudy.encoding.causal import CHAT
from understudy.encoding.chat import Template
from understudy.errors import TeacherError
from understudy.students import CausalLM
from understudy.teachers import folder as folders
from understudy.teachers.loaded import Loaded, describe
from understudy.teachers.pretrained import load_model
from understudy.teachers.text import LONGEST, check_padding, open_tokenizer, positions_of

DECODERS = ("ForCausalLM", "LMHeadModel")
_CLOSE = 1e-3


def open_causal(
    folder: Path, *, head: str = "keep", limit: int | None = None, seed: int = 0, fields: Sequence[str] = ("text",)
) -> Loaded:
    """A decoder and its encoder.

    A row begins with what the tokenizer itself puts there, else with its ``bos_token`` where it has one.

    Args:
        folder: with a model and its tokenizer.
        head: ``keep`` or ``auto``: the model as it is; ``new``: it is trained on the texts first, from where it is.
        limit: the most ids per row; 256 or what the model can read, whichever is less, where None.
        seed: of a head that is not there.
        fields: ``("text",)``, ``("prompt", "completion")`` or ``("messages",)``, which the tokenizer's chat template
            shows.

    Raises:
        TeacherError: a folder that cannot be loaded, a model that is no decoder, or a tokenizer of another model or
            without a chat template where one is wanted.
    """
    from transformers import AutoModelForCausalLM

    config = folders.inspect(folder)
    names = [str(name) for name in config.get("architectures") or []]
    if names and not any(name.endswith(DECODERS) for name in names):
        raise TeacherError(f"teacher {folder} is a {names[0]}: a causal-lm wants a decoder, a ...ForCausalLM")
    tokenizer = open_tokenizer(folder)
    inner, fresh = load_model(AutoModelForCausalLM, folder, seed=seed)
    rows = inner.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise TeacherError(f"teacher {folder}: its tokenizer has {len(tokenizer)} entries and its embedding {rows}")
    notes = []
    if fresh:
        notes.append(f"{folder.name} has no trained language-model head: it is trained on the texts first")
    elif head == "new":
        notes.append(f"{folder.name} is trained further on the texts, as asked for")
    end = tokenizer.eos_token_id
    if end is None:
        notes.append(f"the tokenizer of {folder.name} has no eos_token, so no text has an end that is learnt")
    positions = positions_of(inner, tokenizer)
    encoder = CausalEncoder(
        tokenizer.backend_tokenizer,
        limit=min(positions, limit or LONGEST),
        start=_start(tokenizer),
        end_id=end,
        padding_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (end or 0),
        fields=fields,
        template=_template(tokenizer, folder, notes) if tuple(fields) == CHAT else None,
    )
    model = CausalLM(inner).eval()
    _check_head(model, folder)
    check_padding(model, encoder, folder)
    return Loaded(
        model=model,
        encoder=encoder,
        alignment=None,
        fresh_head=fresh or head == "new",
        description=describe(inner),
        fingerprint=folders.fingerprint(folder),
        notes=tuple(notes),
        tokenizer=tokenizer,
        positions=positions,
    )


def says_next(path_or_name: str | Path | None) -> str | None:
    """The architecture of a folder whose config says that it is a decoder; None of any other."""
    return folders.architecture(path_or_name, DECODERS)


def _start(tokenizer: Any) -> list[int]:
    found = tokenizer.backend_tokenizer.encode("a")
    special = [number for number, mark in zip(found.ids, found.special_tokens_mask, strict=True) if mark]
    leading = found.special_tokens_mask[0] if found.ids else 0
    if leading:
        return special[:1]
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


def _template(tokenizer: Any, folder: Path, notes: list[str]) -> Template:
    """The tokenizer's own chat template, which must show here what it shows in transformers."""
    try:
        source = tokenizer.get_chat_template()
    except ValueError:
        raise TeacherError(
            f"teacher {folder}: its tokenizer has no chat template, which the column messages needs: take one "
            "that has, or render the rows yourself, as prompt and completion"
        ) from None
    marks = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    named = {name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    found = Template(source, named, marks)
    probe = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}]
    if "strftime_now" in source:
        notes.append(
            f"the chat template of {folder.name} asks what day it is, and is not told: a row is always the same"
        )
    try:
        ours, _ = found.spans(probe)
        theirs = ours if "strftime_now" in source else tokenizer.apply_chat_template(probe, tokenize=False)
    except Exception as error:
        raise TeacherError(
            f"teacher {folder}: its chat template fails on two messages: {folders.line(error)}"
        ) from error
    if ours != theirs:
        raise TeacherError(
            f"teacher {folder}: its chat template shows here {ours!r}, and in transformers {theirs!r}: render the rows "
            "yourself, as prompt and completion"
        )
    return found


def _check_head(model: CausalLM, folder: Path) -> None:
    """Logits of hidden states and head must be those that the model says itself."""
    ids = torch.tensor([[0, 1]])
    with torch.no_grad():
        ours = model(ids, torch.ones_like(ids), torch.tensor([[0, 1]])).logits
        theirs = model.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    worst = float((ours - theirs).abs().max())
    if not worst <= _CLOSE * max(1.0, float(theirs.abs().max())):
        raise TeacherError(
            f"teacher {folder}: the logits of {type(model.model).__name__} are not its last hidden states times its "
            f"head (off by {worst:.2g}), which is what a causal-lm learns from"
        )
