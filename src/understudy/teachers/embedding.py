"""A sentence encoder from a transformers folder: its base, its pooling, and no head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from understudy.encoding import SubwordEncoder
from understudy.errors import TeacherError
from understudy.files import content_hash
from understudy.students import Embedder
from understudy.teachers import folder as folders
from understudy.teachers.loaded import Loaded, describe
from understudy.teachers.text import LONGEST, check_padding, open_tokenizer, positions_of, wants_types

_KNOWN = ("Transformer", "Pooling", "Normalize")  # of what sentence-transformers lists in modules.json


def open_embedder(folder: Path, *, limit: int | None = None, seed: int = 0) -> Loaded:
    """An encoder whose vectors of texts are to be learnt; nothing of it is ever trained.

    A folder of sentence-transformers says how it pools (``1_Pooling``); any other encoder is pooled by its mean. The
    head of a classifier is left out. Vectors have length 1, whatever the folder says: cosines are all that is learnt.

    Args:
        folder: with a model and its tokenizer.
        limit: the most ids per text; 256 or what the model can read, whichever is less, where None.
        seed: of a pooler that is not in the files, which nothing reads.

    Raises:
        TeacherError: a folder that cannot be loaded, a pooling that is not known, or layers behind it.
    """
    config = folders.inspect(folder)
    pooling, notes = _pooling(folder)
    heads = [name for name in config.get("architectures") or [] if "For" in name]
    if heads:
        notes.append(f"{folder.name} is a {heads[0]}: its base is asked for vectors, and its head is left out")
    tokenizer = open_tokenizer(folder)
    base = _base(folder, seed=seed)
    model = Embedder(base, pooling).eval()
    positions = positions_of(base, tokenizer)
    encoder = SubwordEncoder(
        tokenizer.backend_tokenizer,
        limit=min(positions, limit or LONGEST),
        token_types=wants_types(base, tokenizer, pair=False),
        padding_id=tokenizer.pad_token_id,
    )
    check_padding(model, encoder, folder)
    return Loaded(
        model=model,
        encoder=encoder,
        alignment=None,
        fresh_head=False,
        description=f"{describe(base)}, {pooling} pooling",
        fingerprint=content_hash(folders.fingerprint(folder), pooling),
        notes=tuple(notes),
        tokenizer=tokenizer,
        positions=positions,
    )


def _base(folder: Path, *, seed: int) -> Any:
    from transformers import AutoModel

    with folders.quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model, info = AutoModel.from_pretrained(
                folder, output_loading_info=True, use_safetensors=True, trust_remote_code=False,
                local_files_only=True, dtype=torch.float32,
            )  # fmt: skip
        except Exception as error:  # whatever a foreign folder makes the library raise, the user needs one line
            raise TeacherError(f"teacher {folder} cannot be loaded: {folders.line(error)}") from error
    lost = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if lost:
        raise TeacherError(
            f"teacher {folder}: {len(lost)} tensors of {type(model).__name__} are not in its files "
            f"({', '.join(lost[:3])}); config.json and the weights do not belong together"
        )
    broken = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    if broken:
        raise TeacherError(f"teacher {folder} holds NaN or infinite weights, first in {broken[0]}")
    return model


def _pooling(folder: Path) -> tuple[str, list[str]]:
    """``mean`` or ``cls``, and what a reader should know of it."""
    listed = folder / "modules.json"
    if not listed.is_file():
        return "mean", [
            f"{folder.name} does not say how its vectors are made (it has no modules.json): the mean over tokens is "
            "taken, and whether its cosines mean anything shows in its score"
        ]
    try:
        kinds = [str(one["type"]).rpartition(".")[2] for one in folders.read_list(listed)]
    except (KeyError, TypeError) as error:
        raise TeacherError(f"{listed} is no list of modules ({error}); copy it again") from error
    odd = [kind for kind in kinds if kind not in _KNOWN]
    if odd:
        raise TeacherError(f"teacher {folder}: its vectors go through {odd[0]}, which is not read here")
    how = folders.read_json(folder / "1_Pooling" / "config.json", f"teacher {folder}: wanted how it pools")
    chosen = sorted(key.removeprefix("pooling_mode_") for key, said in how.items() if said is True and "mode" in key)
    if chosen not in (["mean_tokens"], ["cls_token"]):
        said = " and ".join(chosen) or "nothing that is known"
        raise TeacherError(f"teacher {folder} pools by {said}; mean_tokens or cls_token is wanted")
    return ("mean" if chosen == ["mean_tokens"] else "cls"), []
