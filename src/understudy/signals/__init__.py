"""Signals: the names of what a model says, from its logits to what goes on inside, and how a forward gives them.

``logits``
    a plain tensor output, or the entry ``logits`` of a mapping (a transformers ``ModelOutput``).
``features``
    [N, D], what the linear layer that gives the logits is given: the pooled representation ([N, L, D] of a language
    model).
``hidden.I``
    [N, L, D], a transformers model's hidden states: 0 after the embeddings, I after layer I, counted from 1.
``attention.I``
    [N, heads, L, L], the probabilities with which positions look at positions in layer I, as transformers gives them:
    each row sums to 1, but in train mode they have gone through the model's attention dropout.
``query.I``, ``key.I``, ``value.I``
    [N, heads, L, d], what the projections of layer I give, before any rotary position. Keys and values may have fewer
    heads than queries.
``again``
    the logits of a second forward of the same rows, with other dropout; of a student only.
``module:PATH``, ``input:PATH``
    what the module at PATH gives, and the first tensor that it is given (`features.Capture`). A module that runs
    several times in one forward leaves the last.
anything else
    an entry of the model's mapping output that its attribute ``provides`` (a set of names) announces. An announced name
    goes before one of those above.

Transformers models are found inside a wrapper too (`students.Normalised`).
"""

from understudy.signals.anatomy import depth_of, layers_of
from understudy.signals.hooks import eager_attention
from understudy.signals.plan import Plan, resolve, signals_of

AGAIN = "again"

__all__ = ["AGAIN", "Plan", "depth_of", "eager_attention", "layers_of", "resolve", "signals_of"]
