"""A teacher that is asked during training: frozen, in eval mode, reading its own encoding of each row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import UsageError, choices
from understudy.records import Batch, Targets
from understudy.signals import resolve, signals_of
from understudy.students import Student, of_words
from understudy.teachers.label import asked, call, logits_of
from understudy.teachers.loaded import weights_hash


class Live:
    """A model that answers ``targets(batch)`` with its logits, or with what ``bind`` was asked for.

    The model is only ever run in eval mode and without gradients; its parameters, buffers, mode and way to compute
    attention are the same afterwards. `understudy.signals` lists the signals. ``logits`` [N, K] are fp32, with columns
    in the data's order, and so is what a model announces as ``NAME.logits``. Where neither they nor anything behind a
    transformers layer is asked for, its forward ends after that layer.

    >>> teacher = Live(nn.Linear(2, 3))
    >>> batch = Batch(keys=("a",), inputs={"teacher": {"x": torch.ones(1, 2)}}, labels=None, masks={})
    >>> teacher.targets(batch)["teacher.logits"].shape
    torch.Size([1, 3])

    Args:
        model: any module that gives logits.
        name: of this source: prefix of its signals, and the key of its encoding in ``batch.inputs``.
        order: columns of the model in the order of the data's labels (``Loaded.label_order``); None: as they are.
        support: [K] of the data's labels, which ones the model knows; None: all. ``order`` (or the model, where there
            is none) may then have a column for these only; the others get logits of 0, which no term reads.

    Raises:
        UsageError: an order that is neither of all labels nor of those in ``support``.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str = "teacher",
        order: Sequence[int] | None = None,
        support: Sequence[bool] | None = None,
    ) -> None:
        self.model = model.module if isinstance(model, Student) else model
        self.name = name
        self.order = None if order is None else torch.tensor(list(order))
        self.support = None if support is None else torch.tensor([bool(known) for known in support])
        if self.support is not None:
            if not self.support.any():
                raise UsageError(f'the teacher "{name}" knows none of the {len(self.support)} labels')
            if self.order is not None:
                self._check_width(self.support, len(self.order), "an order")
        self._plan = resolve(self.model, {"logits"}, self._who)

    @property
    def fingerprint(self) -> str:
        """Hash of the model, its weights and the order of its columns: what decides its answers."""
        known = "" if self.support is None else f" {self.support.tolist()}"
        return f"{weights_hash(self.model)} {self.order}{known}"

    @property
    def provides(self) -> frozenset[str]:
        """Signals that can be bound by name; besides them, ``module:PATH`` and ``input:PATH`` of its modules."""
        return frozenset(signals_of(self.model))

    def bind(self, needs: Iterable[str]) -> None:
        """Resolves what will be asked for, before the first step. Names may carry this source's prefix.

        Raises:
            UsageError: a signal or a module that the model does not have, with what there is.
        """
        self._plan = resolve(self.model, {need.removeprefix(f"{self.name}.") for need in needs}, self._who)

    def targets(self, batch: Batch) -> Targets:
        """What the teacher says about the rows, under ``name.signal``.

        Raises:
            UsageError: a batch without this source's encoding, or a model without a signal it was bound to.
            TeacherError: logits that are not [N, K], or [N, L, K] where words have tags.
        """
        try:
            inputs = batch.inputs[self.name]
        except KeyError:
            raise UsageError(f'a batch without inputs for "{self.name}": {choices(self.name, batch.inputs)}') from None
        place = next((tensor.device for tensor in inputs.values()), torch.device("cpu"))
        if next((parameter.device for parameter in self.model.parameters()), place) != place:
            self.model.to(place)  # once: where the rows are

        def forward() -> Any:
            output = call(self.model, inputs)
            if "logits" in self._plan.needs:
                logits_of(output)
            return output

        with asked(self.model):
            said = self._plan.run(self.model, forward, stop=True)
        for signal in said:
            if signal == "logits" or signal.endswith(".logits"):
                said[signal] = self._columns(logits_of(said[signal]))
        said = of_words(said, batch.places.get(self.name))
        known = {} if self.support is None else {self.name: self.support.to(place)}
        return Targets({f"{self.name}.{signal}": value.detach() for signal, value in said.items()}, known)

    @property
    def _who(self) -> str:
        return f'the teacher "{self.name}"'

    def _columns(self, logits: Tensor) -> Tensor:
        """The model's columns where the data has these labels."""
        if self.order is not None:
            logits = logits[..., self.order.to(logits.device)]
        if self.support is None:
            return logits
        self._check_width(self.support, logits.shape[1], type(self.model).__name__)
        if logits.shape[1] == len(self.support):
            return logits
        wide = logits.new_zeros(len(logits), len(self.support))
        wide[:, self.support.to(logits.device)] = logits
        return wide

    def _check_width(self, support: Tensor, columns: int, what: str) -> None:
        known, labels = int(support.sum()), len(support)
        if columns not in (known, labels):
            raise UsageError(
                f"{self._who} knows {known} of {labels} labels: as many columns are wanted, got {columns} from {what}"
            )
