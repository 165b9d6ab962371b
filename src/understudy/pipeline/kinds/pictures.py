"""Students that read pixels."""

from __future__ import annotations

from functools import partial

from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.teach import family
from understudy.tasks.image_classification import pixel_encoder
from understudy.teachers import Loaded


def pictures(material: Material, teacher: Loaded) -> Apprentice:
    """A cnn or an mlp, by the recipe's family."""
    recipe, images = material.recipe.student, material.splits.train.inputs["image"]
    encoder = pixel_encoder(images)
    classes = len(material.splits.label_names)
    build = partial(
        family, recipe.family, encoder, images, classes,
        width=recipe.width or 32, dropout=recipe.dropout, layers=recipe.depth, depthwise=recipe.blocks == "depthwise",
    )  # fmt: skip
    return Apprentice(encoder, build, "calibrated" if recipe.family == "cnn" else "dynamic")
