"""A masked language model from a transformers folder, or an encoder whose head is yet to be trained."""

from __future__ import annotations

from pathlib import Path

from understudy.encoding import MaskedEncoder
from understudy.errors import TeacherError
from understudy.students import MaskedLM
from understudy.teachers import folder as folders
from understudy.teachers.loaded import Loaded, describe
from understudy.teachers.pretrained import load_model
from understudy.teachers.text import LONGEST, check_padding, open_tokenizer, positions_of, wants_types

_GENERAL = ("ForMaskedLM", "ForPreTraining")  # heads that say hidden tokens; a name without a "For" is an encoder alone


def open_masked(folder: Path, *, head: str = "keep", limit: int | None = None, seed: int = 0) -> Loaded:
    """A masked language model and its encoder.

    Args:
        folder: with a model and its tokenizer.
        head: ``keep`` or ``auto``: the folder's own head, or a fresh one on an encoder that has none; ``new``: whatever
            is there is trained on the corpus, from where it is.
        limit: the most ids per text; 256 or what the model can read, whichever is less, where None.
        seed: of a fresh head, and of what is hidden.

    Raises:
        TeacherError: a folder that cannot be loaded, a model of another task, or a tokenizer without a mask token.
    """
    from transformers import AutoModelForMaskedLM

    config = folders.inspect(folder)
    other = [name for name in config.get("architectures") or [] if "For" in name and not name.endswith(_GENERAL)]
    if other:
        raise TeacherError(
            f"teacher {folder} is a {other[0]}: its encoder was tuned for another task; a masked-language-model wants "
            "a general encoder, or a ...ForMaskedLM"
        )
    tokenizer = open_tokenizer(folder)
    if tokenizer.mask_token_id is None:
        raise TeacherError(f"the tokenizer in {folder} has no mask token, so nothing can be hidden: name a model "
                           "that was trained as a masked language model")  # fmt: skip
    inner, fresh = load_model(AutoModelForMaskedLM, folder, seed=seed)
    rows = inner.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise TeacherError(f"teacher {folder}: its tokenizer has {len(tokenizer)} entries and its embedding {rows}")
    notes = []
    if fresh:
        notes.append(f"{folder.name} has no trained masked language-model head: it is trained on the corpus first")
    elif head == "new":
        notes.append(f"{folder.name} is trained further on the corpus, as asked for")
    model = MaskedLM(inner).eval()
    positions = positions_of(inner, tokenizer)
    encoder = MaskedEncoder(
        tokenizer.backend_tokenizer,
        limit=min(positions, limit or LONGEST),
        mask_id=tokenizer.mask_token_id,
        special_ids=tokenizer.all_special_ids,
        seed=seed,
        token_types=wants_types(inner, tokenizer, pair=False),
        padding_id=tokenizer.pad_token_id,
    )
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


def says_masked(path_or_name: str | Path | None) -> str | None:
    """The architecture of a folder whose config says that it is a masked language model; None of any other."""
    return folders.architecture(path_or_name, ("ForMaskedLM",))
