"""Students: cut from a teacher, or of a small family built for speed."""

from understudy.features import layer_stack
from understudy.students.cut import cut, inheritance, reorder_labels, uniform_layers
from understudy.students.exits import Exits, with_exits
from understudy.students.families.static import Static
from understudy.students.families.vectors import principal_components, static_vectors
from understudy.students.families.vision import Cnn, Mlp, Normalised
from understudy.students.quantised import fake_quantised, plain
from understudy.students.saving import bytes_on_disk, load, parameters, save
from understudy.students.student import Student

__all__ = [
    "Cnn",
    "Exits",
    "Mlp",
    "Normalised",
    "Static",
    "Student",
    "bytes_on_disk",
    "cut",
    "fake_quantised",
    "inheritance",
    "layer_stack",
    "load",
    "parameters",
    "plain",
    "principal_components",
    "reorder_labels",
    "save",
    "static_vectors",
    "uniform_layers",
    "with_exits",
]
