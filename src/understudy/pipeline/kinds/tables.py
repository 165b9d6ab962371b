"""Students that read rows of a table."""

from __future__ import annotations

from functools import partial

from understudy import students
from understudy.encoding import TableEncoder
from understudy.pipeline.kinds.pictures import pictures
from understudy.pipeline.material import Apprentice, Material
from understudy.teachers import Loaded


def mlp(material: Material, teacher: Loaded) -> Apprentice:
    """Fully connected layers, on pixels or on the columns of a table."""
    if "image" in material.splits.fields:
        return pictures(material, teacher)
    recipe, encoder = material.recipe.student, TableEncoder.fit(material.learnable.inputs)
    build = partial(
        students.Table, encoder.size, len(material.splits.label_names),
        width=recipe.width or 64, layers=recipe.depth, dropout=recipe.dropout,
    )  # fmt: skip
    names = sum(column.categories is not None for column in encoder.columns)
    note = f"{len(encoder.columns) - names} columns of numbers and {names} of names are {encoder.size} features"
    return Apprentice(encoder, build, "dynamic", (note,))
