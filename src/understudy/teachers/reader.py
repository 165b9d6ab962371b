"""A model that points at answers in a text, from a transformers folder, with its own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from understudy.encoding import PassageEncoder
from understudy.errors import TeacherError, UsageError
from understudy.students import Reader
from understudy.teachers import folder as folders
from understudy.teachers.label import score_rows
from understudy.teachers.loaded import Loaded, describe
from understudy.teachers.pretrained import read_model
from understudy.teachers.text import open_tokenizer, positions_of, wants_types

LONGEST = 384
"""Sub-word ids of a window unless a limit is said."""
_ROWS = {
    "question": ["Who built the bridge?", "Where does Ann Lee, who built the bridge, live now?"],
    "context": ["Ann Lee built it.", "The bridge was built by Ann Lee, who lived in a village. She moved to Rome."],
}


def open_reader(
    folder: Path, *, label_names: Sequence[str], head: str = "keep", limit: int | None = None, seed: int = 0
) -> Loaded:
    """A BERT-like model with a head for questions and its encoder; see ``open_teacher``.

    Args:
        folder: with a model (``AutoModelForQuestionAnswering``) and its tokenizer, or of an encoder.
        label_names: of its two columns, start and end.
        head: ``keep``, ``new`` or ``auto``.
        limit: the most ids of a window; 384 or what the model can read, whichever is less, where None.
        seed: of a fresh head.

    Raises:
        TeacherError: a folder that cannot be loaded, a model of another task, or a tokenizer without special ids.
    """
    from transformers import AutoModelForQuestionAnswering

    config = folders.inspect(folder)
    _refuse_other(folder, config.get("architectures") or [], head)
    tokenizer = open_tokenizer(folder)
    model, alignment, notes = read_model(
        AutoModelForQuestionAnswering, folder, label_names, head=head, seed=seed, problem=""
    )
    positions = positions_of(model, tokenizer)
    if len(tokenizer) > (rows := model.get_input_embeddings().weight.shape[0]):
        raise TeacherError(f"teacher {folder}: its tokenizer has {len(tokenizer)} entries and its embedding {rows}")
    try:
        encoder = PassageEncoder(
            tokenizer.backend_tokenizer,
            limit=min(positions, limit or LONGEST),
            token_types=wants_types(model, tokenizer, pair=True),
            padding_id=tokenizer.pad_token_id,
        )
    except UsageError as error:
        raise TeacherError(f"teacher {folder}: {error}") from error
    reader = Reader(model).eval()
    _check_padding(reader, encoder, folder)
    return Loaded(
        model=reader,
        encoder=encoder,
        alignment=None,
        fresh_head=alignment is None,
        description=describe(model),
        fingerprint=folders.fingerprint(folder),
        notes=tuple(notes) if alignment is None else (f"{folder.name} brings its own head for questions",),
        tokenizer=tokenizer,
        positions=positions,
    )


def _refuse_other(folder: Path, architectures: Sequence[str], head: str) -> None:
    """A folder with a head of another task, where no other head may take its place."""
    plain = ("ForQuestionAnswering", "ForMaskedLM", "ForPreTraining")
    other = [name for name in architectures if "For" in name and not name.endswith(plain)]
    if other and head == "keep":
        raise TeacherError(
            f"teacher {folder} is a {other[0]}, which answers no questions: name a model for questions, or let its "
            "base be trained on these (--set teacher.fine_tune=auto)"
        )


def _check_padding(model: nn.Module, encoder: PassageEncoder, folder: Path) -> None:
    """A row must score the same beside a longer one: a wrong padding id or an ignored mask would spoil every target."""
    try:
        together = score_rows(model, encoder, _ROWS)[0]
        alone = score_rows(model, encoder, {name: texts[:1] for name, texts in _ROWS.items()})[0]
    except Exception as error:
        raise TeacherError(f"teacher {folder} fails on two short texts: {folders.line(error)}") from error
    worst = float(abs(together - alone).max())
    if not worst <= 1e-3 * max(1.0, float(abs(alone[1:]).max())):
        raise TeacherError(
            f"teacher {folder}: padding changes its logits by {worst:.2g}; set pad_token in its tokenizer and "
            "pad_token_id in its config.json"
        )
