"""A text classifier, or one of words, from a transformers folder, with its own tokenizer."""

from __future__ import annotations

import inspect as signatures
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from understudy.answers import Scale
from understudy.encoding import Encoder, SubwordEncoder, TokenEncoder
from understudy.errors import TeacherError
from understudy.teachers import folder as folders
from understudy.teachers.label import score_rows
from understudy.teachers.loaded import Loaded, describe
from understudy.teachers.pretrained import read_model

LONGEST = 256
"""Sub-word ids per text that are read unless a limit is said."""
_LONG, _SHORT = "a longer text, of more words than the other one has, so that padding matters", "short"


def open_text(
    folder: Path,
    *,
    label_names: Sequence[str],
    head: str = "keep",
    limit: int | None = None,
    seed: int = 0,
    fields: Sequence[str] = ("text",),
    problem: str = "single_label_classification",
    scale: Scale | None = None,
    words: bool = False,
) -> Loaded:
    """A BERT-like classifier and its encoder; see ``open_teacher``. ``words``: it tags them."""
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    folders.inspect(folder)
    tokenizer = open_tokenizer(folder)
    model, alignment, notes = read_model(
        AutoModelForTokenClassification if words else AutoModelForSequenceClassification,
        folder, label_names, head=head, seed=seed, problem=problem, scale=scale,
    )  # fmt: skip
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise TeacherError(f"teacher {folder}: its tokenizer has {len(tokenizer)} entries and its embedding {rows}")
    positions = positions_of(model, tokenizer)
    kind: type[SubwordEncoder] | type[TokenEncoder] = TokenEncoder if words else SubwordEncoder
    encoder = kind(
        tokenizer.backend_tokenizer,
        limit=min(positions, limit or LONGEST),
        fields=fields,
        token_types=wants_types(model, tokenizer, pair=len(fields) == 2),
        padding_id=tokenizer.pad_token_id,
    )
    check_padding(model, encoder, folder)
    return Loaded(
        model=model,
        encoder=encoder,
        alignment=alignment,
        fresh_head=alignment is None,
        description=describe(model),
        fingerprint=folders.fingerprint(folder),
        notes=tuple(notes),
        tokenizer=tokenizer,
        positions=positions,
    )


def open_tokenizer(folder: Path) -> Any:
    """A tokenizer with a ``backend_tokenizer``, from the folder's own files."""
    from transformers import AutoTokenizer

    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")):
        raise TeacherError(f"teacher {folder} holds no tokenizer: wanted tokenizer.json; tokenizer.save_pretrained(it)")
    with folders.quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except Exception as error:
            raise TeacherError(f"the tokenizer in {folder} cannot be loaded: {folders.line(error)}") from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise TeacherError(f"the tokenizer in {folder} has no tokenizer.json form; save it as a fast tokenizer")
    return tokenizer


def positions_of(model: Any, tokenizer: Any) -> int:
    """The most ids per row. RoBERTa counts its positions from after the padding id, so it has fewer than it says."""
    known = getattr(model.config, "max_position_embeddings", None) or LONGEST
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            known = min(known, module.num_embeddings)
            if module.padding_idx is not None:
                known -= module.padding_idx + 1
    stated = tokenizer.model_max_length  # a huge number where nobody stated it
    return int(min(known, stated))


def wants_types(model: nn.Module, tokenizer: Any, *, pair: bool) -> bool:
    """Whether segment ids are needed: only where they are not all 0, which is what models assume anyway."""
    if "token_type_ids" not in signatures.signature(model.forward).parameters:
        return False
    if pair and int(getattr(model.config, "type_vocab_size", 2)) < 2:  # RoBERTa tells pairs apart by separators
        return False
    texts = (_LONG, _SHORT) if pair else (_LONG,)
    return bool(any(tokenizer.backend_tokenizer.encode(*texts).type_ids))


def check_padding(model: nn.Module, encoder: Encoder, folder: Path) -> None:
    """A row must score the same beside a longer one: a wrong padding id or an ignored mask would spoil every target."""
    long, short = (_as_read(encoder, text) for text in (_LONG, _SHORT))
    try:
        together = score_rows(model, encoder, {name: [long, short] for name in encoder.fields})
        alone = score_rows(model, encoder, {name: [short] for name in encoder.fields})[0]
    except Exception as error:
        if "no padding token" in str(error):
            raise TeacherError(
                f"teacher {folder} ({type(model).__name__}) has no pad_token_id in its config.json, so it reads no two "
                "texts at once: write the id of its tokenizer's pad_token there"
            ) from error
        raise TeacherError(f"teacher {folder} fails on two short texts: {folders.line(error)}") from error
    worst = float(abs(together[1] - alone).max())
    if not worst <= 1e-3 * max(1.0, float(torch.from_numpy(alone).abs().max())):
        raise TeacherError(
            f"teacher {folder}: padding changes its logits by {worst:.2g}; set pad_token in its tokenizer and "
            "pad_token_id in its config.json"
        )


def _as_read(encoder: Encoder, text: str) -> Any:
    """A text in the form of a column that an encoder reads."""
    if encoder.fields == ("messages",):
        return [{"role": role, "content": text} for role in ("user", "assistant")]
    return text.split() if isinstance(encoder, TokenEncoder) else text
