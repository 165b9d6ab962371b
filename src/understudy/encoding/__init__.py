"""Torch-free encoders that training and the runtime share: one code, the same ids on both sides.

An encoder turns raw columns into features (`Ragged` ids, or uint8 pixels) and features into the inputs of a model:

    words     ids int64 [M], offsets int64 [N + 1]                            static students
    sequence  input_ids, attention_mask  int64 [N, L]                         small networks that see order
    pair      the same of both texts of a row: 2 N bags, or [N, 2, L]         either of these
    subwords  input_ids, attention_mask [, token_type_ids]  int64 [N, L]      transformers
    tokens    input_ids, attention_mask [, token_type_ids]  int64 [N, L]      transformers that tag words
    masked    the same, some ids hidden, and places int64 [N, P]              masked language models
    causal    input_ids, attention_mask int64 [N, L], places int64 [N, P]     decoders
    affixes   part_ids int64 [N, L, 5], attention_mask int64 [N, L]           small networks that tag words
    passages  input_ids, attention_mask [, token_type_ids]  int64 [R, L]      transformers that point at words of a text
    pixels    pixels uint8 [N, C, H, W]                                       images
    table     features float32 [N, F]                                         rows of a table
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.encoding.affixes import AffixEncoder
from understudy.encoding.causal import CausalEncoder
from understudy.encoding.features import Encoder, Features, Pairs, RowError
from understudy.encoding.masked import MaskedEncoder
from understudy.encoding.pairs import PairEncoder
from understudy.encoding.passages import PassageEncoder
from understudy.encoding.pixels import PixelEncoder
from understudy.encoding.sequences import SequenceEncoder
from understudy.encoding.subwords import SubwordEncoder
from understudy.encoding.tables import TableEncoder
from understudy.encoding.tokens import TokenEncoder
from understudy.encoding.words import WordEncoder
from understudy.errors import ArtefactError, choices
from understudy.ragged import Ragged

__all__ = [
    "AffixEncoder",
    "CausalEncoder",
    "Encoder",
    "Features",
    "MaskedEncoder",
    "PairEncoder",
    "Pairs",
    "PassageEncoder",
    "PixelEncoder",
    "Ragged",
    "RowError",
    "SequenceEncoder",
    "SubwordEncoder",
    "TableEncoder",
    "TokenEncoder",
    "WordEncoder",
    "load_encoder",
]


def load_encoder(folder: Path | str, entry: Mapping[str, Any]) -> Encoder:
    """The encoder that wrote ``entry`` with `save`, with its files in ``folder``.

    Raises ArtefactError when the kind is unknown or the entry lacks a setting, StoreError when a file is missing.
    """
    known = (
        *(WordEncoder, SequenceEncoder, PairEncoder, SubwordEncoder),
        *(TokenEncoder, MaskedEncoder, CausalEncoder, AffixEncoder, PassageEncoder, PixelEncoder, TableEncoder),
    )
    kinds: dict[str, Any] = {encoder.kind: encoder for encoder in known}
    kind = str(entry.get("kind"))
    if kind not in kinds:
        raise ArtefactError(f'unknown encoder "{kind}" in {folder}: {choices(kind, kinds)}')
    try:
        found: Encoder = kinds[kind].load(Path(folder), entry)
        return found
    except KeyError as error:
        raise ArtefactError(f"the {kind} encoder in {folder} has no {error}; export the artefact again") from error
