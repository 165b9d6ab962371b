"""Students that are cut from the teacher."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from understudy import students
from understudy.pipeline.material import Apprentice, Material
from understudy.teachers import Loaded


def cut(material: Material, teacher: Loaded) -> Apprentice:
    """Some of the teacher's layers, with the teacher's own encoder."""
    recipe, teacher = material.recipe.student, teacher.parent
    layers = list(recipe.layers) if isinstance(recipe.layers, tuple) else recipe.layers
    trial = students.cut(teacher.model, layers)
    note = students.inheritance(trial, teacher.model)["sentence"]
    build = partial(_cut_one, teacher, layers, recipe.initialise, material.splits.label_names)
    return Apprentice(teacher.encoder, build, "dynamic", (note if recipe.initialise else "layers start at random",))


def _cut_one(teacher: Loaded, layers: Any, initialise: bool, names: tuple[str, ...]) -> nn.Module:
    student = students.cut(teacher.model, layers, initialise=initialise)
    if teacher.label_order is not None:  # the student answers in the data's order; its teacher keeps its own
        students.reorder_labels(student, teacher.label_order, names)
    return student
