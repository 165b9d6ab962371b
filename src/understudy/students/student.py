"""The student: any module that learns, answering with the named signals that the terms ask for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.features import capture, find
from understudy.records import Outputs


class Student(nn.Module):
    """Wraps a module so that a forward gives ``Outputs`` with the signals it was bound to, ``logits`` unless said.

    Signals are named ``{name}.{signal}``:

    ``logits``
        a plain tensor output, or the entry ``logits`` of a mapping (a transformers ``ModelOutput``).
    ``hidden.I``
        a transformers model's hidden states, [N, L, D]: 0 after the embeddings, I after layer I, counted from 1.
    ``module:PATH``
        the output of the module at PATH (`features.capture`); the hooks are there during a forward only.
    anything else
        an entry of a module's mapping output that its attribute ``provides`` (a set of names) announces.

    Args:
        module: takes the encoded inputs by name; a module with one parameter takes a single input whatever its name.
        name: which output of the run this is: ``student``, ``peer.1``.
    """

    def __init__(self, module: nn.Module, name: str = "student") -> None:
        super().__init__()
        self.module = module
        self.name = name
        self.needs: frozenset[str] = frozenset({"logits"})
        parameters = inspect.signature(module.forward).parameters.values()
        self._takes = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        # A transformers forward swallows what it does not know, such as token_type_ids given to a DistilBERT.
        self._takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters) and not hasattr(module, "config")

    @property
    def depth(self) -> int | None:
        """Layers whose hidden states it can give; None where it is no transformers model."""
        depth = getattr(getattr(self.module, "config", None), "num_hidden_layers", None)
        return depth if isinstance(depth, int) else None

    def bind(self, needs: frozenset[str]) -> None:
        """Says which signals later forwards give, and nothing else.

        Raises:
            UsageError: a signal that this module cannot give, with what it can.
        """
        for need in sorted(needs):
            self._check(need)
        self.needs = frozenset(needs)

    def forward(self, inputs: Mapping[str, Tensor]) -> Outputs:
        """The bound signals of one batch.

        Raises:
            UsageError: inputs that the module does not take, or an output without a bound signal.
        """
        paths = [need.removeprefix("module:") for need in self.needs if need.startswith("module:")]
        extra = {"output_hidden_states": True} if any(need.startswith("hidden.") for need in self.needs) else {}
        if paths:
            with capture(self.module, paths) as inside:
                output = self._call(inputs, extra)
            missing = sorted(set(paths) - set(inside))
            if missing:
                raise UsageError(f"{', '.join(missing)} of {type(self.module).__name__} took no part in the forward")
        else:
            inside = {}
            output = self._call(inputs, extra)
        signals = {
            need: inside[need[7:]] if need.startswith("module:") else self._read(output, need) for need in self.needs
        }
        return Outputs({f"{self.name}.{need}": signals[need] for need in sorted(signals)})

    def _check(self, need: str) -> None:
        kind = type(self.module).__name__
        provided = {"logits"} | set(getattr(self.module, "provides", ()))
        if need in provided:
            return
        if need.startswith("module:"):
            find(self.module, need.removeprefix("module:"))
            return
        depth = self.depth
        index = need.removeprefix("hidden.")
        if need.startswith("hidden.") and depth is not None and index.isdigit() and int(index) <= depth:
            return
        there = sorted(provided) + ([] if depth is None else [f"hidden.0 to hidden.{depth}"]) + ["module:PATH"]
        raise UsageError(f'{self.name} ({kind}) cannot give "{need}"; it gives {", ".join(there)}')

    def _call(self, inputs: Mapping[str, Tensor], extra: Mapping[str, Any]) -> Any:
        unknown = [name for name in inputs if name not in self._takes]
        if unknown and len(inputs) == 1 and len(self._takes) <= 1:
            return self.module(*inputs.values())
        if unknown and not self._takes_any:
            raise UsageError(
                f"{self.name} ({type(self.module).__name__}) does not take {', '.join(unknown)}: "
                f"{choices(unknown[0], self._takes)}"
            )
        return self.module(**inputs, **extra)

    def _read(self, output: Any, need: str) -> Tensor:
        if need == "logits" and isinstance(output, torch.Tensor):
            return output
        if isinstance(output, Mapping):
            if need.startswith("hidden."):
                return output["hidden_states"][int(need.removeprefix("hidden."))]
            if need in output:
                return output[need]
        there = choices(need, map(str, output)) if isinstance(output, Mapping) else type(output).__name__
        raise UsageError(f'{self.name} ({type(self.module).__name__}) gave no "{need}" in its output: {there}')
