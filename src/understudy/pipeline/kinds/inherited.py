"""Students that are cut from the teacher."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from understudy import students
from understudy.pipeline.cuts import Cut
from understudy.pipeline.material import Apprentice, Material
from understudy.pipeline.teach import origin
from understudy.teachers import Loaded


def cut(material: Material, teacher: Loaded) -> Apprentice:
    """Less of the teacher: layers, width, sub-words; it reads as the teacher does, or with fewer sub-words.

    With ``student.folder`` less of another encoder, or all of it; then it reads as that does.
    """
    folder = material.recipe.student.folder
    source = origin(material, teacher.parent)
    made = Cut(material, source)
    more: dict[str, Any] = {} if folder is None else {"origin": source.fingerprint}
    build = partial(_in_data_order, made, material.splits.label_names)
    more["tokenizer"] = teacher.tokenizer if material.task.answer.reduced else None
    if not material.recipe.student.initialise:
        made.refuse()
        return Apprentice(made.source[1], build, "dynamic", ("layers start at random",), **more)
    report = made.inheritance()
    notes = (report["sentence"],)
    if folder is not None:
        name = Path(folder).name
        said = report["sentence"].replace("the teacher's", "its layers")
        notes = (f"the student starts from {name}: {said}",)
    return Apprentice(made.source[1], build, "dynamic", notes, inheritance=report, **more)


def _in_data_order(made: Cut, names: tuple[str, ...]) -> nn.Module:
    student = made.fresh()
    if made.teacher.label_order is not None:  # the student answers in the data's order; its teacher keeps its own
        students.reorder_labels(student, made.teacher.label_order, names)
    return student
