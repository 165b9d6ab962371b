"""The student: any module that learns, answering with the named signals that the terms ask for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.passages import NEVER
from understudy.ragged import NOTHING, NOWHERE
from understudy.records import Outputs
from understudy.signals import AGAIN, Plan, depth_of, resolve


def of_words(signals: Mapping[str, Tensor], places: Tensor | None) -> dict[str, Tensor]:
    """The signals with logits of words in the place of those of a model's own positions.

    >>> import torch
    >>> of_words({"logits": torch.arange(6.0).view(1, 3, 2)}, torch.tensor([[1, -1]]))["logits"][0, 0]
    tensor([2., 3.])

    Args:
        signals: ``logits`` and ``NAME.logits`` are [R, L, K]; the others stay as they are.
        places: see `understudy.records.Batch`; None: nobody asks for words. int64 [N, W] gives [N, W, K], and behind a
            row's last word stands whatever is at the first place, which no mask counts. int64 [N, K, W], a place of
            its own for each column, gives [N, K, W] with -inf there: those words do not exist.
    """
    if places is None:
        return dict(signals)
    return {
        name: _taken(value, places) if name.rpartition(".")[2] == "logits" else value for name, value in signals.items()
    }


def _taken(logits: Tensor, places: Tensor) -> Tensor:
    flat, there = logits.flatten(0, 1), places.clamp(min=0)
    if places.ndim == 2:
        return flat.index_select(0, there.flatten()).view(*places.shape, -1)
    columns = [flat[:, k].index_select(0, there[:, k].flatten()).view(len(places), -1) for k in range(places.shape[1])]
    found = torch.stack(columns, dim=1)
    return found.masked_fill(places == NOTHING, NEVER).masked_fill(places == NOWHERE, -torch.inf)


class Student(nn.Module):
    """Wraps a module so that a forward gives ``Outputs`` with the signals it was bound to, ``logits`` unless said.

    Signals are named ``{name}.{signal}``; `understudy.signals` lists them. Nothing of the module changes but during a
    forward: hooks, and eager attention where ``attention.I`` is asked for. (With gradient checkpointing a layer runs
    again in the backward: set its attention to eager yourself then.) A forward is never cut short.

    Args:
        module: takes the encoded inputs by name; a module with one parameter takes a single input whatever its name.
        name: which output of the run this is: ``student``, ``peer.1``.
    """

    def __init__(self, module: nn.Module, name: str = "student") -> None:
        super().__init__()
        self.module = module
        self.name = name
        self._plan = resolve(module, {"logits"}, name)
        self._again = False
        parameters = inspect.signature(module.forward).parameters.values()
        self._takes = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        # A transformers forward swallows what it does not know, such as token_type_ids given to a DistilBERT.
        self._takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters) and not hasattr(module, "config")

    @property
    def depth(self) -> int | None:
        """Layers whose hidden states it can give; None where it is no transformers model."""
        return depth_of(self.module)

    @property
    def needs(self) -> frozenset[str]:
        """The signals that it is bound to."""
        return self._plan.needs | ({AGAIN} if self._again else frozenset())

    def bind(self, needs: frozenset[str]) -> None:
        """Says which signals later forwards give, and nothing else.

        Raises:
            UsageError: a signal that this module cannot give, with what it can.
        """
        self._again = AGAIN in needs
        self._plan = resolve(self.module, needs - {AGAIN}, self.name)

    def forward(self, inputs: Mapping[str, Tensor]) -> Outputs:
        """The bound signals of one batch.

        Raises:
            UsageError: inputs that the module does not take, or an output without a bound signal.
        """
        said = self._plan.run(self.module, lambda: self._call(inputs))
        if self._again:
            second = Plan(frozenset({"logits"}), self.name).run(self.module, lambda: self._call(inputs))
            said |= {AGAIN: second["logits"]}
        return Outputs({f"{self.name}.{need}": value for need, value in said.items()})

    def _call(self, inputs: Mapping[str, Tensor]) -> Any:
        unknown = [name for name in inputs if name not in self._takes]
        if unknown and len(inputs) == 1 and len(self._takes) <= 1:
            return self.module(*inputs.values())
        if unknown and not self._takes_any:
            raise UsageError(
                f"{self.name} ({type(self.module).__name__}) does not take {', '.join(unknown)}: "
                f"{choices(unknown[0], self._takes)}"
            )
        return self.module(**inputs)
