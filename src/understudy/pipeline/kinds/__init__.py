"""What a recipe's student is, one family a file: (material, teacher) -> Apprentice. Exits are added to it elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from understudy.pipeline.kinds.inherited import cut
from understudy.pipeline.kinds.lookups import ngram, static
from understudy.pipeline.kinds.pictures import pictures
from understudy.pipeline.kinds.sequences import sequences
from understudy.pipeline.kinds.tables import mlp
from understudy.pipeline.material import Apprentice, Material
from understudy.teachers import Loaded

KINDS: dict[str, Callable[[Material, Loaded], Apprentice]] = {
    "static": static,
    "ngram": ngram,
    "conv": sequences,
    "gru": sequences,
    "transformer": sequences,
    "cut": cut,
    "cnn": pictures,
    "mlp": mlp,
}
