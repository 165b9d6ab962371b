"""Students that are cut from the teacher."""

from __future__ import annotations

from functools import partial

from torch import nn

from understudy import students
from understudy.answers import MASKED
from understudy.pipeline.cuts import Cut
from understudy.pipeline.material import Apprentice, Material
from understudy.teachers import Loaded


def cut(material: Material, teacher: Loaded) -> Apprentice:
    """Less of the teacher: layers, width, sub-words; it reads as the teacher does, or with fewer sub-words."""
    made = Cut(material, teacher.parent)
    build = partial(_in_data_order, made, material.splits.label_names)
    tokenizer = teacher.tokenizer if material.task.answer is MASKED else None
    if not material.recipe.student.initialise:
        made.refuse()
        return Apprentice(made.source[1], build, "dynamic", ("layers start at random",), tokenizer=tokenizer)
    report = made.inheritance()
    return Apprentice(made.source[1], build, "dynamic", (report["sentence"],), inheritance=report, tokenizer=tokenizer)


def _in_data_order(made: Cut, names: tuple[str, ...]) -> nn.Module:
    student = made.fresh()
    if made.teacher.label_order is not None:  # the student answers in the data's order; its teacher keeps its own
        students.reorder_labels(student, made.teacher.label_order, names)
    return student
