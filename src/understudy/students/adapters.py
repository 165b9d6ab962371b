"""Low-rank adapters (LoRA) in the linear maps of a decoder's layers, which alone learn.

peft makes them, and they are merged before anything is saved: what is written is an ordinary model, as exact as a sum
of two matrices in fp32 is.

Source: Hu et al. 2021, arXiv 2106.09685.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

from torch import nn

from understudy.errors import UsageError
from understudy.extras import require
from understudy.students.families.masked import MaskedLM

Module = TypeVar("Module", bound=nn.Module)


def adapted(module: Module, rank: int) -> Module:
    """The module itself with adapters in every linear map of its layers; everything else learns no more.

    An adapter is B A x * 2, A [rank, in] at random (torch's global generator), B [out, rank] zero: nothing is said
    otherwise at the start. Embeddings and head stay as they are, tied or not.

    Args:
        module: a transformers model, or a `CausalLM` around one.
        rank: of every adapter, at least 1.

    Raises:
        UsageError: no transformers model, a rank below 1, or peft is not installed.
    """
    inner = _inner(module)
    if rank < 1 or not hasattr(inner, "get_output_embeddings"):
        raise UsageError(
            f"adapters want a transformers model and a rank of 1 or more, got {type(inner).__name__}, {rank}"
        )
    peft: Any = require("peft", package="peft", why="a student that learns by adapters (student.lora)")
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that GPT-2's weights lie crosswise is seen and heeded
        peft.inject_adapter_in_model(config, inner)
    for name, parameter in inner.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return module


def merged(module: Module) -> Module:
    """The module itself, its adapters added to the weights that they stand beside; one without any as it is."""
    inner = _inner(module)
    layers = [(name, one) for name, one in inner.named_modules() if hasattr(one, "merge") and hasattr(one, "lora_A")]
    for name, layer in layers:
        adapter: Any = layer
        adapter.merge()
        above, _, last = name.rpartition(".")
        setattr(inner.get_submodule(above), last, adapter.get_base_layer())
    if layers:
        inner.requires_grad_(True)
    return module


def _inner(module: nn.Module) -> nn.Module:
    return module.model if isinstance(module, MaskedLM) else module
