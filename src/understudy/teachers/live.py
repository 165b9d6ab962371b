"""A teacher that is asked during training: frozen, in eval mode, reading its own encoding of each row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from understudy.errors import UsageError, choices
from understudy.features import capture, find
from understudy.records import Batch, Targets
from understudy.students import Student
from understudy.teachers.label import asked, call, logits_of
from understudy.teachers.loaded import weights_hash

_MODULE = "module:"


class Live:
    """A model that answers ``targets(batch)`` with its logits, and with whatever ``bind`` was asked for.

    The model is only ever run in eval mode and without gradients; its parameters, buffers and mode are the same
    afterwards. Signals are ``logits`` [N, K] (fp32, columns in the data's order), ``hidden.I`` [N, L, H] (I = 0: the
    embeddings, I: after layer I; transformers models only) and ``module:PATH``, the output of any module inside.

    >>> teacher = Live(nn.Linear(2, 3))
    >>> batch = Batch(keys=("a",), inputs={"teacher": {"x": torch.ones(1, 2)}}, labels=None, masks={})
    >>> teacher.targets(batch)["teacher.logits"].shape
    torch.Size([1, 3])

    Args:
        model: any module that gives logits.
        name: of this source: prefix of its signals, and the key of its encoding in ``batch.inputs``.
        order: columns of the model in the order of the data's labels (``Loaded.label_order``); None: as they are.
    """

    def __init__(self, model: nn.Module, *, name: str = "teacher", order: Sequence[int] | None = None) -> None:
        self.model = model.module if isinstance(model, Student) else model
        self.name = name
        self.order = None if order is None else torch.tensor(list(order))
        self._hidden: tuple[int, ...] = ()
        self._modules: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hash of the model, its weights and the order of its columns: what decides its answers."""
        return f"{weights_hash(self.model)} {self.order}"

    @property
    def provides(self) -> frozenset[str]:
        """Signals that can be bound by name; besides them, ``module:PATH`` for every module of the model."""
        layers = getattr(getattr(self.model, "config", None), "num_hidden_layers", None)
        hidden = range(layers + 1) if isinstance(layers, int) else ()
        return frozenset({"logits", *(f"hidden.{index}" for index in hidden)})

    def bind(self, needs: Iterable[str]) -> None:
        """Resolves what will be asked for, before the first step. Names may carry this source's prefix.

        Raises:
            UsageError: a signal or a module that the model does not have, with what there is.
        """
        signals = sorted({need.removeprefix(f"{self.name}.") for need in needs})
        for signal in signals:
            if signal.startswith(_MODULE):
                find(self.model, signal.removeprefix(_MODULE))
            elif signal not in self.provides:
                raise UsageError(
                    f'the teacher "{self.name}" ({type(self.model).__name__}) cannot give "{signal}": '
                    f"{choices(signal, self.provides)}; or module:PATH of any module inside it"
                )
        self._hidden = tuple(int(signal.removeprefix("hidden.")) for signal in signals if signal.startswith("hidden."))
        self._modules = tuple(signal.removeprefix(_MODULE) for signal in signals if signal.startswith(_MODULE))

    def targets(self, batch: Batch) -> Targets:
        """What the teacher says about the rows, under ``name.signal``.

        Raises:
            UsageError: a batch without this source's encoding, or a model without the hidden states it was bound to.
        """
        try:
            inputs = batch.inputs[self.name]
        except KeyError:
            raise UsageError(f'a batch without inputs for "{self.name}": {choices(self.name, batch.inputs)}') from None
        place = next((tensor.device for tensor in inputs.values()), torch.device("cpu"))
        if next((parameter.device for parameter in self.model.parameters()), place) != place:
            self.model.to(place)  # once: where the rows are
        more: dict[str, Any] = {"output_hidden_states": True} if self._hidden else {}
        with asked(self.model), capture(self.model, self._modules) as inside:
            output = call(self.model, inputs, **more)
            logits = logits_of(output)
            said = {"logits": logits if self.order is None else logits[:, self.order.to(logits.device)]}
            if self._hidden:
                states = getattr(output, "hidden_states", None)
                if states is None or len(states) <= max(self._hidden):
                    raise UsageError(f"{type(self.model).__name__} returned no hidden state {max(self._hidden)}")
                said |= {f"hidden.{index}": states[index] for index in self._hidden}
            said |= {f"{_MODULE}{path}": inside[path] for path in self._modules}
        return Targets({f"{self.name}.{signal}": value.detach() for signal, value in said.items()})
