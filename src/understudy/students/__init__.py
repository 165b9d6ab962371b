"""Students: cut from a teacher, or of a small family built for speed."""

from understudy.features import layer_stack
from understudy.students.adapters import adapted, merged
from understudy.students.cutting.factors import FactorisedEmbedding
from understudy.students.cutting.labels import begin_at_shares, reorder_labels
from understudy.students.cutting.layers import uniform_layers
from understudy.students.cutting.making import cut
from understudy.students.cutting.origins import inheritance
from understudy.students.cutting.vocabulary import prune_vocabulary
from understudy.students.exits import Exits, with_exits
from understudy.students.families.bag import Bag
from understudy.students.families.causal import CausalLM
from understudy.students.families.conv import Conv
from understudy.students.families.embedder import Embedder
from understudy.students.families.gru import Gru
from understudy.students.families.masked import MaskedLM
from understudy.students.families.ngram import Ngram
from understudy.students.families.reader import Reader
from understudy.students.families.static import Static
from understudy.students.families.table import Table
from understudy.students.families.tagging import TagConv, TagGru
from understudy.students.families.transformer import Transformer
from understudy.students.families.vectors import (
    principal_components,
    principal_directions,
    static_vectors,
    word_outputs,
)
from understudy.students.families.vision import Cnn, Mlp, Normalised
from understudy.students.quantised import fake_quantised, plain
from understudy.students.saving import bytes_on_disk, load, parameters, save
from understudy.students.student import Student, of_words

__all__ = [
    "Bag",
    "CausalLM",
    "Cnn",
    "Conv",
    "Embedder",
    "Exits",
    "FactorisedEmbedding",
    "Gru",
    "MaskedLM",
    "Mlp",
    "Ngram",
    "Normalised",
    "Reader",
    "Static",
    "Student",
    "Table",
    "TagConv",
    "TagGru",
    "Transformer",
    "adapted",
    "begin_at_shares",
    "bytes_on_disk",
    "cut",
    "fake_quantised",
    "inheritance",
    "layer_stack",
    "load",
    "merged",
    "of_words",
    "parameters",
    "plain",
    "principal_components",
    "principal_directions",
    "prune_vocabulary",
    "reorder_labels",
    "save",
    "static_vectors",
    "uniform_layers",
    "with_exits",
    "word_outputs",
]
